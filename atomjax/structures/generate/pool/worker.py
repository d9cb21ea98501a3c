"""A process that makes tasks: one request a line on its input, one answer a line on its output."""

import json
import os
import sys
from typing import Any, TextIO

from atomjax.runtime.allocator import keep_freed_memory
from atomjax.structures.archive import save_archive
from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.kinds import find_kind
from atomjax.structures.generate.pool.tasks import Task, options_from, produce


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Make one task's structures, store them in ``request["path"]``, and report the outcome."""
    kind = find_kind(request["kind"])
    options = options_from(kind.Options, request["options"], request["kind"])
    task = Task(**request["task"])
    try:
        structures, dropped = produce(kind, request["kind"], options, request["seed"], task)
    except GenerateError as error:
        return {"error": str(error)}
    save_archive(request["path"], structures, {"dropped": dict(dropped)})
    return {"made": len(structures)}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


def main() -> None:
    """Serve on this process's own input and output."""
    keep_freed_memory()
    answers = os.fdopen(os.dup(1), "w")
    # Output of libraries must not mix with the answers.
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
