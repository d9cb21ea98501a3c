"""A process that makes tasks of a set."""

from typing import Any

from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.subprocesses import serve, tell
from atomjax.structures.archive import save_archive
from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.kinds import find_kind
from atomjax.structures.generate.pool.tasks import Task, options_from, produce


def work(request: dict[str, Any]) -> None:
    """Make one task's structures and store them in ``request["path"]``."""
    kind = find_kind(request["kind"])
    options = options_from(kind.Options, request["options"], request["kind"])
    task = Task(**request["task"])
    structures, dropped = produce(kind, request["kind"], options, request["seed"], task)
    save_archive(request["path"], structures, {"dropped": dict(dropped)})
    tell(made=len(structures))


if __name__ == "__main__":
    keep_freed_memory()
    serve(work, GenerateError)
