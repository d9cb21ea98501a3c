"""Compiled programs are found again, bounded, and no harm when damaged."""

import os
import subprocess
import sys
from pathlib import Path

from atomjax.runtime import compile_cache
from atomjax.runtime.compile_cache import prune

CODE = """
import jax
from atomjax.runtime import compile_cache
compile_cache.keep_compiled_programs({})
print(jax.jit(lambda x: (x * 2).sum())(jax.numpy.arange(7.0)))
"""


def run(home: Path, argument: str = "", **more: str) -> str:
    environment = {**os.environ, "HOME": str(home), **more}
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        if name not in more:
            environment.pop(name, None)
    made = subprocess.run(
        [sys.executable, "-c", CODE.format(argument)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout == "42.0\n"
    return made.stderr


def test_programs_are_kept_for_all_runs_of_a_user(tmp_path):
    folder = tmp_path / ".cache" / "atomjax" / "compiled"
    run(tmp_path)
    entries = {path: path.read_bytes() for path in folder.glob("*-cache")}
    assert entries
    # What a kill left half-written is compiled anew.
    for path, content in entries.items():
        path.write_bytes(content[: len(content) // 2])
    run(tmp_path)
    run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert list((tmp_path / "own").glob("*-cache"))


def test_nothing_is_kept_where_that_is_asked_or_cannot_be(tmp_path):
    run(tmp_path, '"none"')
    assert not (tmp_path / ".cache").exists()
    (tmp_path / ".cache").write_text("no folder")
    run(tmp_path)


def test_what_was_used_longest_ago_goes(tmp_path, monkeypatch):
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert prune(tmp_path, 25) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]
    monkeypatch.setattr(compile_cache, "MOST_ENTRIES", 1)
    assert prune(tmp_path, 25) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
