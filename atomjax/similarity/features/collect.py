"""From batches of structures to everything that is known of a set.

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
from atomjax.similarity.measures.statistics import Statistics, merge_all
from atomjax.similarity.measures.stream import StatisticsStream

_aggregate = jax.jit(aggregate, static_argnames="aggregation")

Extractor = Callable[[GraphBatch], jax.Array]
# Features [N, d] and the batch that they were computed from: all of it, or one device's part.
Share = tuple[jax.Array, GraphBatch]
# Rows of a block of an element's statistics: there may be dozens of elements.
ELEMENT_BLOCK = 512
MEND = "delete its folder; the features are then extracted again"
NUMBERS = ("num_atoms", "num_structures", "weight")
SUMS = ("counts", "sums", "products", "center", "structures")


@dataclasses.dataclass(frozen=True)
class SetFeatures:
    """What is kept of the features of a set, of d features, or q projected ones.

    Attributes:
        parts: statistics of disjoint parts of the set, its blocks dealt to them in turn; d.
        structures: sums over each block: a structure, or a group that is drawn as a whole; q.
        elements: atomic number → statistics of the features of its atoms; q. Empty unless every
            atom is a row.
        num_atoms: in all structures.
        num_structures: each counted once, whatever its weight.
        weight: sum of the weights of the structures; their number where they have none.
    """

    parts: tuple[Statistics, ...]
    structures: StructureSums
    elements: Mapping[int, Statistics]
    num_atoms: int
    num_structures: int
    weight: float

    def statistics(self) -> Statistics:
        """Statistics of the whole set, of d features."""
        return merge_all([part for part in self.parts if int(part.count)])


def rows_of(shares: Sequence[Share], aggregation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real rows of a batch, in the order of the structures in their data set.

    That order does not depend on how a batch was divided, so neither does what is made of it.

    Returns:
        Values [n, d]; the place of each row's structure in its data set, ascending; and the
        atomic number of each row, where every atom is one.

    Raises:
        ValueError: features have the wrong shape.
    """
    values, index, atomic_numbers = [], [], []
    for features, batch in shares:
        rows = jax.device_get(_aggregate(features, batch, aggregation))
        mask = np.asarray(rows.mask)
        values.append(rows.values[mask])
        index.append(np.asarray(batch.targets.structure)[rows.structure[mask]])
        if aggregation == "flat":
            atomic_numbers.append(np.asarray(batch.atomic_numbers)[mask])
    together = np.concatenate(index)
    order = np.argsort(together, kind="stable")
    elements = np.concatenate(atomic_numbers)[order] if atomic_numbers else np.zeros(0, np.int32)
    return np.concatenate(values)[order], together[order], elements


@dataclasses.dataclass(frozen=True)
class Design:
    """How the structures of a set count.

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
        aggregation: how atoms become rows; see :func:`aggregate`.
        parts: number of parts; four allow extrapolation to infinite sets.
        projection: [d, q] from :func:`random_projection`, or None to keep all d features.
        design: of the set that the batches are of; None makes every structure a block, in the
            order in which they come, with weight 1.
    """

    def __init__(
        self,
        aggregation: str = "flat",
        parts: int = 4,
        projection: np.ndarray | None = None,
        design: Design | None = None,
    ):
        self._aggregation = aggregation
        self._projection, self._design = projection, design
        self._num_parts = parts
        self._streams: list[StatisticsStream] = []
        self._structures = StructureSumsBuilder(projection)
        self._elements: dict[int, StatisticsStream] = {}
        self._seen = self._atoms = 0

    def add(self, *shares: Share) -> None:
        """Takes in the features of a batch, whole or in the shares of several devices.

        Raises:
            ValueError: they have the wrong shape, or are not finite.
        """
        values, place, atomic_numbers = rows_of(shares, self._aggregation)
        weights = None
        if self._design is None:
            block = self._seen + np.unique(place, return_inverse=True)[1]
        else:
            block, weights = self._design.blocks[place], self._design.weights[place]
        if not self._streams:
            width = values.shape[1]
            self._streams = [StatisticsStream(width) for _ in range(self._num_parts)]
        for i, stream in enumerate(self._streams):
            inside = block % self._num_parts == i
            stream.add(values[inside], None if weights is None else weights[inside])
        self._structures.add(values, block, weights)
        if self._aggregation == "flat":
            self._add_elements(values, weights, atomic_numbers)
        for _, batch in shares:
            self._seen += int(np.asarray(batch.graph_mask).sum())
            self._atoms += int(np.asarray(batch.node_mask).sum())

    def result(self) -> SetFeatures:
        """What was collected.

        Raises:
            ValueError: no structure was added.
        """
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
) -> SetFeatures:
    """Runs an extractor over the batches of a set; see :class:`FeatureCollector`."""
    collector = FeatureCollector(aggregation, parts, projection, design)
    for batch in batches:
        collector.add((extractor(batch), batch))
    return collector.result()


def write_features(path: Path, features: SetFeatures) -> None:
    """Writes what is kept of a set as an ``.npz`` file."""
    arrays = {name: np.asarray(getattr(features, name)) for name in NUMBERS}
    named = {f"part/{i}": part for i, part in enumerate(features.parts)}
    named |= {f"element/{z}": statistics for z, statistics in features.elements.items()}
    for name, statistics in named.items():
        for field in ("count", "mean", "scatter", "weight"):
            if getattr(statistics, field) is not None:
                arrays[f"{name}/{field}"] = np.asarray(getattr(statistics, field))
    for field in SUMS:
        arrays[f"structures/{field}"] = getattr(features.structures, field)
    write_npz(path, arrays)


def read_features(path: Path) -> SetFeatures:
    """What :func:`write_features` wrote.

    Raises:
        DamagedFile: the file is damaged or something else.
    """
    arrays = read_npz(path, MEND)
    if "num_atoms" not in arrays or "structures/counts" not in arrays:
        raise DamagedFile(f"{path} holds no features of a set; {MEND}")

    def statistics(name: str) -> Statistics:
        fields: dict[str, Any] = {
            field: arrays.get(f"{name}/{field}") for field in ("count", "mean", "scatter", "weight")
        }
        return Statistics(**fields)

    # Files of before structures had weights kept every structure apart.
    structures = arrays.get("num_structures", np.asarray(len(arrays["structures/counts"])))
    arrays.setdefault("structures/structures", np.ones(len(arrays["structures/counts"]), int))
    return SetFeatures(
        parts=tuple(statistics(f"part/{i}") for i in _numbers(arrays, "part")),
        structures=StructureSums(**{field: arrays[f"structures/{field}"] for field in SUMS}),
        elements={z: statistics(f"element/{z}") for z in _numbers(arrays, "element")},
        num_atoms=int(arrays["num_atoms"]),
        num_structures=int(structures),
        weight=float(arrays.get("weight", structures)),
    )


def _numbers(names: Iterable[str], kind: str) -> Sequence[int]:
    return sorted(int(n.split("/")[1]) for n in names if n.startswith(kind) and n.endswith("mean"))
