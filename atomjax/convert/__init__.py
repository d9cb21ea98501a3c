"""Conversion of published PyTorch checkpoints, and back, without PyTorch."""
