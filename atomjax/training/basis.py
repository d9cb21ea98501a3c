"""Cutoffs of a model's radial bases: those of its graphs, or those in its checkpoint.

Energies are smooth where an atom leaves a graph only if the basis ends there, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from atomjax.batching import GraphDataset
from atomjax.data.graphs import cutoffs_in_use
from atomjax.graphs import GraphConfig
from atomjax.models import backbone_config, find_backbone
from atomjax.runtime.config import ConfigError


def with_basis(
    model: Mapping[str, Any],
    datasets: Sequence[GraphDataset],
    source: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A model config with the cutoffs of its radial bases filled in.

    Args:
        model: section of the config; cutoffs given in it stay.
        datasets: data sets that the model is trained on.
        source: metadata of the checkpoint that it goes on from; None for random weights.

    Raises:
        ConfigError: the graphs end at different distances, and the config does not say which.
    """
    backbone = find_backbone(model)
    if source is not None:
        stored = source["model"]
        return {**{name: stored[name] for name in backbone.basis_fields if name in stored}, **model}
    field = backbone.basis_fields[0]
    ends = {"main": model[field]} if field in model else _common_ends(datasets, field)
    return {**backbone.ending_at(ends), **model}


def _common_ends(datasets: Sequence[GraphDataset], field: str) -> dict[str, float]:
    """Graph → Å where it ends in all data sets."""
    found = {d.name: cutoffs_in_use(d.structures, d.graph_config) for d in datasets}
    distinct = [ends for own in found.values() for ends in own]
    if any(ends != distinct[0] for ends in distinct):
        shown = "; ".join(
            f"{name}: {' and '.join(describe_ends(ends) for ends in own)}"
            for name, own in found.items()
        )
        raise ConfigError(
            f"graphs end at different distances ({shown}), and the model has one radial basis for "
            "all: give the data sets one graph.cutoff and graph.cutoff_molecule, or say where it "
            f"ends, model.overrides.{field}"
        )
    return distinct[0]


def checkpoint_graph(metadata: Mapping[str, Any]) -> GraphConfig:
    """The graph that a checkpoint was trained on, of its first data set, without edge dropout."""
    stored = list(metadata.get("graphs", {}).values())
    if not stored:
        backbone = find_backbone(metadata["model"])
        return backbone.published_graph or backbone.graph
    return GraphConfig.from_dict({**stored[0], "edge_dropout": 0.0})


def check_kind(kind: str | None, model: Mapping[str, Any], name: str) -> None:
    """Raise ConfigError where a model does not read graphs of a kind; None is its own."""
    wanted = find_backbone(model).graph.kind
    if kind not in (None, wanted):
        raise ConfigError(
            f'{name}="{kind}": {model["name"]} reads graphs of kind "{wanted}"; leave it out'
        )


def describe_graphs(model: Mapping[str, Any], datasets: Sequence[GraphDataset]) -> list[str]:
    """Lines of the data card about graphs, and where the model's bases end elsewhere."""
    backbone, size, lines = find_backbone(model), backbone_config(model), []
    for dataset in datasets:
        graph = dataset.graph_config
        ends = cutoffs_in_use(dataset.structures, graph)
        line = " and ".join(describe_ends(own) for own in ends)
        limit = graph.max_neighbors
        if limit is None:
            line += ", all neighbours"
        else:
            line += f", {limit} neighbours (symmetrization {graph.symmetrization}, "
            line += f"shells {graph.shells})"
        bases = {name: backbone.basis_cutoff(size, name) for name in ends[0]}
        others = {
            f"{name} {bases[name]:g} Å"
            for own in ends
            for name, end in own.items()
            if end != bases[name]
        }
        if others:
            line += f"; the model's radial basis ends elsewhere ({', '.join(sorted(others))}), so "
            line += "energies step where an atom leaves the graph"
        lines.append(f"{dataset.name:<11} {line}")
    return lines


def describe_ends(ends: Mapping[str, float]) -> str:
    """Cutoffs of graphs, in words; those equal to the main graph's are left out."""
    main = ends["main"]
    others = [f"{graph} {end:g} Å" for graph, end in ends.items() if end != main]
    return f"{main:g} Å" + (f" ({', '.join(others)})" if others else "")
