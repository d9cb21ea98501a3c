"""Named model sizes and how to build them from a config."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from atomjax.graphs import GraphConfig
from atomjax.graphs.batch import GraphBatch
from atomjax.models.equiformer_v2 import EQUIFORMER_V2_SIZES, EquiformerV2, EquiformerV2Config
from atomjax.models.gemnet_oc import GEMNET_OC_SIZES, GemNetOC, GemNetOCConfig
from atomjax.models.heads import HeadConfig
from atomjax.models.network import AtomicModel

BackboneConfig = GemNetOCConfig | EquiformerV2Config

MODEL_SIZES: dict[str, BackboneConfig] = {**GEMNET_OC_SIZES, **EQUIFORMER_V2_SIZES}


def backbone_config(config: Mapping[str, Any]) -> BackboneConfig:
    """The configuration dataclass that a model config names.

    Args:
        config: {"name": one of ``MODEL_SIZES``, **overrides of its fields}.

    Raises:
        ValueError: on an unknown name or field, with the nearest known one.
    """
    settings = dict(config)
    name = settings.pop("name", None)
    if name not in MODEL_SIZES:
        raise ValueError(f"Unknown model name {name!r}{_nearest(str(name), MODEL_SIZES)}")
    size = MODEL_SIZES[name]
    fields = [field.name for field in dataclasses.fields(size)]
    for key in settings:
        if key not in fields:
            raise ValueError(f"model.{key} is not a field of {name}{_nearest(key, fields)}")
    return dataclasses.replace(size, **settings)


def default_graph(config: Mapping[str, Any]) -> GraphConfig:
    """The graph that a model of a config is trained on where nothing else is asked for.

    Args:
        config: as for :func:`backbone_config`.

    Raises:
        ValueError: as :func:`backbone_config`.
    """
    return backbone_config(config).default_graph


def _nearest(name: str, known) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}."


def build_model(config: Mapping[str, Any], heads: Sequence[HeadConfig]) -> AtomicModel:
    """A backbone of a named size with the given heads.

    Edge features are computed only if a head predicts direct forces or the config asks for them.

    Args:
        config: {"name": "gemnet_oc_small", **overrides}.
        heads: one per data set, with different names.

    Raises:
        ValueError: on unknown names or fields, no heads, or two heads of one name.
    """
    names = [head.name for head in heads]
    if not names:
        raise ValueError("A model needs at least one head.")
    if len(set(names)) < len(names):
        raise ValueError(f"Two heads share a name: {names}. Give each data set its own.")
    size = backbone_config(config)
    if isinstance(size, EquiformerV2Config):
        return AtomicModel(backbone=EquiformerV2(size), heads=tuple(heads))
    if "edge_output" not in config:
        size = dataclasses.replace(size, edge_output=any(head.direct_forces for head in heads))
    return AtomicModel(backbone=GemNetOC(size), heads=tuple(heads))


def init_variables(model: AtomicModel, key: jax.Array, batch: GraphBatch) -> dict[str, Any]:
    """Fresh variables; the scale factors of a model that has such start unfitted, at zero.

    Args:
        model: from :func:`build_model`.
        key: random key.
        batch: any batch of the shapes to come; its values do not matter.

    Returns:
        {"params": ..., "scale_factors": ...} in float32.
    """
    # Only the initialisers run (compiled once a shape); the forward pass is merely traced.
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    variables: Any = model.lazy_init(key, shapes)
    return {
        "params": dict(variables["params"]),
        "scale_factors": dict(variables.get("scale_factors", {})),
    }
