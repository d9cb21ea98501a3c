"""Dependence of a distance on the orientations of a set's structures."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from atomjax.reporting.drawing import COLORS, Note, Plot
from atomjax.structures import Structure
from atomjax.structures.generate.geometry import random_rotation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RotatedStructures(Sequence[Structure]):
    """Structures, each turned by a random rotation of its own when it is read.

    Positions, cell, forces and stress turn; energies and other scalars are untouched, so the
    physics is the same. Only the rotations are kept in memory.

    Args:
        structures: the set.
        seed: seed of the rotations, which are uniform.
    """

    def __init__(self, structures: Sequence[Structure], seed: int = 0):
        rng = np.random.default_rng(seed)
        self._structures = structures
        self._turns = [random_rotation(rng) for _ in range(len(structures))]

    def __len__(self) -> int:
        return len(self._structures)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Structure]: ...
    def __getitem__(self, index: int | slice) -> Structure | Sequence[Structure]:
        """One turned structure, or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        structure, turn = self._structures[index], self._turns[index]
        return dataclasses.replace(
            structure,
            positions=structure.positions @ turn,
            cell=structure.cell @ turn,
            forces=None if structure.forces is None else structure.forces @ turn,
            stress=None if structure.stress is None else turn.T @ structure.stress @ turn,
        )


def rotate_structures(structures: Iterable[Structure], seed: int = 0) -> RotatedStructures:
    """Structures turned at random; see :class:`RotatedStructures`."""
    given = structures if isinstance(structures, Sequence) else list(structures)
    return RotatedStructures(given, seed)


@dataclasses.dataclass(frozen=True)
class OrientationTest:
    """Distances of one set, as it is and rotated at random several times.

    Attributes:
        stored: the distance with the structures as they are stored.
        rotated: distances with the structures of the upstream set rotated.
    """

    stored: float
    rotated: Sequence[float]

    @property
    def ratio(self) -> np.ndarray:
        """Rotated over stored distances; ones where orientation does not matter."""
        return np.asarray(self.rotated) / self.stored


def orientation_plot(task: str, tests: Mapping[str, Mapping[str, OrientationTest]]) -> Plot:
    """The ratios of rotated to stored distances.

    Args:
        task: the downstream set.
        tests: upstream set → kind of features → distances.
    """
    return Plot(
        name=f"orientation_{task}",
        caption=f"Distance to {task} with the structures of a set turned at random, over that as "
        "they are stored; 1 where orientation does not matter.",
        panels=[functools.partial(_draw, tests=tests)],
        width=2.5 + 1.5 * len(tests),
    )


def _draw(ax: "Axes", tests: Mapping[str, Mapping[str, OrientationTest]]) -> list[Note]:
    notes = []
    kinds = list(dict.fromkeys(kind for kinds in tests.values() for kind in kinds))
    for place, (kind, color) in enumerate(zip(kinds, COLORS, strict=False)):
        shift = 0.2 * (place - (len(kinds) - 1) / 2)
        for x, (name, by_kind) in enumerate(tests.items()):
            if kind in by_kind:
                ratio = by_kind[kind].ratio
                label = kind if x == 0 else None
                ax.scatter(np.full(len(ratio), x + shift), ratio, s=14, color=color, label=label)
                notes += [Note(f"{name}, {kind}\n{r:.4g}", x + shift, r) for r in ratio.tolist()]
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xticks(range(len(tests)), list(tests))
    ax.set(ylabel="distance of the rotated set / as stored", xlabel="upstream set")
    ax.legend(frameon=False)
    return notes
