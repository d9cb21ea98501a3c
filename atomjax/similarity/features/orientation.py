"""How much a distance depends on how the structures of a set happen to be oriented."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from atomjax.reporting.plots import COLORS
from atomjax.structures import Structure
from atomjax.structures.generate.geometry import random_rotation


def rotate_structures(structures: Iterable[Structure], seed: int = 0) -> Iterator[Structure]:
    """Turns every structure by a random rotation of its own: positions, cell and forces.

    Args:
        structures: the set.
        seed: of the rotations, which are uniform.

    Yields:
        The same physics; energies and other scalars are untouched.
    """
    rng = np.random.default_rng(seed)
    for structure in structures:
        turn = random_rotation(rng)
        yield dataclasses.replace(
            structure,
            positions=structure.positions @ turn,
            cell=structure.cell @ turn,
            forces=None if structure.forces is None else structure.forces @ turn,
        )


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


def plot_orientation(tests: Mapping[str, Mapping[str, OrientationTest]], path: Path) -> None:
    """Draws the ratios of rotated to stored distances and writes a PNG.

    Args:
        tests: upstream set → kind of features → distances.
        path: PNG to write.
    """
    # The canvas is named outright: pyplot would look for a display and keep global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 1.5 * len(tests), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    kinds = list(dict.fromkeys(kind for kinds in tests.values() for kind in kinds))
    for place, (kind, color) in enumerate(zip(kinds, COLORS, strict=False)):
        shift = 0.2 * (place - (len(kinds) - 1) / 2)
        for x, by_kind in enumerate(tests.values()):
            if kind in by_kind:
                ratio = by_kind[kind].ratio
                label = kind if x == 0 else None
                ax.scatter(np.full(len(ratio), x + shift), ratio, s=14, color=color, label=label)
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xticks(range(len(tests)), list(tests))
    ax.set(ylabel="CSI of the rotated set / CSI as stored", xlabel="upstream set")
    ax.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
