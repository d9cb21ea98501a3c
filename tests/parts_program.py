"""Parts that sleep, so that tests can kill ``python -m tests.parts_program WORKDIR SECONDS``."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from atomjax.runtime.cluster.preemption import Preemption, RunInterrupted
from atomjax.runtime.parts import DONE, Part, Parts
from atomjax.runtime.run import Run
from tests.processes import wait_until

NAMES = ("a", "b", "c")


def compute(settings: dict[str, Any], run: Run) -> dict[str, Any]:
    """Works for some time; saves after SIGTERM, and is done at once where it did so before."""
    print("working on", run.workdir.name)
    if settings.get("fail"):
        raise ValueError("this part fails")
    if settings.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if "until" in settings:
        wait_until((run.workdir.parent / settings["until"] / DONE).exists, seconds=300)
    saved = run.path("saved")
    with Preemption() as preemption, run.progress(100, "working") as tracker:
        run.path("pid").write_text(str(os.getpid()))
        for _ in range(0 if saved.exists() else int(10 * settings.get("seconds", 0))):
            time.sleep(0.1)
            tracker.advance()
            if preemption.requested():
                saved.touch()
                raise RunInterrupted("saved")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {"process": os.getpid(), "cores": cores}


def main(workdir: str, seconds: str) -> None:
    """Two parts side by side, and one more."""
    # Whoever starts the tests in the background hands on that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = {"seconds": float(seconds)}
    parts = Parts(
        lambda _: [Part(name=name, settings=settings) for name in NAMES],
        Run(Path(workdir)),
        lambda: None,
    )
    parts.compute(compute, jobs=2)
    print("all done")


if __name__ == "__main__":
    main(*sys.argv[1:])
