"""Freed memory that the C library keeps for the next step.

A training step takes and frees the same large buffers again and again. glibc takes each from the
operating system and gives it back, which then has to fill every page with zeros anew: hundreds of
thousands of page faults a step. It can be told to keep what was freed (mallopt(3)). All three
settings are needed: the heaps of threads, in which XLA computes, shrink whatever the first two say.
"""

import ctypes
import os

VARIABLE = "ATOMJAX_MALLOC"
# Numbers of the parameters in malloc.h, and their values: no buffer outside the heap, a heap that
# never shrinks, one heap for all threads.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
SETTINGS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory; entry points call it before they take any.

    It changes nothing where there is another C library, where ``ATOMJAX_MALLOC=0``, and where the
    environment holds settings of its own (``MALLOC_*``, ``GLIBC_TUNABLES``).

    Returns:
        Whether the setting was changed.
    """
    environment = os.environ
    own = any(name.startswith("MALLOC_") for name in environment)
    if own or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    if environment.get(VARIABLE) == "0" or os.name != "posix":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    told = [library.mallopt(parameter, value) for parameter, value in SETTINGS]
    return all(told)
