"""Kills of running workflows at random moments, and what is there when they have gone on."""
