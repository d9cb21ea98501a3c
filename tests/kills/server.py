"""A process that has imported everything, from which commands are forked.

Says whether its shared memory is its own ("alone"). Reads a JSON list a line, the log and the
command, and answers with the number of the process, then with its exit status. The forked process
is as ``python -m`` would have started it.
"""

import ctypes
import json
import os
import runpy
import signal
import sys

import grain  # noqa: F401
import optax  # noqa: F401
import orbax.checkpoint  # noqa: F401
import tensorboardX  # noqa: F401

import atomjax.inference.feature_files
import atomjax.inference.predict
import atomjax.similarity.workflow.job
import atomjax.structures.store
import atomjax.studies.transfer  # noqa: F401

_NEW_NAMESPACE, _RECURSIVE, _PRIVATE = 0x20000, 0x4000, 0x40000


def main() -> None:
    """Serves commands; in the process of a command it returns when that has ended."""
    print("alone" if have_shared_memory_alone() else "with others", flush=True)
    for line in sys.stdin:
        log, module, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(log)
            sys.argv[1:] = arguments
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(log: str) -> None:
    # A session of its own, by which all its processes are found.
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


def have_shared_memory_alone() -> bool:
    """Gives this process and those that it starts a shared memory of their own, where allowed."""
    system = ctypes.CDLL(None)
    return (
        system.unshare(_NEW_NAMESPACE) == 0
        and system.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None) == 0
        and system.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, None) == 0
    )


if __name__ == "__main__":
    main()
