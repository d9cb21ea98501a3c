"""The seam between a network and the rest of the program.

All that training, finetuning, extraction and the conformance suite know of a network stands in its
:class:`Backbone`; CONTRIBUTING.md adds one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn

from atomjax.graphs import GraphConfig
from atomjax.models.heads import Head, HeadConfig


class Network(nn.Module):
    """Base of the networks, modules from ``GraphBatch`` to ``Features``.

    Attributes:
        config: one of the sizes, with or without overrides.
    """

    config: Any

    @nn.nowrap
    def head(self, config: HeadConfig) -> nn.Module:
        """The head of one task: features of this network and a batch → ``Prediction``."""
        return Head(config)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Description of a network for the rest of the program.

    Its parameters lie under ``backbone``; patterns are regular expressions on such paths.

    Attributes:
        name: name of the network.
        sizes: name of a model → its config, the smallest first. All are of one frozen dataclass,
            whose fields ``model.overrides`` can change. It has a field ``precision`` (see
            ``atomjax.models.precision``).
        network: makes the module from a config.
        graph: graph that a model is trained on by default. Its kind is the one that the network
            reads.
        published_graph: graph of the originals, which ``graph.preset="published"`` takes.
        cutoff_fields: graph → field of its radial basis's cutoff, Å; None in it means that of the
            main graph. "main" comes first.
        smooth: fields that decide how the basis ends, with their values in a training from random
            weights. A model that goes on from a checkpoint takes its values of these and of
            ``cutoff_fields``.
        element_embedding: path of the table of elements.
        first_element: atomic number of its first row.
        block: number of a block, from 0 → names of its modules.
        before_blocks: modules that learn at the rate of the first block.
        layer_rates: name of a published layer-wise decay → initial factors of the element
            embedding, and of each block.
        shared: config → parameters that several blocks read: pattern in their path, and number of
            blocks. The first pattern that is found in a path counts.
        head_sizes: fields of ``HeadConfig`` that size its heads; the others do not apply.
        free_fields: fields that change no parameter's meaning, so that a finetuning may.
        edge_field: whether edge features, which direct forces need, are computed; where the config
            leaves it open, they are if a head reads them. None: there are no such parameters.
        lmax: config → largest degree l of the node features, [N, (lmax + 1)² · C]; None where they
            are scalars.
        conventions: published study → function of a config to the fields that differ in it.
        conformance: overrides of the smallest size for the conformance suite, such as a grid so
            fine that rotations change nothing but rounding.
    """

    name: str
    sizes: Mapping[str, Any]
    network: Callable[[Any], Network]
    graph: GraphConfig
    published_graph: GraphConfig | None = None
    cutoff_fields: Mapping[str, str]
    smooth: Mapping[str, Any] = field(default_factory=dict)
    element_embedding: str = "embedding"
    first_element: int = 0
    block: Callable[[int], tuple[str, ...]] = lambda i: (f"block_{i}",)
    before_blocks: tuple[str, ...] = ()
    layer_rates: Mapping[str, tuple[float, tuple[float, ...]]] = field(default_factory=dict)
    shared: Callable[[Any], tuple[tuple[str, int], ...]] = lambda config: ()
    head_sizes: tuple[str, ...] = ("num_layers",)
    free_fields: tuple[str, ...] = ("precision",)
    edge_field: str | None = None
    lmax: Callable[[Any], int | None] = lambda config: None
    conventions: Mapping[str, Callable[[Any], dict[str, Any]]] = field(default_factory=dict)
    conformance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        """Raises ValueError where sizes are of several classes, or a field is none of theirs."""
        if len({type(size) for size in self.sizes.values()}) != 1:
            raise ValueError(f"backbone {self.name!r}: give sizes, all of one config class")
        named = (*self.basis_fields, *self.free_fields, *self.conformance, "precision")
        for name in (*named, *filter(None, [self.edge_field])):
            if name not in self.fields:
                raise ValueError(
                    f"backbone {self.name!r}: {name!r} is not a field of {self.config.__name__} "
                    f"({', '.join(self.fields)})"
                )

    @property
    def config(self) -> type:
        """The dataclass of the sizes."""
        return type(next(iter(self.sizes.values())))

    @property
    def fields(self) -> list[str]:
        """Names of the config's fields."""
        return [each.name for each in dataclasses.fields(self.config)]

    @property
    def basis_fields(self) -> tuple[str, ...]:
        """Fields of the radial bases' cutoffs and envelopes, that of the main graph first."""
        return (*self.cutoff_fields.values(), *self.smooth)

    def basis_cutoff(self, config: Any, graph: str) -> float:
        """Å where the radial basis of a graph ends."""
        own = getattr(config, self.cutoff_fields[graph])
        return getattr(config, self.cutoff_fields["main"]) if own is None else own

    def ending_at(self, cutoffs: Mapping[str, float]) -> dict[str, Any]:
        """Fields of a model whose bases end with its graphs.

        Args:
            cutoffs: graph → Å, with "main".
        """
        main = cutoffs["main"]
        ends = {g: end for g, end in cutoffs.items() if g == "main" or end != main}
        return {**{self.cutoff_fields[g]: end for g, end in ends.items()}, **self.smooth}
