"""A data set of a config as features: read, sampled, extracted, and kept on disk.

They lie in ``features/<name>-<key>`` (:mod:`.extracted`). The key is a hash of everything that
decides the numbers, so a set is extracted once, whatever else changes in the config.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from atomjax.batching import GraphDataset, single_pass
from atomjax.data.graphs import BaseGraphs, graph_config
from atomjax.data.settings import DatasetSettings
from atomjax.data.sources import find_file, generate_spec
from atomjax.data.store_view import open_store, select
from atomjax.data.structures import load_training_part
from atomjax.graphs import GraphConfig
from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.capacity import Sizes
from atomjax.runtime.cluster import processes
from atomjax.runtime.code import code_digest
from atomjax.runtime.config import ConfigError, to_plain
from atomjax.runtime.files import DamagedFile
from atomjax.runtime.run import Run
from atomjax.similarity.features.collect import (
    MEND,
    Design,
    FeatureCollector,
    SetFeatures,
    Share,
    rows_of,
)
from atomjax.similarity.features.conventions import first_structures, upstream_graph
from atomjax.similarity.features.coverage import Coverage, class_coverage
from atomjax.similarity.features.extracted import (
    CODE,
    DONE,
    SHOWN_ROWS,
    ExtractedSet,
    read_set,
    write_set,
)
from atomjax.similarity.features.extractor import BackboneExtractor
from atomjax.similarity.features.orientation import rotate_structures
from atomjax.similarity.features.sampling import (
    SamplingError,
    WeightedSample,
    class_codes,
    class_keys,
    class_names,
    count_repeats,
    sample,
    weighted_sample,
)
from atomjax.similarity.features.structure_sums import (
    CENTER,
    StoredSums,
    random_projection,
    writing_sums,
)
from atomjax.similarity.features.units import independent_units
from atomjax.similarity.settings import Invariance, SimilaritySettings, variant_name
from atomjax.similarity.statistics import read_statistics, recipe_of
from atomjax.structures import Structure
from atomjax.structures.generate.sets import cache_path
from atomjax.training.update.state import data_mesh, own_rows, place, place_batch

# Bytes of graphs kept between their measuring and their batch.
CACHED_GRAPHS = 2**28
# Fields of a data set that concern training alone.
TRAINING_FIELDS = ("name", "graph", "energy_coefficient", "force_coefficient")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class View:
    """View of a data set for extraction.

    Attributes:
        downstream: whether it is a task, which matters to some conventions.
        rotation: 0 as stored; n turns every structure at random with seed n.
    """

    downstream: bool = False
    rotation: int = 0


class SetExtractor:
    """Extracts the data sets of one job."""

    def __init__(self, settings: SimilaritySettings, extractor: BackboneExtractor, run: Run):
        self._settings, self._extractor, self._run = settings, extractor, run
        self._mesh = data_mesh()
        self._compiled = extractor.compile(self._mesh)
        self._variables = place(extractor.variables, self._mesh)
        self._digest = extractor.digest
        self._summaries = settings.summaries

    @property
    def _original(self) -> bool:
        return self._settings.extractor.conventions == "efficient_atom"

    def extract(self, dataset: DatasetSettings, view: View = View()) -> ExtractedSet:
        """Features of one data set, from disk where they were extracted before.

        Raises:
            ConfigError: the sample cannot be drawn, the data set cannot be read, or statistics
                were made in another way.
            DamagedFile: a file of statistics is damaged.
            GraphError: the graph of a structure cannot be built.
            ValueError: features are not finite.
        """
        if dataset.kind == "statistics":
            path = find_file(dataset)
            given = read_statistics(path)
            recipe = recipe_of(self._settings, self._extractor, downstream=view.downstream)
            given.check(recipe, "this comparison", path)
            return dataclasses.replace(given.made, name=dataset.name)
        folder = self._run.path("features", f"{dataset.name}-{self._key(dataset, view)}")
        if processes.from_first(np.asarray((folder / DONE).exists())):
            self._run.say(f"{dataset.name}: features of an earlier run, {folder}")
            found = self._kept(lambda: read_set(dataset.name, folder))
            if found is not None:
                return found
        structures = self.load(dataset)
        codes, classes = class_codes(class_keys(structures))
        drawn = self._draw(dataset.name, structures, codes, view)
        # Read batch by batch: a set need not fit in memory.
        chosen: Sequence[Structure] = select(structures, drawn.indices)
        units = independent_units(
            dataset, self._settings.sampling.unit, codes[drawn.indices], drawn.indices, structures
        )
        if view.rotation:
            chosen = rotate_structures(chosen, seed=view.rotation)
        design = Design(drawn.weights, units.blocks)
        variants, rows = self._collect(dataset, chosen, design, view)
        made = ExtractedSet(
            name=dataset.name,
            available=len(structures),
            classes=len(classes),
            unit=units.kind,
            units=units.count,
            heaviest=float(drawn.weights.max() / drawn.weights.mean()),
            coverage=self._coverage(codes, drawn),
            variants=variants,
            rows=rows,
            class_names=class_names(structures, classes),
        )
        self._run.wait_for_all(f"features of {dataset.name}")
        if self._run.primary:
            write_set(folder, made)
        self._run.wait_for_all(f"{folder.name} is written")
        return made

    def sums(self, dataset: DatasetSettings) -> StoredSums:
        """Sums over each structure of a whole set, on disk; first aggregation and invariance.

        Raises:
            ConfigError: the data set cannot be read.
            GraphError: the graph of a structure cannot be built.
            ValueError: features are not finite.
        """
        folder = self._run.path(
            "features", f"{dataset.name}-{self._key(dataset, View(), whole=True)}"
        )
        if processes.from_first(np.asarray((folder / CENTER).exists())):
            self._run.say(f"{dataset.name}: features of an earlier run, {folder}")
            found = self._kept(lambda: StoredSums(folder, MEND))
            if found is not None:
                return found
        structures = self.load(dataset)
        aggregation, invariance = self._settings.variants[0]
        count, title = len(structures), f"features of all of {dataset.name}"
        # Features reach every process; one keeps their sums.
        written = contextlib.nullcontext()
        if self._run.primary:
            written = writing_sums(folder, count, self._settings.seed)
        with self._run.progress(count, title) as tracker, written as writer:
            for shares in self._features(dataset, structures, View()):
                if writer is not None:
                    rows = rows_of(self._invariant(shares, invariance), aggregation)
                    writer.add(rows.values, rows.structure)
                tracker.advance(_num_structures(shares))
        self._run.wait_for_all(f"{folder.name} is written")
        return StoredSums(folder, MEND)

    def _kept(self, read: Callable[[], T]) -> T | None:
        """Features of an earlier run; None where process 0 finds them damaged."""
        found, problem = None, ""
        try:
            found = read()
        except DamagedFile as error:
            problem = str(error)
        # All or none extract them again.
        if processes.from_first(np.asarray(found is not None)):
            if found is None:
                raise DamagedFile(problem)
            return found
        self._run.say(f"{problem}: this is done now")
        return None

    def load(self, dataset: DatasetSettings) -> Sequence[Structure]:
        """The training part of a data set."""
        settings = self._settings
        return load_training_part(
            settings.as_read(dataset),
            cache_dir=settings.cache_dir,
            workers=settings.workers,
            run=self._run,
        )

    def _draw(
        self, name: str, structures: Sequence[Structure], codes: np.ndarray, view: View
    ) -> WeightedSample:
        """The structures that represent the set."""
        sampling = self._settings.sampling
        size = sampling.size
        if self._settings.workflow == "statistics":
            size = min(size, len(structures))
        if self._original and view.downstream:
            return count_repeats(first_structures(structures, size))
        arguments = codes, size, sampling.strategy, sampling.seed
        try:
            return (
                count_repeats(sample(*arguments)) if self._original else weighted_sample(*arguments)
            )
        except SamplingError as error:
            raise ConfigError(f"sampling of data set '{name}': {error}") from error

    def _coverage(self, codes: np.ndarray, drawn: WeightedSample) -> dict[str, Coverage]:
        """Classes of the sample, repetitions counted, and of a random one of as many structures."""
        sampling = self._settings.sampling
        times = drawn.weights.astype(int) if self._original else 1
        random = sample(codes, len(drawn.indices), "random", sampling.seed)
        found = {sampling.strategy: class_coverage(codes, np.repeat(drawn.indices, times))}
        found.setdefault("random", class_coverage(codes, random))
        return found

    def _graph(self, dataset: DatasetSettings, view: View) -> GraphConfig:
        if not self._original:
            return self._extractor.graph
        if view.downstream:
            published = self._extractor.backbone.published_graph
            return graph_config(dataset.graph, BaseGraphs(self._extractor.graph, published))
        return upstream_graph(self._extractor.graph)

    def _key(self, dataset: DatasetSettings, view: View, *, whole: bool = False) -> str:
        """Hash of everything that decides the features of a data set, or of a whole one."""
        described = to_plain(dataset)
        for name in TRAINING_FIELDS:
            described.pop(name)
        if dataset.kind == "generate":
            source: Any = cache_path(generate_spec(dataset)).name
        elif dataset.kind == "store":
            source = _file_state(open_store(dataset.name, dataset.path).path / "manifest.json")
        else:
            source = _file_state(find_file(dataset))
        parts = {
            "code": code_digest(*CODE),
            "dataset": described,
            "source": source,
            "extractor": self._digest,
            "graph": self._graph(dataset, view).cache_key(),
            "view": {**dataclasses.asdict(view), "whole": whole},
            "sampling": to_plain(self._settings.sampling),
            "variants": self._settings.variants,
            "rows": "all" if self._settings.keep_features else SHOWN_ROWS,
            "seed": self._settings.seed,
        }
        if self._summaries:
            parts["summaries"] = [summary.key for summary in self._summaries]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _collect(
        self, dataset: DatasetSettings, structures: Sequence[Structure], design: Design, view: View
    ) -> tuple[dict[str, SetFeatures], np.ndarray]:
        collectors: dict[str, FeatureCollector] = {}
        shown = _ShownRows(self._settings, len(structures))
        with self._run.progress(len(structures), f"features of {dataset.name}") as tracker:
            for shares in self._features(dataset, structures, view):
                for aggregation, invariance in self._settings.variants:
                    features = self._invariant(shares, invariance)
                    variant = variant_name(aggregation, invariance)
                    if variant not in collectors:
                        width = features[0][0].shape[1]
                        projection = random_projection(width, seed=self._settings.seed)
                        collectors[variant] = FeatureCollector(
                            aggregation,
                            projection=projection,
                            design=design,
                            summaries=self._summaries,
                        )
                    collectors[variant].add(*features)
                    if variant == next(iter(collectors)):
                        shown.add(features)
                tracker.advance(_num_structures(shares))
        return {variant: c.result() for variant, c in collectors.items()}, shown.result()

    def _invariant(self, shares: Sequence[Share], kind: Invariance) -> list[Share]:
        return [(self._extractor.invariant(values, kind), batch) for values, batch in shares]

    def _features(
        self, dataset: DatasetSettings, structures: Sequence[Structure], view: View
    ) -> Iterator[list[Share]]:
        """The devices' parts of one batch after the other, features [N, C]."""
        self._extractor.check_elements(structures, dataset.name)
        graph = self._graph(dataset, view)
        prepared = GraphDataset(dataset.name, structures, graph, cache_bytes=CACHED_GRAPHS)
        prepared.sizes = _measure_together(prepared)
        loader = single_pass(
            prepared,
            self._settings.extractor.batch_size,
            self._mesh.size,
            seed=self._settings.seed,
            drop_edges=graph.edge_dropout > 0,
            rows=own_rows(self._mesh),
        )
        for _, batch in loader.batches():
            placed = place_batch(batch, self._mesh)
            made = self._compiled(self._variables, placed), _without_edges(placed)
            # Every process collects the same; rows are few beside the work they cost.
            values, whole = jax.device_get(processes.from_all(made, rows=True))
            parts = [jax.tree.map(lambda x, d=d: x[d], whole) for d in range(self._mesh.size)]
            shares = zip(values, parts, strict=True)
            yield [share for share in shares if np.asarray(share[1].graph_mask).any()]


