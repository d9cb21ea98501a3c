"""GemNet-OC: assignment of a file's tensors, and the model they make up."""

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.family import ALIAS, NO_HEAD, Choices, Recognised
from atomjax.convert.gemnet_oc.config import (
    BUILT_IN,
    SETTINGS,
    check_radial_basis,
    describe_gemnet,
    graph_config,
    infer_config,
)
from atomjax.convert.gemnet_oc.export import export_gemnet
from atomjax.convert.gemnet_oc.heads import find_heads, missing_biases
from atomjax.convert.gemnet_oc.layouts import Layout, find_layout, ignored_reason, without_alias
from atomjax.convert.gemnet_oc.names import (
    checkpoint_entries,
    to_checkpoint_layout,
)
from atomjax.convert.nesting import Contents
from atomjax.convert.settings import backbone_settings, check_built_in, unread_settings
from atomjax.models.gemnet_oc import GemNetOCConfig


class GemNetOCFamily:
    """GemNet-OC in the layouts of JMP, efficient-atom and fairchem v1."""

    name = "gemnet_oc"

    def matches(self, contents: Contents) -> bool:
        """Whether a file is of this family."""
        return find_layout(contents.tensors) is not None

    def recognise(self, contents: Contents, choices: Choices) -> Recognised:
        """The model, its heads and the use of every tensor of a file.

        Raises:
            ConvertError: a tensor belongs to no part of the model, or the original has settings
                that atomjax's model does not offer.
        """
        layout = find_layout(contents.tensors)
        assert layout is not None, "matches() comes first"
        names, ignored, parameters = _assign(contents, layout, choices.backbone_only)
        shapes = {entry: contents.tensors[name].shape for entry, name in names.items()}
        settings = backbone_settings(contents, SETTINGS)
        check_built_in(settings, BUILT_IN, "GemNet-OC")
        check_radial_basis(contents)
        config = infer_config(shapes, settings)
        heads, constants, notes = (), {}, ()
        if not choices.backbone_only:
            heads, notes = find_heads(contents, layout, shapes, choices.head_names)
            constants = missing_biases(shapes, heads)
        return Recognised(
            layout=layout.name,
            model=describe_gemnet(config, heads),
            heads=heads,
            names=names,
            ignored=ignored,
            parameters=parameters,
            constants=constants,
            graph=graph_config(settings),
            unread=unread_settings(contents, SETTINGS, GemNetOCConfig),
            notes=notes,
        )

    entries = staticmethod(checkpoint_entries)
    change_layout = staticmethod(to_checkpoint_layout)
    export = staticmethod(export_gemnet)


def _assign(
    contents: Contents, layout: Layout, backbone_only: bool
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Entry → name in the file, name → reason for ignoring it, and the trained parameters."""
    names: dict[str, str] = {}
    ignored: dict[str, str] = {}
    parameters, unknown = [], []
    for name, value in contents.tensors.items():
        entry = layout.entry(name)
        if reason := ignored_reason(name):
            ignored[name] = reason
            continue
        if entry is None and not backbone_only:
            unknown.append(name)
            continue
        entry = None if entry is None else without_alias(entry)
        if entry in names:
            # Two names of one tensor, of which the optimiser knew the first.
            if not np.array_equal(value, contents.tensors[names[entry]], equal_nan=True):
                raise ConvertError(f"{name} and {names[entry]} should be one tensor but differ")
            ignored[name] = f"{ALIAS} ({names[entry]})"
            continue
        if not name.endswith("scale_factor"):
            parameters.append(name)
        if entry is None or (backbone_only and entry.startswith("output.")):
            ignored[name] = NO_HEAD
        else:
            names[entry] = name
    if unknown:
        raise ConvertError(
            f"{len(unknown)} tensors belong to no part of GemNet-OC as atomjax has it: "
            f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}. If they are a head "
            "of another kind, convert the rest with --backbone-only"
        )
    return names, ignored, tuple(parameters)
