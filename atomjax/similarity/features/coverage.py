"""Fraction of a set's classes that a sample covers, as in Fig. 9 of arXiv:2502.11085."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atomjax.reporting.drawing import COLORS, MOST_SHAPES, Note, Plot
from atomjax.reporting.plots import MOST_NOTES, sparse_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Coverage:
    """Classes of a sample beside those of its set.

    Attributes:
        population: [K] structures of each class in the set.
        drawn: [K] structures of each class in the sample, repetitions counted.
        distinct: structures in the sample, repetitions not counted.
    """

    population: np.ndarray
    drawn: np.ndarray
    distinct: int

    @property
    def covered(self) -> int:
        """Classes with at least one structure in the sample."""
        return int((self.drawn > 0).sum())

    @property
    def share(self) -> float:
        """Covered classes over all classes."""
        return self.covered / len(self.population)


def class_coverage(codes: np.ndarray, indices: np.ndarray) -> Coverage:
    """Coverage of a sample.

    Args:
        codes: [n] number of each structure's class, from ``class_codes``.
        indices: the sample, from ``sample``.
    """
    classes = int(codes.max()) + 1
    return Coverage(
        population=np.bincount(codes, minlength=classes),
        drawn=np.bincount(codes[indices], minlength=classes),
        distinct=len(np.unique(indices)),
    )


def coverage_plot(sets: Mapping[str, Mapping[str, Coverage]]) -> Plot:
    """Frequency of each class in the samples, one panel for each set."""
    return Plot(
        name="coverage",
        caption="Structures of each class in the samples; classes that are not covered have none.",
        panels=[functools.partial(_draw, name=name, strategies=one) for name, one in sets.items()],
    )


def _draw(ax: "Axes", name: str, strategies: Mapping[str, Coverage]) -> list[Note]:
    """Draws the sample of one set; the most frequent classes say their numbers."""
    notes = []
    for (strategy, coverage), color in zip(strategies.items(), COLORS, strict=False):
        order = np.argsort(-coverage.population, kind="stable")
        drawn = coverage.drawn[order]
        label = f"{strategy}: {coverage.covered} of {len(order)} classes"
        present = np.flatnonzero(drawn)
        many = len(present) > MOST_SHAPES
        style = {"s": 6, "color": color, "linewidths": 0, "rasterized": many}
        ax.scatter(present, drawn[present], label=label, **style)
        for i in present[:MOST_NOTES].tolist():
            count = int(drawn[i])
            of = coverage.population[order[i]]
            notes.append(Note(f"{strategy}: {count} of {of} structures", i, count))
    ax.set(title=name, xlabel="class, most frequent first", ylabel="structures in the sample")
    ax.set_yscale("log")
    # Plain numbers: few classes have more than ten.
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(sparse_label)
    ax.legend(frameon=False)
    return notes


def describe_coverage(name: str, strategies: Mapping[str, Coverage]) -> Sequence[str]:
    """One line for each strategy."""
    return [
        f"{name}, {strategy}: {c.drawn.sum()} structures ({c.distinct} distinct), "
        f"{c.covered} of {len(c.population)} classes ({c.share:.1%})"
        for strategy, c in strategies.items()
    ]
