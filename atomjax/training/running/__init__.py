"""The steps of a run: loop, validation, checkpoints, records."""
