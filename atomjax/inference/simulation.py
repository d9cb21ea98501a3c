"""Simulations with ASE of many structures at a time, predicted in batches."""

import functools
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from atomjax.data.given import Source, structures_of
from atomjax.inference.calculator import SLACK, AtomjaxCalculator
from atomjax.inference.ensemble import EnsemblePredictor
from atomjax.inference.predict import Predictor
from atomjax.runtime.progress import live_display
from atomjax.structures import Structure
from atomjax.structures.readers import to_atoms
from atomjax.training.running.results import StructureResult

# Ratio between the sizes of batches, each of which has a compiled program.
_RATIO = 4


class SimulationStoppedError(RuntimeError):
    """The simulation of a structure was stopped because another one failed."""


@dataclass(frozen=True)
class Question:
    """A structure that a simulation, by its index, has reached, and what is to be its result."""

    index: int
    structure: Structure
    result: "Future[StructureResult]" = field(default_factory=Future)


class SharedPredictor:
    """Predictor of several calculators, each in a thread of its own.

    Args:
        make: makes the predictor of a batch_size and slack.
        count: number of simulations.
        at_once: most simulations that run at a time.
        dataset: data set whose head predicts; may be left out if there is one head.
    """

    def __init__(
        self,
        make: Callable[..., Predictor | EnsemblePredictor],
        count: int,
        at_once: int,
        dataset: str | None = None,
    ):
        self._make, self._dataset = make, dataset
        self._left, self._at_once = count, at_once
        # What is asked, and simulations that have ended.
        self._events: queue.SimpleQueue[Question | Future[Any]] = queue.SimpleQueue()
        self._asked: list[Question] = []

    def ask(
        self, index: int, structures: Sequence[Structure], dataset: str | None = None
    ) -> list[StructureResult]:
        """Results of the structure of one simulation, which waits until the others ask, too.

        Raises:
            SimulationStoppedError: another simulation failed.
        """
        (structure,) = structures
        question = Question(index, structure)
        self._events.put(question)
        return [question.result.result()]

    def end(self, simulation: Future[Any]) -> None:
        """Count a simulation as ended."""
        self._events.put(simulation)

    def serve(self, told: Callable[[int], None]) -> None:
        """Predict in batches of all simulations that run, until all have ended.

        Args:
            told: called with 1 whenever one has ended.

        Raises:
            Exception: what a simulation or a prediction raised.
        """
        while self._left:
            event = self._events.get()
            if isinstance(event, Future):
                self._left -= 1
                event.result()
                told(1)
            else:
                self._asked.append(event)
            if self._asked and len(self._asked) == min(self._at_once, self._left):
                self._predict()

    def stop(self) -> None:
        """End the simulations that still run, at their next step."""
        error = SimulationStoppedError("the simulation of another structure failed")
        while True:
            for question in self._asked:
                question.result.set_exception(error)
            self._asked.clear()
            if not self._left:
                return
            event = self._events.get()
            if isinstance(event, Future):
                self._left -= 1
            else:
                self._asked.append(event)

    def _predict(self) -> None:
        size = 1
        while size < min(len(self._asked), self._at_once):
            size *= _RATIO
        # Threads ask in any order; batches are the same in every run.
        asked = sorted(self._asked, key=lambda question: question.index)
        predictor = self._make(batch_size=min(size, self._at_once), slack=SLACK)
        found = predictor([question.structure for question in asked], self._dataset)
        self._asked.clear()
        for question, result in zip(asked, found, strict=True):
            question.result.set_result(result)


def atoms_of(source: Source, **options: Any) -> list[Atoms]:
    """Atoms of a source; those given as such, without options, keep velocities and constraints.

    Arguments and errors are those of :func:`structures_of`.
    """
    items = [source] if isinstance(source, Atoms) else source
    if isinstance(items, list) and not options:
        atoms = [one for one in items if isinstance(one, Atoms)]
        if atoms and len(atoms) == len(items):
            return atoms
    return [to_atoms(one) for one in structures_of(source, outdated="drop", **options)]


def simulate(
    make: Callable[..., Predictor | EnsemblePredictor],
    atoms: Sequence[Atoms],
    run: Callable[[Atoms], Any],
    dataset: str | None,
    at_once: int,
    use_tags: bool,
    progress: bool,
) -> list[Atoms]:
    """Copies of structures after a simulation of each; see `atomjax.inference.model.Model`.

    Args:
        make: makes the predictor of a batch_size and slack.
        atoms: the structures.
        run: simulation of one of them.
        dataset: data set whose head predicts; may be left out if there is one head.
        at_once: most that are simulated at a time.
        use_tags: whether tags mean what they did in training.
        progress: show a bar.
    """
    if at_once < 1:
        raise ValueError(f"at_once {at_once}: give at least 1")
    make(batch_size=1, slack=SLACK).head(dataset)
    copies = [one.copy() for one in atoms]
    shared = SharedPredictor(make, len(copies), at_once, dataset)

    def simulate_one(index: int) -> None:
        one = copies[index]
        one.calc = AtomjaxCalculator(functools.partial(shared.ask, index), use_tags=use_tags)
        try:
            run(one)
        except Exception as error:
            error.add_note(f"in the simulation of structure {index}, {one.symbols}")
            raise
        _keep_results(one)

    display = live_display(progress).track(len(copies), "simulating")
    with display as tracker, ThreadPoolExecutor(at_once, "simulation") as pool:
        simulations = [pool.submit(simulate_one, index) for index in range(len(copies))]
        for simulation in simulations:
            simulation.add_done_callback(shared.end)
        try:
            shared.serve(tracker.advance)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            shared.stop()
    return copies


def _keep_results(atoms: Atoms) -> None:
    """Exchange the calculator for its last results, if they are those of the atoms as they are."""
    calculator = atoms.calc
    atoms.calc = None
    if calculator is not None and calculator.results and not calculator.check_state(atoms):
        known = {k: v for k, v in calculator.results.items() if k in all_properties}
        atoms.calc = SinglePointCalculator(atoms, **known)
