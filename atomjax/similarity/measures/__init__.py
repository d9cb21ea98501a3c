"""Distances between sets of features, and the statistics that they need."""
