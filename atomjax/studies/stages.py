"""Stages of a run that consists of several trainings, each done once in its own directory."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from atomjax.runtime import processes
from atomjax.runtime.run import Run

Stage = Callable[[Any, Run], dict[str, Any]]
# A stage's own record that it is done; results.json alone may be of an interrupted evaluation.
DONE = "stage.json"


def run_stage(run: Run, name: str, stage: Stage, settings: Any) -> dict[str, Any]:
    """Runs one stage in its own directory, unless it is done.

    Args:
        run: of the study.
        name: of the stage's directory.
        stage: a workflow, such as pretrain or finetune.
        settings: of the stage.

    Returns:
        The stage's results, with "wall_seconds" of the call that finished it.
    """
    child = run.child(name, settings)
    record = child.path(DONE)
    # Network file systems show a file to some hosts before others.
    if processes.from_first(np.asarray(record.exists())):
        run.say(f"{name}: done before, {record}")
        return json.loads(record.read_text())
    run.say(f"\n== {name}")
    began = time.perf_counter()
    try:
        results = stage(settings, child)
    finally:
        child.close()
    results = {**results, "wall_seconds": time.perf_counter() - began}
    child.write_json(DONE, results)
    run.wait_for_all(f"{name} is done")
    return results