def _measure_together(dataset: GraphDataset) -> Sizes:
    """Sizes of all structures, of which each process measures its share."""
    count, own = jax.process_count(), jax.process_index()
    if count == 1:
        return dataset.sizes
    shares = [np.arange(start, len(dataset), count) for start in range(count)]
    table = dataset.measure(shares[own]).table
    # The last shares may have one structure less.
    padded = np.zeros((len(shares[0]), table.shape[1]), np.int32)
    padded[: len(table)] = table
    whole = np.empty((len(dataset), table.shape[1]), np.int64)
    for share, measured in zip(shares, processes.from_all(padded), strict=True):
        whole[share] = measured[: len(share)]
    return Sizes(whole)


def _without_edges(batch: GraphBatch) -> GraphBatch:
    """A batch with the atoms, structures and labels that rows are made with alone."""
    edges = dict.fromkeys(("edges", "senders", "receivers", "n_edge", "globals"))
    graphs = dict.fromkeys(("slots", "swap", "reverse", "a2ee2a", "a2a", "quadruplets"))
    return dataclasses.replace(batch, graph=batch.graph._replace(**edges), **graphs)


def _num_structures(shares: Sequence[Share]) -> int:
    return sum(int(np.asarray(batch.graph_mask).sum()) for _, batch in shares)


class _ShownRows:
    """Feature rows of the deciding variant: all, or an even share of every batch."""

    def __init__(self, settings: SimilaritySettings, structures: int):
        self._aggregation = settings.aggregations[0]
        self._all, self._structures = settings.keep_features, structures
        self._rng = np.random.default_rng(settings.seed)
        self._parts: list[np.ndarray] = []
        # Rows that are due, in fractions, less those that were taken; the first batch gives one.
        self._due = 1.0

    def add(self, shares: Sequence[Share]) -> None:
        values = rows_of(shares, self._aggregation).values
        if not self._all:
            self._due += SHOWN_ROWS * _num_structures(shares) / self._structures
            count = min(len(values), int(self._due))
            self._due -= count
            values = values[np.sort(self._rng.permutation(len(values))[:count])]
        self._parts.append(np.asarray(values, np.float32))

    def result(self) -> np.ndarray:
        return np.concatenate(self._parts)


def _file_state(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a file, or of the files of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
