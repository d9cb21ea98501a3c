"""Parts of a run: computations that each have a folder of their own and are made once.

A part that is done is not done again, one that was interrupted resumes. They are computed one
after the other, or side by side in processes.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.runtime.cluster import processes
from atomjax.runtime.config import ConfigError
from atomjax.runtime.files import json_with_checksum, read_json
from atomjax.runtime.lock import sole_use
from atomjax.runtime.progress import Display, Told, format_seconds
from atomjax.runtime.run import Run
from atomjax.runtime.workers import Outcome, Workers, core_shares

# A part's own record that it is done; results.json alone may be of an interrupted evaluation.
DONE = "stage.json"
LOG = "log.txt"
RECORD_MEND = "delete it; the part then goes on from its last checkpoint"

Compute = Callable[[Any, Run], dict[str, Any]]


class PartError(RuntimeError):
    """Parts that failed, named with their logs."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One computation."""

    name: str  # name of its folder
    settings: Any  # settings of the computation
    after: str | None = None  # name of a part that has to be done before, or None


class Parts:
    """The parts of a run and their records.

    Args:
        plan: records of the parts that are done → all parts that can be named by now, in the order
            in which one process computes them.
        run: receives their folders.
        finished: called after each part.

    Attributes:
        records: name of a part → what its computation returned, with "wall_seconds".
        outdated: name of a part that was done with other settings, which changes of the run's
            configuration leave alone → how those of now differ.
    """

    def __init__(
        self,
        plan: Callable[[Mapping[str, Any]], Sequence[Part]],
        run: Run,
        finished: Callable[[], None],
    ):
        self._plan, self._run, self._finished = plan, run, finished
        self.records: dict[str, dict[str, Any]] = {}
        self.outdated: dict[str, list[str]] = {}
        self._failed: dict[str, str] = {}
        self._planned: tuple[int, Sequence[Part]] = -1, ()
        while self._read_one():
            pass

    @property
    def _parts(self) -> Sequence[Part]:
        """The plan, which is made anew only when more is done."""
        if self._planned[0] != len(self.records):
            self._planned = len(self.records), self._plan(self.records)
        return self._planned[1]

    def _read_one(self) -> bool:
        """Takes the record of a part that was done before; returns whether there was one."""
        for part in self._parts:
            path = self._run.workdir / part.name / DONE
            if part.name in self.records:
                continue
            # Network file systems show a file to some hosts before others.
            if processes.from_first(np.asarray(path.exists())):
                self._take_up(part, path)
                self.records[part.name] = read_json(path, RECORD_MEND)
                return True
        return False

    def _take_up(self, part: Part, path: Path) -> None:
        """Compares a part that was done before with its settings of now."""
        changed = self._run.changes(part.name, part.settings) if self._run.accept_changes else []
        if not changed:
            self._run.child(part.name, part.settings).close()
            self._run.say(f"{part.name}: done before, {path}")
            return
        self.outdated[part.name] = changed
        self._run.say(
            f"{part.name}: done before with other settings, and kept\n  "
            + "\n  ".join(changed)
            + f"\n  To compute it anew, delete {path.parent} and what starts from it."
        )

    def compute(self, compute: Compute, jobs: int = 1) -> None:
        """Computes all parts that are not done.

        Args:
            compute: (settings, run) → results; other processes have to find it in its module.
            jobs: number of parts computed side by side.

        Raises:
            PartError: some failed in other processes; whatever needs none of them is done.
            RunInterrupted: after SIGTERM, with the state saved.
        """
        with contextlib.ExitStack() as stack:
            workers: Workers | None = None
            while True:
                running = workers.running if workers else []
                ready = self._ready(running)
                if not ready and not running:
                    break
                if not running and (jobs == 1 or len(ready) == 1):
                    self._run.say(f"\n== {ready[0].name}")
                    self.records[ready[0].name] = compute_part(compute, self._run, ready[0])
                    self._finished()
                    continue
                if workers is None:
                    # No more than there is work for: each gets its share of the cores for good.
                    count = min(jobs, len(ready))
                    workers = stack.enter_context(Workers(count, self._run.display))
                for part in ready[: workers.free]:
                    log = self._run.workdir / part.name / LOG
                    self._run.say(f"== {part.name} (log: {log})")
                    given = compute, self._run.workdir, self._run.accept_changes, part
                    workers.start(part.name, log, _compute_beside, *given)
                for outcome in workers.wait():
                    self._take(outcome)
        if self._failed:
            failed = "".join(f"\n  {name}: {error}" for name, error in self._failed.items())
            raise PartError(
                f"{len(self._failed)} of {len(self._parts)} parts failed:{failed}\n"
                "The same command goes on with what is not done."
            )

    def _ready(self, running: Sequence[str]) -> list[Part]:
        """Parts that can be computed now."""
        taken = {*self.records, *self._failed, *running}
        return [
            part
            for part in self._parts
            if part.name not in taken and (part.after is None or part.after in self.records)
        ]

    def _take(self, outcome: Outcome) -> None:
        """Records the outcome of a part that another process computed."""
        name, record = outcome.name, outcome.value
        if outcome.error is not None:
            self._failed[name] = f"{outcome.error} (log: {outcome.log})"
            self._run.say(f"{name}: failed, {self._failed[name]}")
            return
        self.records[name] = record
        known = f"{len(self.records)} of {len(self._parts)} parts"
        self._run.say(f"{name}: done in {format_seconds(record['wall_seconds'])}, {known}")
        self._finished()


def compute_part(compute: Compute, run: Run, part: Part) -> dict[str, Any]:
    """Computes one part in its folder; returns its record, as :data:`DONE` holds it."""
    began = time.perf_counter()
    # A worker of an earlier start, whose parent was killed, may still be saving its state.
    with sole_use(run.path(part.name, "part")) if run.primary else contextlib.nullcontext():
        child = run.child(part.name, part.settings)
        try:
            results = compute(part.settings, child)
        finally:
            child.close()
    # Of earlier starts, a training's own seconds tell.
    seconds = max(time.perf_counter() - began, float(results.get("seconds", 0.0)))
    record = {**results, "wall_seconds": seconds}
    child.write_text(DONE, json_with_checksum(record))
    run.wait_for_all(f"{part.name} is done")
    return json.loads(json.dumps(record))


def _compute_beside(
    tell: Told, compute: Compute, workdir: Path, accept_changes: bool, part: Part
) -> dict[str, Any]:
    run = Run(workdir, accept_changes=accept_changes)
    run.display = Display(run.display.console, told=tell)
    return compute_part(compute, run, part)


def allowed_jobs(jobs: int) -> int:
    """The number of parts to compute side by side, of which 0 leaves the choice.

    Raises:
        ConfigError: several are asked for where one takes the whole machine.
    """
    import jax

    alone = jax.default_backend() != "cpu" or jax.process_count() > 1
    if jobs > 1 and alone:
        raise ConfigError(
            f"jobs={jobs} is for one process on CPUs; elsewhere one training takes the whole "
            "machine, so give jobs=1"
        )
    return jobs or (1 if alone else len(core_shares(1)[0]) or os.cpu_count() or 1)
