"""Freed memory is kept, in processes of their own: a C library is told once."""

import json
import os
import platform
import subprocess
import sys

import pytest

from atomjax.runtime.allocator import VARIABLE, keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

# Buffers larger than any that glibc keeps by itself (DEFAULT_MMAP_THRESHOLD_MAX, 32 MiB), on
# two threads, as XLA computes.
PROGRAM = """
import ctypes, json, resource, sys, threading
from atomjax.runtime.allocator import keep_freed_memory

told = keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
SIZE = 48 << 20

def use(times):
    for _ in range(times):
        buffer = library.malloc(SIZE)
        ctypes.memset(buffer, 1, SIZE)
        library.free(buffer)

def on_a_thread(times):
    thread = threading.Thread(target=use, args=(times,))
    thread.start()
    thread.join()

on_a_thread(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
on_a_thread(6)
print(json.dumps([told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


def page_faults(**environment: str) -> tuple[bool, int]:
    """Whether glibc was told, and page faults of six uses of the same 48 MiB."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != VARIABLE}
    kept.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    told, faults = json.loads(done.stdout)
    return told, faults


@glibc
def test_kept_memory_needs_no_new_pages():
    told, kept = page_faults()
    stood_back, taken = page_faults(**{VARIABLE: "0"})
    assert (told, stood_back) == (True, False)
    # Large pages make a fault of 512; each use takes all its pages anew.
    assert taken > 100
    assert kept < taken / 10


@glibc
@pytest.mark.parametrize(
    "own",
    [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}],
)
def test_settings_of_the_user_stay(own):
    assert page_faults(**own)[0] is False


def test_other_libraries_are_left_alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
