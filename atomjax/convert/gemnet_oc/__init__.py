"""GemNet-OC checkpoints of JMP and fairchem to atomjax and back."""
