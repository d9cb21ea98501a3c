"""A set as tasks, whose results depend neither on the process nor on the order."""

import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from atomjax.runtime.config import ConfigError, build
from atomjax.structures.generate.errors import GenerateError, LabelError
from atomjax.structures.structure import Structure, StructureError

# Failures after which a task gives up: some, and some more for each structure to make.
FAILURES_ALLOWED = 60
FAILURES_PER_STRUCTURE = 8


@dataclass(frozen=True)
class Task:
    """A share of a set.

    Attributes:
        index: place among the set's tasks; seeds the task's random numbers.
        start: place of its first structure in the set.
        count: number of structures to make.
        subject: description of the systems to make, in the kind's own words.
    """

    index: int
    start: int
    count: int
    subject: str


class Kind(Protocol):
    """Interface of a kind of set; the modules of this package that make sets implement it.

    Attributes:
        Options: dataclass of the kind's options.
        PACKAGES: packages whose versions decide the set.
        LABELS: what the labels are from, options of this name in braces.
    """

    Options: type
    PACKAGES: tuple[str, ...]
    LABELS: str

    def plan(self, options: Any, count: int, seed: int) -> list[tuple[str, int]]:
        """Subjects and the number of structures to make of each, `count` together.

        Raises:
            GenerateError: nothing is left that the options allow.
        """
        ...

    def begin(
        self, subject: str, options: Any, rng: np.random.Generator
    ) -> Callable[[], Structure]:
        """Start a generator: each call of the result draws one structure of `subject`.

        Raises:
            LabelError: this attempt failed; another may not.
        """
        ...


def make_tasks(plan: Sequence[tuple[str, int]]) -> list[Task]:
    """Numbered tasks from a kind's plan; subjects that get nothing are left out."""
    tasks, start = [], 0
    for subject, count in plan:
        if count > 0:
            tasks.append(Task(len(tasks), start, count, subject))
            start += count
    return tasks


def spread(subjects: Sequence[str], count: int, chunk: int) -> list[tuple[str, int]]:
    """`count` structures dealt evenly over subjects, in pieces of at most `chunk`."""
    shares = np.full(len(subjects), count // len(subjects))
    shares[: count % len(subjects)] += 1
    plan = []
    for subject, share in zip(subjects, shares.tolist(), strict=True):
        pieces = -(-share // chunk)
        plan.extend((subject, share // pieces + (i < share % pieces)) for i in range(pieces))
    return plan


def shuffled(subjects: Sequence[str], seed: int) -> list[str]:
    """`subjects` in a seeded order."""
    order = np.random.default_rng([seed, 0x5AB]).permutation(len(subjects))
    return [subjects[int(i)] for i in order]


def produce(
    kind: Kind, name: str, options: Any, seed: int, task: Task
) -> tuple[list[Structure], Counter[str]]:
    """Make one task's structures.

    Returns:
        The structures, and how many attempts were dropped for each reason.

    Raises:
        GenerateError: too many attempts failed.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), task.index])
    allowed = FAILURES_ALLOWED + FAILURES_PER_STRUCTURE * task.count
    dropped: Counter[str] = Counter()
    structures: list[Structure] = []
    draw: Callable[[], Structure] | None = None
    while len(structures) < task.count:
        try:
            if draw is None:
                draw = kind.begin(task.subject, options, rng)
            structure = draw()
        except LabelError as error:
            dropped[error.reason] += 1
        except StructureError:
            dropped["not a possible structure"] += 1
        else:
            identifier = f"{name}:{task.start + len(structures)}"
            structures.append(dataclasses.replace(structure, source=name, identifier=identifier))
        if dropped.total() > allowed:
            reasons = ", ".join(f"{reason}: {n}" for reason, n in dropped.most_common())
            raise GenerateError(
                f"{name}, {task.subject}: gave up after {dropped.total()} failed attempts for"
                f" {len(structures)} of {task.count} structures ({reasons});"
                " loosen the options or leave this subject out"
            )
    return structures, dropped


def options_from(cls: type, values: Mapping[str, Any], kind: str) -> Any:
    """An options dataclass from plain values.

    Raises:
        GenerateError: an unknown name (with the nearest known one), or a wrong type.
    """
    try:
        return build(cls, values, kind)
    except ConfigError as error:
        raise GenerateError(str(error)) from None


def check_range(where: str, pair: tuple[float, ...], lowest: float = 0.0) -> None:
    """Raise GenerateError where `pair` is not (smallest, largest), both at least `lowest`."""
    if len(pair) != 2 or not lowest <= pair[0] <= pair[1]:
        raise GenerateError(
            f"{where} must be (smallest, largest), ordered and from {lowest:g} on, got {pair}"
        )
