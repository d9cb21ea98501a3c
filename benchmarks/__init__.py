"""Benchmarks: each prints what it measured as ratios, and none is a test."""
