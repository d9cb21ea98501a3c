"""The loss of process 0, as the others hear of it.

Process 0 serves the table that the processes of a run share. JAX's client of it ends a process that
loses the connection with a stack trace; here it ends with a message.
"""

import contextlib
import ctypes
import functools
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

_TRIES = 50
_HANDLER = ctypes.CFUNCTYPE(None)
# Functions that C++ calls have to outlive their use.
_kept: list[Any] = []


@contextlib.contextmanager
def errors_told_to(lost: Callable[[str], Any]) -> Iterator[None]:
    """Has a client of ``jax.distributed`` that is made within report its errors.

    JAX has no option for it, and jaxlib a callback that it cannot call with the status that it has:
    the conversion fails, which ends a C++ program by its terminate handler. So both are ours, the
    callback for a jaxlib that can. Where there is no libstdc++, nothing changes.

    Args:
        lost: takes the reason, and ends a process that is in a run; called from any thread.
    """
    from jax._src import distributed
    from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

    try:
        set_handler = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
    except (OSError, AttributeError):
        yield
        return
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    library: Any = _jax
    make = library.get_distributed_runtime_client

    def terminate() -> None:
        # Other uncaught exceptions of C++ come here too.
        if not _is_served(distributed.global_state.coordinator_address):
            lost("the connection to it broke")
        ctypes.cast(previous, _HANDLER)()

    handler = _HANDLER(terminate)
    previous = set_handler(ctypes.cast(handler, ctypes.c_void_p))
    _kept.append(handler)

    def report(status: object) -> None:
        lost(str(status).partition("\n")[0])

    library.get_distributed_runtime_client = functools.partial(
        make, missed_heartbeat_callback=report
    )
    try:
        yield
    finally:
        library.get_distributed_runtime_client = make


def _is_served(address: str | None) -> bool:
    """Whether somebody still listens at "host:port"; a process that dies stops within moments."""
    host, _, port = (address or "").rpartition(":")
    for _ in range(_TRIES):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, ValueError):
            return False
        time.sleep(0.1)
    return True
