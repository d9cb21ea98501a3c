"""The graphs of data sets: what a config asks for, and where they end."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from atomjax.data.settings import GraphSettings
from atomjax.graphs import GraphConfig
from atomjax.graphs.config import KINDS, limits_in_proportion
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure
from atomjax.structures.store import Store


def graph_config(
    settings: GraphSettings,
    default: GraphConfig | None = None,
    published: GraphConfig | None = None,
    edge_dropout: float = 0.0,
) -> GraphConfig:
    """The graphs that a config asks for.

    Args:
        settings: what the config says.
        default: what it leaves open; ``GraphConfig()`` if None.
        published: the same under the preset of that name.
        edge_dropout: of a training set.

    Raises:
        ConfigError: the fields contradict each other.
    """
    graph = GraphConfig() if default is None else default
    if settings.preset is not None:
        if published is None:
            raise ConfigError(
                f'graph.preset="{settings.preset}": this backbone has no such graphs; leave it out'
            )
        graph = published
    given = {k: v for k, v in dataclasses.asdict(settings).items() if v is not None}
    given.pop("preset", None)
    if settings.max_neighbors is not None and KINDS[settings.kind or graph.kind].others:
        given = {**limits_in_proportion(settings.max_neighbors), **given}
    try:
        return dataclasses.replace(graph, **given, edge_dropout=edge_dropout)
    except ValueError as error:
        raise ConfigError(f"graph: {error}") from error


def cutoffs_in_use(structures: Sequence[Structure], graph: GraphConfig) -> list[dict[str, float]]:
    """Where the graphs of some structures end, graph → Å.

    Two of them where molecules and periodic structures are cut differently and there are both.

    Args:
        structures: of a data set.
        graph: how their graphs are built.
    """
    ends = [graph.cutoffs(periodic) for periodic in (True, False)]
    if ends[0] == ends[1]:
        return ends[:1]
    if isinstance(structures, Store):
        found = set(np.unique(structures.periodic).tolist())
    else:
        found = {structure.is_periodic for structure in structures}
    return [end for end, periodic in zip(ends, (True, False), strict=True) if periodic in found]
