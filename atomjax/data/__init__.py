"""Data sets of a config, and their card."""
