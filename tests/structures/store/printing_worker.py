"""A worker process whose reader and library print notes."""

import os
from typing import Any

from atomjax.runtime.subprocesses import serve, tell


def work(request: dict[str, Any]) -> None:
    print("a note of a reader")
    os.write(1, b"a note of a library\n")
    if request["name"] is None:
        raise ValueError("no shard has this name")
    tell(shards=[request["name"]], process=os.getpid())


if __name__ == "__main__":
    serve(work, ValueError)
