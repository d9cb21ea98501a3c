"""Backbones as extractors: weights, their graph, and the compiled function over all devices."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from atomjax.data.graphs import BaseGraphs, graph_config
from atomjax.graphs import GraphConfig
from atomjax.graphs.batch import GraphBatch
from atomjax.models import (
    Backbone,
    HeadConfig,
    backbone_config,
    build_model,
    features,
    find_backbone,
)
from atomjax.ops import compiler_options
from atomjax.runtime.config import ConfigError
from atomjax.similarity.features.conventions import original_config
from atomjax.similarity.features.invariants import invariant_features
from atomjax.similarity.settings import ExtractorSettings, Invariance
from atomjax.structures import Structure
from atomjax.structures.elements import SYMBOLS
from atomjax.training.basis import check_kind, checkpoint_graph
from atomjax.training.running.checkpoint import load_checkpoint, read_metadata
from atomjax.training.running.leaves import backbone_of, digest, flatten
from atomjax.training.running.packaged import EXTRACTOR, is_packaged
from atomjax.training.update.state import DATA_AXIS
from atomjax.training.update.step import over_devices


@dataclasses.dataclass(frozen=True)
class BackboneExtractor:
    """A backbone whose last node features are the features.

    Attributes:
        name: for reports.
        config: config of the model.
        variables: {"params", "scale_factors"} of the backbone.
        graph: settings for building the graphs of structures.
        elements: symbols of the elements that it was trained on; None where that is not known.
    """

    name: str
    config: Mapping[str, Any]
    variables: Mapping[str, Any]
    graph: GraphConfig
    elements: frozenset[str] | None = None

    @property
    def backbone(self) -> Backbone:
        """The network's entry."""
        return find_backbone(self.config)

    @property
    def lmax(self) -> int | None:
        """Largest degree of the features; None where they have no degrees."""
        return _lmax(self.config)

    @property
    def digest(self) -> str:
        """Hash of everything that decides the features of a structure."""
        return digest([dict(self.config), self.graph.cache_key()], self.variables)

    @property
    def element_embeddings(self) -> dict[str, np.ndarray]:
        """Symbol → learned embedding [C] of the element, before any layer."""
        table, first = np.asarray(self._element_table), self.backbone.first_element
        return {SYMBOLS[z]: table[z - first] for z in range(1, self.largest_element + 1)}

    @property
    def largest_element(self) -> int:
        """Largest atomic number that has an embedding."""
        return min(len(self._element_table) + self.backbone.first_element, len(SYMBOLS)) - 1

    @property
    def _element_table(self) -> Any:
        return flatten(self.variables["params"]["backbone"])[self.backbone.element_embedding]

    def untrained(self, shares: Mapping[str, float]) -> dict[str, float]:
        """The elements of a set that it was not trained on.

        Args:
            shares: symbol → fraction of the set's atoms.

        Returns:
            The same of those elements alone; nothing where it does not say what it was trained on.
        """
        known = shares.keys() if self.elements is None else self.elements
        return {symbol: share for symbol, share in shares.items() if symbol not in known}

    def check_elements(self, structures: Sequence[Structure], name: str) -> None:
        """Checks that the backbone has an embedding for every element.

        Raises:
            ConfigError: naming the first structure that holds another element.
        """
        known = self.largest_element
        for index, structure in enumerate(structures):
            number = int(structure.atomic_numbers.max(initial=0))
            if number > known:
                raise ConfigError(
                    f"{name}: structure {index} ({structure.identifier or 'unnamed'}) holds "
                    f"{SYMBOLS[number]}, atomic number {number}, and the elements of the extractor "
                    f"{self.name} end at {known}; leave such structures out, or take an extractor "
                    "that knows them"
                )

    def node_features(self, variables: Any, batch: GraphBatch) -> jax.Array:
        """[N, C] features of one device's batch, without dropout; to be compiled."""
        model = build_model(self.config, [HeadConfig(name="none", kind="energy")])
        return features(model, variables, batch).node

    def compile(self, mesh: Mesh) -> Callable[[Any, GraphBatch], jax.Array]:
        """The function of variables and a stacked batch to features [D, N, C]."""

        def step(variables: Any, batch: GraphBatch) -> jax.Array:
            return self.node_features(variables, batch)[None]

        parallel = over_devices(step, mesh, P(DATA_AXIS))
        return jax.jit(parallel, compiler_options=compiler_options())

    def invariant(self, values: jax.Array, kind: Invariance) -> jax.Array:
        """Features [N, C] with, or without, the parts that turn with the structure."""
        if kind == "none":
            return values
        return invariant_features(values, self.lmax or 0, kind)


def load_extractor(settings: ExtractorSettings) -> BackboneExtractor:
    """The extractor of a config.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: the graph is not one that the backbone reads.
    """
    source = settings.checkpoint or EXTRACTOR
    variables, metadata = load_checkpoint(source, settings.which)
    name = checkpoint_name(metadata, source)
    if is_packaged(source):
        name = f"{source}, which comes with atomjax"
    return make_extractor(variables, metadata, name, settings)


def checkpoint_name(metadata: Mapping[str, Any], source: str) -> str:
    """Name of an extractor for reports, from a checkpoint's metadata and where it lies."""
    return f"{metadata['model']['name']} of {source}, step {metadata['step']}"


def make_extractor(
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
    name: str,
    settings: ExtractorSettings,
) -> BackboneExtractor:
    """The extractor made of the content of a checkpoint.

    Args:
        variables: {"params", "scale_factors"}.
        metadata: metadata of the checkpoint.
        name: for reports.
        settings: graph and conventions; where the weights are is not read.

    Raises:
        ConfigError: the graph is not one that the backbone reads.
    """
    config = metadata["model"]
    check_kind(settings.graph.kind, config, "extractor.graph.kind")
    base = BaseGraphs(checkpoint_graph(metadata), find_backbone(config).published_graph)
    graph = graph_config(settings.graph, base)
    backbone = backbone_of(variables)
    if settings.conventions == "efficient_atom":
        config = original_config(config)
        name += ", with the conventions of efficient-atom"
    return BackboneExtractor(name, config, backbone, graph, _elements_of(metadata))


def _lmax(config: Mapping[str, Any]) -> int | None:
    """Largest degree of the features of a model; None where they have no degrees."""
    return find_backbone(config).lmax(backbone_config(config))


def _elements_of(metadata: Mapping[str, Any]) -> frozenset[str] | None:
    """Symbols of the elements that a checkpoint was trained on, if it says."""
    sets = metadata.get("datasets", {}).values()
    known = [one["trained_on"]["elements"] for one in sets if "trained_on" in one]
    return frozenset().union(*known) if known else None


def has_scalars(checkpoint: str | Path) -> bool:
    """Whether all features of a checkpoint's backbone are scalars.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    return _lmax(read_metadata(checkpoint)["model"]) is None


def check_invariants(extractor: BackboneExtractor, kinds: tuple[Invariance, ...]) -> None:
    """Refuses invariants of features without degrees.

    Raises:
        ConfigError: the backbone's features have no degrees.
    """
    if extractor.lmax is None and set(kinds) != {"none"}:
        raise ConfigError(
            f"invariants={list(kinds)}: the features of {extractor.config['name']} are scalars "
            'already; set invariants=("none",)'
        )
