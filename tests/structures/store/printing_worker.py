"""A worker process whose reader and library print notes."""

import os
from typing import Any

from atomjax.structures.store.processes import serve, tell


def work(request: dict[str, Any]) -> None:
    print("a note of a reader")
    os.write(1, b"a note of a library\n")
    tell(shards=[request["name"]])


if __name__ == "__main__":
    serve(work, ValueError)
