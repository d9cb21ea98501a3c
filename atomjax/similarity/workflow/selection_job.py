"""Structures of the recommended set chosen for a task, written as a store to pretrain on."""

import dataclasses
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from atomjax.runtime.cluster import processes
from atomjax.runtime.config import ConfigError
from atomjax.runtime.files import replacing_folder
from atomjax.runtime.run import Run
from atomjax.similarity.analysis.selection import (
    select_by_variance,
    select_covering,
    select_farthest,
    select_greedily,
    select_nearest,
)
from atomjax.similarity.features.cache import ExtractedSet, SetExtractor
from atomjax.similarity.features.structure_sums import (
    EachStructure,
    StructureSums,
    in_chunks,
    unpack,
)
from atomjax.similarity.measures.frechet import frechet_distance
from atomjax.similarity.measures.statistics import Statistics
from atomjax.similarity.settings import SelectionSettings, SimilaritySettings
from atomjax.structures import Structure
from atomjax.structures.store import Store, write_store


@dataclasses.dataclass(frozen=True)
class Selection:
    """Structures selected for a task, and their distance to it beside other choices."""

    task: str  # task that the structures were chosen for
    candidate: str  # set that it was chosen from
    method: str  # method of the choice
    size: int  # structures chosen
    available: int  # structures to choose from
    path: str  # path of the store, relative to the run directory
    # CSI to the task of the choice, of a random choice of this size, and of the whole set, on the
    # projected features that are kept of every structure.
    chosen: float
    drawn: float
    whole: float
    extraction_seconds: float  # spent on the features of all structures
    selection_seconds: float  # spent on choosing

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``csi.json``."""
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """One sentence."""
        return (
            f"For {self.task}, {self.size:,} of the {self.available:,} structures of "
            f"{self.candidate} ({self.method}): CSI {self.chosen:.4g}, against {self.drawn:.4g} "
            f"for as many at random and {self.whole:.4g} for all (on the projected features). "
            f"Extracting all of them took {self.extraction_seconds:.0f} s, choosing "
            f"{self.selection_seconds:.1f} s."
        )


def select_structures(
    settings: SimilaritySettings,
    sets: SetExtractor,
    downstream: ExtractedSet,
    candidate: str,
    run: Run,
) -> Selection:
    """Chooses structures of a candidate for one task and writes them.

    Args:
        settings: settings of the job, with a section "select".
        sets: extracts the candidate as a whole.
        downstream: the task.
        candidate: name of the upstream set.
        run: takes the store ``selected/<task>/``, which a data set of kind "store" reads.

    Raises:
        ConfigError: the set has fewer structures than are asked for.
    """
    asked = settings.select
    assert asked is not None
    (dataset,) = (d for d in settings.candidates if d.name == candidate)
    began = time.perf_counter()
    upstream, target = sets.sums(dataset), downstream.features.structures
    extraction = time.perf_counter() - began
    count = len(upstream)
    if asked.size > count:
        raise ConfigError(
            f"select.size={asked.size} is more than the {count} structures of {candidate}; lower it"
        )
    began = time.perf_counter()
    indices = np.zeros(asked.size, np.int32)
    if run.primary:
        indices = choose(asked, upstream, target, run).astype(np.int32)
    indices = np.asarray(processes.from_first(indices))
    choosing = time.perf_counter() - began
    path = f"selected/{downstream.name}"
    structures = sets.load(dataset)
    run.wait_for_all(f"choice for {downstream.name}")
    if run.primary:
        chosen = (structures[i] for i in indices.tolist())
        write_choice(run, path, chosen, asked.method, candidate)
    drawn = np.random.default_rng(settings.seed).permutation(count)[: asked.size]
    goal = summed_statistics(target, np.arange(len(target.counts)))
    return Selection(
        task=downstream.name,
        candidate=candidate,
        method=asked.method,
        size=asked.size,
        available=count,
        path=path,
        chosen=frechet_distance(summed_statistics(upstream, indices), goal),
        drawn=frechet_distance(summed_statistics(upstream, drawn), goal),
        whole=frechet_distance(summed_statistics(upstream, np.arange(count)), goal),
        extraction_seconds=extraction,
        selection_seconds=choosing,
    )


def choose(
    asked: SelectionSettings, upstream: EachStructure, target: StructureSums, run: Run
) -> np.ndarray:
    """[size] the structures chosen; the greedy choice has its scratch file in the run directory."""
    if asked.method == "greedy":
        return select_greedily(upstream, target, asked.size, scratch=run.workdir)
    methods = {
        "nearest": select_nearest,
        "farthest": select_farthest,
        "variance": select_by_variance,
        "covering": select_covering,
    }
    return methods[asked.method](upstream, target, asked.size)


def summed_statistics(sums: EachStructure, indices: np.ndarray) -> Statistics:
    """Statistics of the (projected) features of some blocks, from their sums."""
    added = [
        (chunk.counts.sum(), chunk.sums.sum(axis=0), chunk.products.sum(axis=0))
        for chunk in in_chunks(sums, indices)
    ]
    rows, offset, products = (np.sum(parts, axis=0) for parts in zip(*added, strict=True))
    offset, products = offset / rows, unpack(products, sums.dimension)
    arrays: dict[str, Any] = {
        "count": np.asarray(int(np.ceil(rows))),
        "weight": np.asarray(rows),
        "mean": sums.center + offset,
        "scatter": products - rows * np.outer(offset, offset),
    }
    return Statistics(**arrays)


def write_choice(
    run: Run, path: str, structures: Iterable[Structure], method: str, candidate: str
) -> None:
    """The store; that of an earlier choice stays until the new one is whole."""
    folder = run.path(path)
    origin = {"kind": "selected", "method": method, "source": candidate}
    if folder.exists():
        Store(folder)  # Nothing but a store of an earlier run is replaced.
    with replacing_folder(folder) as new:
        write_store(new, structures, precision="float64", origin=origin)
