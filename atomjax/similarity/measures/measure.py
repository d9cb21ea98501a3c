"""Definition of a measure of the nearness of data sets; CONTRIBUTING.md shows how to add one.

Comparison, report, figures and survey go through the measures that a config names and use each
only through :class:`Measure`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.summaries import Summary
from atomjax.similarity.measures.resampling import Distance, Drawable, whole

Sets = Sequence[SetFeatures]


@dataclass(frozen=True)
class Parts:
    """The value of one pair, made up of those of parts that both sets have, such as elements."""

    distance: Mapping[str, float]  # part → value within it
    share: Mapping[str, float]  # part → fraction of the downstream atoms, all parts
    unseen: tuple[str, ...]  # parts of the downstream set that the upstream set does not have

    @property
    def unseen_share(self) -> float:
        """Fraction of the downstream atoms in parts that the upstream set does not have."""
        return sum(self.share[part] for part in self.unseen)

    @property
    def mean_distance(self) -> float:
        """Value within parts, weighted by the downstream atoms of the shared ones.

        NaN where the sets share none.
        """
        weight = sum(self.share[part] for part in self.distance)
        total = sum(self.share[part] * value for part, value in self.distance.items())
        return total / weight if weight else float("nan")


@dataclass(frozen=True)
class Values:
    """Values of a measure for K upstream and M downstream sets."""

    distance: np.ndarray  # [K, M]
    # Name → [K, M] of the terms that it is the sum of, columns of ``csi.csv``.
    terms: Mapping[str, np.ndarray] = field(default_factory=dict)
    parts: Mapping[tuple[int, int], Parts] = field(default_factory=dict)  # (k, m) → its parts


@dataclass(frozen=True)
class Resampling:
    """Resampling of blocks of structures: for intervals, noise floors and "clear"."""

    blocks: Callable[[SetFeatures], Drawable]  # blocks to draw; see ``measures.resampling``
    distance: Distance  # choices of blocks → distances, on features that may be projected
    # Whether intervals are about the value of infinitely many structures, or at this number.
    about_infinite: bool = True
    largest: float = np.inf  # value that is never exceeded


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure; ``table``, ``parts`` or ``resampling`` computes its values, in this order."""

    name: str  # name in configs and of its column
    label: str  # name in reports and figures
    about: str = ""  # a sentence or two on its unit and meaning, for reports
    near: Literal["small", "large"] = "small"  # values that mean near
    symmetric: bool = True  # whether exchanging the two sets leaves it as it is
    # Its needs beside moments, block sums and moments by element, which all sets have.
    needs: tuple[Summary, ...] = ()
    rows: Literal["any", "atoms"] = "any"  # "atoms": only where every row is one
    table: Callable[[Sets, Sets], Values] | None = None  # K and M sets → values
    parts: Callable[[SetFeatures, SetFeatures], Parts] | None = None  # upstream, downstream
    parts_name: str = "part"  # noun for one of the parts, singular
    resampling: Resampling | None = None  # None: neither interval nor floor
    extrapolates: bool = False  # whether its bias is inversely proportional to the structures
    # A downstream set → value of a single point at its mean: beyond it nothing is near.
    limit: Callable[[SetFeatures], float] | None = None

    def __post_init__(self):
        if self.table is None and self.parts is None and self.resampling is None:
            raise ValueError(
                f'measure "{self.name}" computes nothing; give table, parts or resampling'
            )

    @property
    def sign(self) -> int:
        """1 where small is near, -1 where large is: times it, values grow with the distance."""
        return 1 if self.near == "small" else -1

    @property
    def only_moments(self) -> bool:
        """True where it follows from the moments of all features, as those of mixtures do too."""
        return self.table is not None and not self.needs and self.rows == "any"

    def suits(self, features: SetFeatures) -> bool:
        """Check that the features of a set are of the kind that it compares."""
        return self.rows == "any" or bool(features.elements)

    def tabulate(self, upstream: Sets, downstream: Sets) -> Values:
        """Values of K upstream and M downstream sets.

        Raises:
            ValueError: a set was collected without what is needed, or with another extractor.
        """
        for features in (*upstream, *downstream):
            if missing := features.missing(self.needs):
                raise ValueError(
                    f'"{self.label}" needs the summaries {", ".join(missing)}, which the features '
                    f"of a set lack; collect them with summaries={[s.name for s in self.needs]}"
                )
        if self.table is not None:
            return self.table(upstream, downstream)
        places = list(np.ndindex(len(upstream), len(downstream)))
        shape = len(upstream), len(downstream)
        if self.parts is not None:
            parts = {(i, j): self.parts(upstream[i], downstream[j]) for i, j in places}
            distance = np.array([parts[place].mean_distance for place in places])
            return Values(distance.reshape(shape), parts=parts)
        assert self.resampling is not None
        drawn = [
            [whole(self.resampling.blocks(s)) for s in side] for side in (upstream, downstream)
        ]
        distance = [self.resampling.distance(drawn[0][i], drawn[1][j])[0] for i, j in places]
        return Values(np.array(distance, float).reshape(shape))
