"""A worker process that dies of a bus error while it reads a mapped file."""

import os
import signal
from pathlib import Path
from typing import Any

from atomjax.runtime.lock import note_reading
from atomjax.runtime.subprocesses import serve


def work(request: dict[str, Any]) -> None:
    note_reading(Path("/data/other.lmdb"))
    note_reading(Path(request["path"]))
    os.kill(os.getpid(), signal.SIGBUS)


if __name__ == "__main__":
    serve(work, ValueError)
