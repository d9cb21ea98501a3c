"""Benchmarks that are compiled side by side and measured one after the other.

Time on a lent accelerator is dear, compilation takes most of it and does not use the device. So
``python -m benchmarks.all --together`` starts its parts at once; each waits here until its programs
are compiled, and then for its turn.
"""

import os
import time
from pathlib import Path

FOLDER = "ATOMJAX_BENCHMARK_TURNS"
# Seconds between two looks.
PAUSE = 0.02


def wait_for_turn() -> None:
    """Says that this process is ready to measure, and waits for its turn; done once, it is kept."""
    folder = os.environ.get(FOLDER)
    if folder is None or (Path(folder) / f"{os.getpid()}.turn").exists():
        return
    (Path(folder) / f"{os.getpid()}.ready").touch()
    while not (Path(folder) / f"{os.getpid()}.turn").exists():
        time.sleep(PAUSE)


def is_ready(folder: Path, pid: int) -> bool:
    """Whether a process waits for its turn."""
    return (folder / f"{pid}.ready").exists()


def give_turn(folder: Path, pid: int) -> None:
    """Lets a process measure."""
    (folder / f"{pid}.turn").touch()
