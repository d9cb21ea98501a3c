"""Benchmarks: each prints its measurements as ratios, and none is a test."""

from atomjax.runtime.allocator import keep_freed_memory

# As the command line does, so that the times are those that users have.
keep_freed_memory()
