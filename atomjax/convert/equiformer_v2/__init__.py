"""EquiformerV2 checkpoints of fairchem to atomjax and back."""
