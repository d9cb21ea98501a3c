"""The graphs of data sets: their settings in a config, and their cutoffs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from atomjax.data.settings import GraphSettings
from atomjax.graphs import GraphConfig
from atomjax.graphs.config import KINDS, limits_in_proportion
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure
from atomjax.structures.store import Store


@dataclass(frozen=True)
class BaseGraphs:
    """Graph configs that the graph settings of a config start from."""

    # Graphs where the settings name no preset.
    default: GraphConfig = field(default_factory=GraphConfig)
    # Graphs of the backbone's originals, for the preset of this name.
    published: GraphConfig | None = None


def graph_config(
    settings: GraphSettings, base: BaseGraphs, edge_dropout: float = 0.0
) -> GraphConfig:
    """The graphs that a config asks for.

    Raises:
        ConfigError: the fields contradict each other, or there is no such preset.
    """
    graph = base.default
    if settings.preset is not None:
        if base.published is None:
            raise ConfigError(
                f'graph.preset="{settings.preset}": this backbone has no such graphs; leave it out'
            )
        graph = base.published
    given = {k: v for k, v in dataclasses.asdict(settings).items() if v is not None}
    given.pop("preset", None)
    if settings.max_neighbors is not None and KINDS[settings.kind or graph.kind].others:
        given = {**limits_in_proportion(settings.max_neighbors), **given}
    try:
        return dataclasses.replace(graph, **given, edge_dropout=edge_dropout)
    except ValueError as error:
        raise ConfigError(f"graph: {error}") from error


def cutoffs_in_use(structures: Sequence[Structure], graph: GraphConfig) -> list[dict[str, float]]:
    """Cutoffs of the graphs of some structures, graph → Å.

    Two of them where molecules and periodic structures are cut differently and there are both.
    """
    ends = [graph.cutoffs(periodic) for periodic in (True, False)]
    if ends[0] == ends[1]:
        return ends[:1]
    if isinstance(structures, Store):
        found = set(np.unique(structures.periodic).tolist())
    else:
        found = {structure.is_periodic for structure in structures}
    return [end for end, periodic in zip(ends, (True, False), strict=True) if periodic in found]
