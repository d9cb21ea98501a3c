"""Training: from datasets and a model to checkpoints and test errors."""
