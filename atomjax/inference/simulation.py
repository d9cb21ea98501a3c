"""Simulations with ASE of many structures at a time, predicted in batches."""

import contextlib
import inspect
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from atomjax.data.given import Source, structures_of
from atomjax.inference.calculator import SLACK, AtomjaxCalculator
from atomjax.inference.ensemble import EnsemblePredictor
from atomjax.inference.predict import Predictor
from atomjax.runtime.progress import live_display
from atomjax.structures import Structure
from atomjax.structures.readers import StructureFile, to_atoms
from atomjax.structures.store import Store
from atomjax.training.running.results import StructureResult

# Ratio between the sizes of batches, each of which has a compiled program.
_RATIO = 4
# Sources that are one thing, though some can be iterated over.
_SINGLE = (str, os.PathLike, Atoms, Structure, Store, StructureFile, Mapping)


class SimulationStoppedError(BaseException):
    """The simulation of a structure was stopped because another one failed.

    Not an `Exception`, so that simulations that go on after errors end, too.
    """


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

    Attributes:
        answered: number of predictions.
    """

    def __init__(
        self,
        make: Callable[..., Predictor | EnsemblePredictor],
        count: int,
        at_once: int,
        dataset: str | None = None,
    ):
        self.answered = 0
        self._make, self._dataset = make, dataset
        self._left, self._at_once = count, at_once
        # What is asked, and simulations that have ended.
        self._events: queue.SimpleQueue[Question | Future[Any]] = queue.SimpleQueue()
        self._asked: list[Question] = []
        # Held while a question is put, so that none comes after the last ones were refused.
        self._open, self._stopped = threading.Lock(), False

    def ask(self, index: int, structure: Structure) -> StructureResult:
        """Result of the structure of one simulation, which waits until the others ask, too.

        Raises:
            SimulationStoppedError: another simulation failed.
        """
        question = Question(index, structure)
        with self._open:
            if self._stopped:
                raise SimulationStoppedError("another simulation failed")
            self._events.put(question)
        return question.result.result()

    def end(self, simulation: Future[Any]) -> None:
        """Count a simulation as ended."""
        self._events.put(simulation)

    def serve(self, told: Callable[[int], None]) -> None:
        """Predict in batches of all simulations that run, until all have ended.

        Args:
            told: called with 1 whenever one has ended.

        Raises:
            BaseException: what a simulation or a prediction raised.
        """
        while self._left:
            event = self._events.get()
            if isinstance(event, Future):
                self._left -= 1
                event.result()
                told(1)
            else:
                self._asked.append(event)
            if self._asked and len(self._asked) >= min(self._at_once, self._left):
                self._predict()

    def stop(self) -> None:
        """End the simulations that still run, at their next step."""
        with self._open:
            self._stopped = True
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if isinstance(event, Question):
                    self._asked.append(event)
        for question in self._asked:
            # An interruption may come while results are handed out.
            if not question.result.done():
                question.result.set_exception(SimulationStoppedError("another simulation failed"))

    def _predict(self) -> None:
        size = 1
        while size < len(self._asked):
            size *= _RATIO
        # Threads ask in any order; batches are the same in every run.
        asked = sorted(self._asked, key=lambda question: question.index)
        predictor = self._make(batch_size=min(size, self._at_once), slack=SLACK)
        found = predictor([question.structure for question in asked], self._dataset)
        self.answered += len(asked)
        for question, result in zip(asked, found, strict=True):
            question.result.set_result(result)
        self._asked.clear()


@dataclass(frozen=True)
class Seat:
    """Predictor of the calculator of one simulation; a copy of it is the same one."""

    shared: SharedPredictor
    index: int

    def __call__(
        self, structures: Sequence[Structure], dataset: str | None = None
    ) -> list[StructureResult]:
        """Results of the structure, in a list."""
        return [self.shared.ask(self.index, structure) for structure in structures]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "the calculator of a simulation lives in its thread and cannot be pickled: take "
            "model.calculator(), or pickle the atoms that model.simulate returns"
        )


def atoms_of(source: Source, **options: Any) -> list[Atoms]:
    """Atoms of a source; `ase.Atoms` among it are taken as they are, velocities included.

    Arguments and errors are those of :func:`structures_of`; options are for the rest of it.
    """
    items: Iterable[Any] = [source]
    if isinstance(source, Iterable) and not isinstance(source, _SINGLE):
        items = source
    atoms: list[Atoms] = []
    for item in items:
        if not isinstance(item, Atoms):
            atoms += [to_atoms(one) for one in structures_of(item, outdated="drop", **options)]
        elif options:
            raise ValueError(
                f"ase.Atoms are simulated as they are, in Å; {', '.join(options)} is for files"
            )
        else:
            atoms.append(item)
    if not atoms:
        raise ValueError("there are no structures: the list is empty")
    return atoms


def simulate(
    make: Callable[..., Predictor | EnsemblePredictor],
    atoms: Sequence[Atoms],
    run: Callable[[Atoms], Any],
    dataset: str | None,
    at_once: int,
    use_tags: bool,
    progress: bool,
) -> list[Atoms]:
    """Copies of structures after a simulation of each; see `atomjax.inference.model.Model`."""
    if not isinstance(at_once, int) or at_once < 1:
        raise ValueError(f"at_once={at_once!r}: give the number of structures, at least 1")
    make(batch_size=1, slack=SLACK).head(dataset)
    copies = [one.copy() for one in atoms]
    shared = SharedPredictor(make, len(copies), at_once, dataset)

    def simulate_one(index: int) -> None:
        one = copies[index]
        one.calc = AtomjaxCalculator(Seat(shared, index), use_tags=use_tags)
        try:
            if inspect.isgenerator(run(one)):
                raise TypeError("run is a generator, which runs nothing: call BFGS(atoms).run()")
            _keep_results(one)
        except Exception as error:
            error.add_note(f"in the simulation of structure {index}, {one.symbols}")
            raise

    display = live_display(progress).track(len(copies), "simulating")
    pool = ThreadPoolExecutor(at_once, "simulation")
    try:
        with display as tracker:
            for index in range(len(copies)):
                pool.submit(simulate_one, index).add_done_callback(shared.end)
            shared.serve(tracker.advance)
    finally:
        # Before threads are waited for: those that ask for results would wait for ever.
        shared.stop()
        pool.shutdown(cancel_futures=True)
    if not shared.answered:
        raise ValueError(
            "run has asked for no energies or forces: it is called with atoms, and has to simulate "
            "them, as in lambda atoms: BFGS(atoms).run(fmax=0.05)"
        )
    return copies


def _keep_results(atoms: Atoms) -> None:
    """Exchange the calculator for its last results, if they are those of the atoms as they are."""
    calculator = atoms.calc
    atoms.calc = None
    if not isinstance(calculator, AtomjaxCalculator) or not calculator.results:
        return
    if not calculator.check_state(atoms):
        kept = SinglePointCalculator(atoms)
        # Standard deviations of an ensemble are among them, which its arguments cannot be.
        kept.results.update(calculator.results)
        atoms.calc = kept
