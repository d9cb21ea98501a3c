"""Compiled programs kept for the next run: in one folder of the user, bounded in size."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from atomjax.runtime.files import user_cache

# Entries that were used last are kept, up to so many bytes and files.
MOST_BYTES, MOST_ENTRIES = 4 * 2**30, 20_000
# Its folder in the user's cache.
DIRECTORY = "compiled"


def keep_compiled_programs(directory: str | Path | None = None) -> None:
    """Turn JAX's persistent compilation cache on.

    Programs are found again by all runs of a user; a damaged entry is compiled anew with a warning
    of JAX's. The folder is cut to its bounds here, the entries that were used last staying.

    Args:
        directory: the folder; "none" keeps no programs. None leaves what ``jax.config`` or
            ``JAX_COMPILATION_CACHE_DIR`` say, and else takes the default; where that cannot be
            written, nothing is kept.
    """
    import jax

    if directory == "none":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if directory is None and jax.config.values["jax_compilation_cache_dir"]:
        return
    place = Path(directory or user_cache(DIRECTORY)).expanduser().resolve()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        # A home that is read-only or not there, as on some nodes of clusters.
        if directory is not None:
            raise
        return
    prune(place, MOST_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(place))
    # Reading a program takes a tenth of compiling it even where that is quick, and a start makes
    # hundreds of quick ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def prune(directory: Path, most: int) -> int:
    """Remove the entries that were used longest ago; returns how many bytes stay.

    Args:
        directory: folder of a compilation cache.
        most: bytes to keep, of at most ``MOST_ENTRIES`` files.
    """
    # Another process may remove files at the same time.
    kept = 0
    for i, (_, size, path) in enumerate(sorted(_entries(directory), reverse=True)):
        if kept + size <= most and i < MOST_ENTRIES:
            kept += size
        else:
            path.unlink(missing_ok=True)
    return kept


def _entries(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of last use, bytes and path of each entry."""
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            # File systems that note no reads leave the time of writing.
            if path.is_file():
                yield max(state.st_atime, state.st_mtime), state.st_size, path
