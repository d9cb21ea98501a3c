"""Collection of the statistics of a set from batches of structures.

An extractor is any function that maps a batch to one row of features for each of its atoms: the
node features of a backbone, or descriptors of another kind.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from atomjax.graphs.batch import GraphBatch
from atomjax.runtime.files import DamagedFile, read_npz, write_npz
from atomjax.similarity.features.aggregation import aggregate
from atomjax.similarity.features.structure_sums import StructureSums, StructureSumsBuilder
from atomjax.similarity.features.summaries import (
    Arrays,
    BlockRows,
    Blocks,
    SetRows,
    Summary,
    SummaryCollector,
    arrays_of,
    blocks_of,
)
from atomjax.similarity.measures.statistics import Statistics, merge_all
from atomjax.similarity.measures.stream import StatisticsStream

_aggregate = jax.jit(aggregate, static_argnames="aggregation")

Extractor = Callable[[GraphBatch], jax.Array]
# Features [N, d] and the batch that they were computed from: all of it, or one device's part.
Share = tuple[jax.Array, GraphBatch]
# Rows of a block of an element's statistics: there may be dozens of elements.
ELEMENT_BLOCK = 512
MEND = "delete its folder; the features are then extracted again"
Merge = Callable[[Arrays, Arrays], Arrays]
NUMBERS = ("num_atoms", "num_structures", "weight")
SUMS = ("counts", "sums", "products", "center", "structures")


@dataclasses.dataclass(frozen=True)
class SetFeatures:
    """Statistics of the features of a set, of d features, or q projected ones.

    Attributes:
        parts: statistics of disjoint parts of the set, its blocks dealt to them in turn; d.
        structures: sums over each block: a structure, or a group that is drawn as a whole; q.
        elements: atomic number → statistics of the features of its atoms; q. Empty unless every
            atom is a row.
        num_atoms: number of atoms in all structures.
        num_structures: number of structures, each counted once, whatever its weight.
        weight: sum of the weights of the structures; their number where they have none.
        summaries: name → arrays kept for measures that need more than the above.
        blocks: name → the same of every block, for summaries kept by block.
    """

    parts: tuple[Statistics, ...]
    structures: StructureSums
    elements: Mapping[int, Statistics]
    num_atoms: int
    num_structures: int
    weight: float
    summaries: Mapping[str, Arrays] = dataclasses.field(default_factory=dict)
    blocks: Mapping[str, Blocks | BlockRows] = dataclasses.field(default_factory=dict)

    def statistics(self) -> Statistics:
        """Statistics of the whole set, of d features."""
        return merge_all([part for part in self.parts if int(part.count)])

    def missing(self, summaries: Iterable[Summary]) -> list[str]:
        """Names of the summaries that were not kept."""
        return [s.name for s in summaries if s.name not in {**self.summaries, **self.blocks}]

    def grouped(self, most: int) -> "SetFeatures":
        """The same with at most so many blocks, which are drawn together then.

        Args:
            most: a multiple of the number of parts, whose blocks stay theirs.
        """
        if len(self.structures) <= most:
            return self

        def summed(array: np.ndarray) -> np.ndarray:
            return np.stack([array[i::most].sum(axis=0) for i in range(most)])

        return dataclasses.replace(
            self,
            structures=self.structures.blockwise(summed),
            blocks={name: one.blockwise(summed) for name, one in self.blocks.items()},
        )

    def joined(self, other: "SetFeatures", merges: Mapping[str, Merge]) -> "SetFeatures":
        """The features of both sets as one, of as many parts.

        Args:
            other: collected with the same extractor, parts, projection and summaries.
            merges: name of a summary that is not kept by block → the function that merges it.
        """
        parts, offset = len(self.parts), len(self.structures)
        # Block number i of a set lies in part i modulo their number.
        turned = [other.parts[(i - offset) % parts] for i in range(parts)]
        sides = self.elements, other.elements
        elements = sorted({*self.elements, *other.elements})
        following: Mapping[str, Any] = other.blocks
        return SetFeatures(
            parts=tuple(map(_merged, zip(self.parts, turned, strict=True))),
            structures=self.structures.joined(other.structures),
            elements={z: _merged(side[z] for side in sides if z in side) for z in elements},
            num_atoms=self.num_atoms + other.num_atoms,
            num_structures=self.num_structures + other.num_structures,
            weight=self.weight + other.weight,
            summaries={n: merges[n](a, other.summaries[n]) for n, a in self.summaries.items()},
            blocks={name: one.joined(following[name]) for name, one in self.blocks.items()},
        )

    def thinned(self, count: int) -> list["SetFeatures"]:
        """Its parts, and the summaries by block, as ``count`` disjoint sets.

        Nothing follows from parts of which one is empty; then it is the whole set, so often.
        """
        size = len(self.parts) // count
        if not all(int(part.count) for part in self.parts):
            return [self] * count
        owner = np.arange(len(self.structures)) % len(self.parts) // size
        return [
            dataclasses.replace(
                self,
                parts=self.parts[i * size : (i + 1) * size],
                structures=self.structures.blockwise(lambda array, i=i: array[owner == i]),
                blocks={
                    name: one.blockwise(lambda array, i=i: array[owner == i])
                    for name, one in self.blocks.items()
                },
                elements={},
                summaries={},
            )
            for i in range(count)
        ]


def rows_of(
    shares: Sequence[Share], aggregation: str, weights: np.ndarray | None = None
) -> SetRows:
    """Real rows of a batch, in the order of the structures in their data set.

    That order does not depend on the division of a batch, so neither do the statistics.

    Args:
        shares: features and batches of the devices.
        aggregation: rule that makes rows of atoms.
        weights: [S] weights of the structures of the data set; None gives every row weight 1.

    Raises:
        ValueError: features have the wrong shape.
    """
    parts: list[dict[str, np.ndarray]] = []
    for features, batch in shares:
        rows = jax.device_get(_aggregate(features, batch, aggregation))
        mask, targets = np.asarray(rows.mask), jax.device_get(batch.targets)
        owner = rows.structure[mask]
        part = {
            "values": rows.values[mask],
            "structure": targets.structure[owner],
            "energy": np.where(targets.energy_mask, targets.energy, np.nan)[owner],
            "atomic_numbers": np.zeros(0, np.int32),
            "forces": np.zeros((0, 3)),
        }
        if aggregation == "flat":
            part["atomic_numbers"] = np.asarray(batch.atomic_numbers)[mask]
            known = targets.force_mask[:, None]
            part["forces"] = np.where(known, targets.forces, np.nan)[mask]
        parts.append(part)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    place = arrays["structure"]
    counted = np.ones(len(place)) if weights is None else weights[place]
    return SetRows(**arrays, weights=counted).take(np.argsort(place, kind="stable"))


@dataclasses.dataclass(frozen=True)
class Design:
    """Weights and blocks of the structures of a set.

    Attributes:
        weights: [S] weight of each structure.
        blocks: [S] block that it is kept in, and drawn with.
    """

    weights: np.ndarray
    blocks: np.ndarray


class FeatureCollector:
    """Takes in features batch by batch; memory depends on the width and on the blocks.

    d² float64 numbers for every part, q² for every element, and q²/2 for every block.

    Args:
        aggregation: rule that makes rows of atoms; see :func:`aggregate`.
        parts: number of parts; four allow extrapolation to infinite sets.
        projection: [d, q] from :func:`random_projection`, or None to keep all d features.
        design: weights and blocks of the set; None makes every structure a block, in the order in
            which they come, with weight 1.
        summaries: further needs of measures.
    """

    def __init__(
        self,
        aggregation: str = "flat",
        parts: int = 4,
        projection: np.ndarray | None = None,
        design: Design | None = None,
        summaries: Sequence[Summary] = (),
    ):
        self._aggregation = aggregation
        self._projection, self._design = projection, design
        self._num_parts = parts
        self._streams: list[StatisticsStream] = []
        self._structures = StructureSumsBuilder(projection)
        self._elements: dict[int, StatisticsStream] = {}
        self._summaries = [SummaryCollector(one) for one in summaries]
        self._seen = self._atoms = 0

    def add(self, *shares: Share) -> None:
        """Takes in the features of a batch, whole or in the shares of several devices.

        Raises:
            ValueError: they have the wrong shape, or are not finite.
        """
        design = self._design
        rows = rows_of(shares, self._aggregation, None if design is None else design.weights)
        values, weights = rows.values, None if design is None else rows.weights
        if design is None:
            block = self._seen + np.unique(rows.structure, return_inverse=True)[1]
        else:
            block = design.blocks[rows.structure]
        if not self._streams:
            width = values.shape[1]
            self._streams = [StatisticsStream(width) for _ in range(self._num_parts)]
        for i, stream in enumerate(self._streams):
            inside = block % self._num_parts == i
            stream.add(values[inside], None if weights is None else weights[inside])
        self._structures.add(values, block, weights)
        if self._aggregation == "flat":
            self._add_elements(values, weights, rows.atomic_numbers)
        for collector in self._summaries:
            collector.add(rows, block)
        for _, batch in shares:
            self._seen += int(np.asarray(batch.graph_mask).sum())
            self._atoms += int(np.asarray(batch.node_mask).sum())

    def result(self) -> SetFeatures:
        """The collected statistics; raises ValueError where no structure was added."""
        sums = self._structures.result()
        if self._design is not None:
            sums = dataclasses.replace(sums, structures=np.bincount(self._design.blocks))
        return SetFeatures(
            structures=sums,
            parts=tuple(stream.result() for stream in self._streams),
            elements={z: stream.result() for z, stream in sorted(self._elements.items())},
            num_atoms=self._atoms,
            num_structures=self._seen,
            weight=float(self._seen if self._design is None else self._design.weights.sum()),
            summaries={
                c.summary.name: c.result() for c in self._summaries if not c.summary.by_block
            },
            blocks={
                c.summary.name: blocks_of(c.result(), sums.structures)
                for c in self._summaries
                if c.summary.by_block
            },
        )

    def _add_elements(
        self, values: np.ndarray, weights: np.ndarray | None, atomic_numbers: np.ndarray
    ) -> None:
        if self._projection is not None:
            values = values @ self._projection.astype(values.dtype)
        for z in np.unique(atomic_numbers).tolist():
            if z not in self._elements:
                self._elements[z] = StatisticsStream(values.shape[1], ELEMENT_BLOCK)
            inside = atomic_numbers == z
            self._elements[z].add(values[inside], None if weights is None else weights[inside])


def collect_features(
    extractor: Extractor,
    batches: Iterable[GraphBatch],
    *,
    aggregation: str = "flat",
    parts: int = 4,
    projection: np.ndarray | None = None,
    design: Design | None = None,
    summaries: Sequence[Summary] = (),
) -> SetFeatures:
    """Runs an extractor over the batches of a set; see :class:`FeatureCollector`."""
    collector = FeatureCollector(aggregation, parts, projection, design, summaries)
    for batch in batches:
        collector.add((extractor(batch), batch))
    return collector.result()


def _merged(statistics: Iterable[Statistics]) -> Statistics:
    """Statistics of all rows; one without any is left out, unless all are."""
    given = list(statistics)
    filled = [one for one in given if int(one.count)]
    return merge_all(filled) if filled else given[0]


def write_features(path: Path, features: SetFeatures) -> None:
    """Writes the features of a set as an ``.npz`` file."""
    write_npz(path, features_arrays(features))


def features_arrays(features: SetFeatures) -> dict[str, np.ndarray]:
    """Named arrays of the features of a set, for a file."""
    arrays = {name: np.asarray(getattr(features, name)) for name in NUMBERS}
    named = {f"part/{i}": part for i, part in enumerate(features.parts)}
    named |= {f"element/{z}": statistics for z, statistics in features.elements.items()}
    for name, statistics in named.items():
        for field in ("count", "mean", "scatter", "weight"):
            if getattr(statistics, field) is not None:
                arrays[f"{name}/{field}"] = np.asarray(getattr(statistics, field))
    for field in SUMS:
        arrays[f"structures/{field}"] = getattr(features.structures, field)
    blocks = {name: arrays_of(one) for name, one in features.blocks.items()}
    for kind, kept in (("summary", features.summaries), ("block", blocks)):
        for name, values in kept.items():
            arrays |= {f"{kind}/{name}/{array}": value for array, value in values.items()}
    return arrays


def read_features(path: Path) -> SetFeatures:
    """Features of a set from a file of :func:`write_features`.

    Raises:
        DamagedFile: the file is damaged or something else.
    """
    arrays = read_npz(path, MEND)
    if "num_atoms" not in arrays or "structures/counts" not in arrays:
        raise DamagedFile(f"{path} holds no features of a set; {MEND}")
    return features_from(arrays)


def features_from(arrays: dict[str, np.ndarray]) -> SetFeatures:
    """Features of a set from the arrays of :func:`features_arrays`."""

    def statistics(name: str) -> Statistics:
        fields: dict[str, Any] = {
            field: arrays.get(f"{name}/{field}") for field in ("count", "mean", "scatter", "weight")
        }
        return Statistics(**fields)

    # Files of before structures had weights kept every structure apart.
    structures = arrays.get("num_structures", np.asarray(len(arrays["structures/counts"])))
    arrays.setdefault("structures/structures", np.ones(len(arrays["structures/counts"]), int))
    sums = StructureSums(**{field: arrays[f"structures/{field}"] for field in SUMS})
    blocks = _named(arrays, "block")
    return SetFeatures(
        parts=tuple(statistics(f"part/{i}") for i in _numbers(arrays, "part")),
        structures=sums,
        elements={z: statistics(f"element/{z}") for z in _numbers(arrays, "element")},
        num_atoms=int(arrays["num_atoms"]),
        num_structures=int(structures),
        weight=float(arrays.get("weight", structures)),
        summaries=_named(arrays, "summary"),
        blocks={name: blocks_of(kept, sums.structures) for name, kept in blocks.items()},
    )


def _numbers(names: Iterable[str], kind: str) -> Sequence[int]:
    return sorted(int(n.split("/")[1]) for n in names if n.startswith(kind) and n.endswith("mean"))


def _named(arrays: Mapping[str, np.ndarray], kind: str) -> dict[str, dict[str, np.ndarray]]:
    """Summary → name → array, of the paths "kind/summary/name"."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path, array in arrays.items():
        if path.startswith(f"{kind}/"):
            _, summary, name = path.split("/", 2)
            found.setdefault(summary, {})[name] = array
    return found
