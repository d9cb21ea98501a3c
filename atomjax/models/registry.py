"""The backbones by name, and how to build models of them from a config."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from atomjax.graphs.batch import GraphBatch
from atomjax.models.backbone import Backbone
from atomjax.models.equiformer_v2 import EQUIFORMER_V2
from atomjax.models.gemnet_oc import GEMNET_OC
from atomjax.models.heads import HeadConfig
from atomjax.models.initializers import evaluate_init
from atomjax.models.network import AtomicModel

# Those that come with atomjax; :func:`register` adds others.
BUILT_IN = (GEMNET_OC, EQUIFORMER_V2)
BACKBONES: dict[str, Backbone] = {backbone.name: backbone for backbone in BUILT_IN}


def register(backbone: Backbone) -> Backbone:
    """Makes a backbone known by the names of its sizes; returns it.

    One of the same name is replaced, as when the file that registers it is read again.

    Raises:
        ValueError: a backbone that comes with atomjax has the name, or another one has a size of
            the same name.
    """
    if any(backbone.name == other.name for other in BUILT_IN):
        raise ValueError(f'backbone "{backbone.name}" comes with atomjax; give another name')
    for other in BACKBONES.values():
        taken = sorted(backbone.sizes.keys() & other.sizes.keys())
        if other.name != backbone.name and taken:
            raise ValueError(
                f'backbone "{backbone.name}": {taken[0]!r} is a size of "{other.name}"; give it '
                "another name"
            )
    BACKBONES[backbone.name] = backbone
    return backbone


def find_backbone(config: Mapping[str, Any]) -> Backbone:
    """The backbone that a model config names.

    Args:
        config: {"name": one of the sizes of ``BACKBONES``, **overrides of its fields}.

    Raises:
        ValueError: on an unknown name, with the nearest known one.
    """
    name = config.get("name")
    for backbone in BACKBONES.values():
        if name in backbone.sizes:
            return backbone
    sizes = [size for backbone in BACKBONES.values() for size in backbone.sizes]
    raise ValueError(
        f"Unknown model name {name!r}{_nearest(str(name), sizes)} A backbone of your own is known "
        "once the file that registers it is imported."
    )


def backbone_config(config: Mapping[str, Any]) -> Any:
    """The configuration dataclass that a model config names.

    Raises:
        ValueError: on an unknown name or field, with the nearest known one.
    """
    backbone = find_backbone(config)
    settings = {key: value for key, value in config.items() if key != "name"}
    for key in settings:
        if key not in backbone.fields:
            raise ValueError(
                f"model.{key} is not a field of {config['name']}{_nearest(key, backbone.fields)}"
            )
    return dataclasses.replace(backbone.sizes[config["name"]], **settings)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
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
    backbone, size = find_backbone(config), backbone_config(config)
    if backbone.edge_field is not None and backbone.edge_field not in config:
        read = any(head.direct_forces for head in heads)
        size = dataclasses.replace(size, **{backbone.edge_field: read})
    return AtomicModel(backbone=backbone.network(size), heads=tuple(heads))


def init_variables(model: AtomicModel, key: jax.Array, batch: GraphBatch) -> dict[str, Any]:
    """Fresh variables; the scale factors of a model that has such start unfitted, at zero.

    Args:
        model: result of :func:`build_model`.
        key: random key.
        batch: any batch of the shapes to come; its values do not matter.

    Returns:
        {"params": ..., "scale_factors": ...} in float32.
    """
    variables: Any = evaluate_init(model.init, key, batch)
    return {
        "params": dict(variables["params"]),
        "scale_factors": dict(variables.get("scale_factors", {})),
    }
