"""Fraction of a set's classes that a sample covers, as in Fig. 9 of arXiv:2502.11085."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atomjax.reporting.plots import COLORS, make_figure, save_figure


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


def plot_coverage(sets: Mapping[str, Mapping[str, Coverage]], path: Path) -> None:
    """Draws how often each class is in the samples, one panel for each set, and writes a PNG.

    Args:
        sets: set → strategy → coverage.
        path: PNG to write.
    """
    figure, axes = make_figure(len(sets))
    for ax, (name, strategies) in zip(axes, sets.items(), strict=True):
        for (strategy, coverage), color in zip(strategies.items(), COLORS, strict=False):
            order = np.argsort(-coverage.population, kind="stable")
            drawn = coverage.drawn[order]
            label = f"{strategy}: {coverage.covered} of {len(order)} classes"
            present = np.flatnonzero(drawn)
            ax.scatter(present, drawn[present], s=4, color=color, label=label, linewidths=0)
        ax.set(title=name, xlabel="class, most frequent first", ylabel="structures in the sample")
        ax.set_yscale("log")
        ax.legend(frameon=False)
    save_figure(figure, path)


def describe_coverage(name: str, strategies: Mapping[str, Coverage]) -> Sequence[str]:
    """One line for each strategy."""
    return [
        f"{name}, {strategy}: {c.drawn.sum()} structures ({c.distinct} distinct), "
        f"{c.covered} of {len(c.population)} classes ({c.share:.1%})"
        for strategy, c in strategies.items()
    ]
