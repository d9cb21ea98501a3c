"""EquiformerV2: assignment of a file's tensors, and the model they make up.

    fairchem         fairchem v1 and ocp: ``sphere_embedding.weight``, ``blocks.…``, and the heads
                     ``energy_block.…`` and ``force_block.…`` beside them
    fairchem_hydra   fairchem v1, later: ``backbone.…`` and ``output_heads.{name}.energy_block.…``
    efficient_atom   efficient-atom: ``backbone.…`` and, of its pretraining,
                     ``output.energy_heads.{task}.energy_block.…``; of its finetuning
                     ``out_energy.energy_block.…`` and ``out_forces.force_block.…``, or
                     ``graph_outputs._module_dict.ft_mlp_{target}.out_scalar.energy_block.…``

The heads of efficient-atom's finetuning are wider than its backbone's networks. Models that learnt
to denoise as well (DeNS, Liao et al., TMLR 2024) have a head for that, which is left out, and embed
forces and noise: of these, what a structure without noise gets is a bias of every atom, which goes
into the embedding of elements.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from atomjax.convert.equiformer_v2.export import export_equiformer
from atomjax.convert.equiformer_v2.names import (
    checkpoint_entries,
    to_checkpoint_layout,
)
from atomjax.convert.errors import ConvertError
from atomjax.convert.family import BUFFER, METRIC, NO_HEAD, Choices, Path, Recognised
from atomjax.convert.nesting import Contents
from atomjax.convert.settings import backbone_settings, check_built_in, unread_settings
from atomjax.convert.sizes import describe_config
from atomjax.models import HeadConfig, TargetConfig
from atomjax.models.equiformer_v2 import EquiformerV2Config, published_graph

ELEMENT_ENERGIES = "energy_lin_ref"
_MARK = "sphere_embedding.weight"
_BUFFERS = (
    r"(?:.*\.)?(?:SO3_grid|SO3_rotation|mappingReduced)\..*"
    r"|.*\.expand_index|.*balance_degree_weight|distance_expansion\.offset"
)
_DENOISING = r"(?:force_embedding|noise_schedule_sigma_embedding|denoising_pos_block)\..*"
DENOISED = "of training on noise (DeNS), without a part in predictions"
EMBEDDED = "added to the embedding of elements"
_HEADS = (
    r"((?:energy|force)_block\..*)",
    r"output_heads\.\w+\.((?:energy|force)_block\..*)",
    r"output\.(?:energy|force)_heads\.0\.((?:energy|force)_block\..*)",
    r"out_(?:energy|forces)\.((?:energy|force)_block\..*)",
    r"graph_outputs\._module_dict\.ft_mlp_\w+\.out_scalar\.(energy_block\..*)",
)
_PROPERTY = r"graph_outputs\._module_dict\.ft_mlp_(\w+)\.out_scalar\..*"

# Field of the config → tensor and axis whose length it is.
_SHAPES = {
    "num_elements": ("sphere_embedding.weight", 0),
    "channels": ("sphere_embedding.weight", 1),
    "num_heads": ("blocks.0.ga.alpha_dot", 0),
    "alpha_channels": ("blocks.0.ga.alpha_dot", 1),
    "edge_channels": ("blocks.0.ga.source_embedding.weight", 1),
    "ffn_hidden": ("blocks.0.ffn.so3_linear_1.weight", 1),
}
# Field → name of its layers.
_COUNTS = {
    "num_blocks": r"blocks\.(\d+)\..*",
    "mmax": r"blocks\.0\.ga\.so2_conv_2\.so2_m_conv\.(\d+)\..*",
}
# Å: the original's 0.01 Å² between squares, converted at 5 Å, where a limit of 20 lies in a solid.
_DEGENERATE = 0.001
# Settings of the original that atomjax's model has built in: name → values that mean the same. The
# original takes names of activations and computes SiLU whatever they are.
_BUILT_IN = {
    "attn_activation": ("silu", "scaled_silu"),
    "ffn_activation": ("silu", "scaled_silu"),
    "norm_type": ("layer_norm_sh",),
    "distance_function": ("gaussian",),
    "use_atom_edge_embedding": (True,),
    "share_atom_edge_embedding": (False,),
    "use_m_share_rad": (False,),
    "use_s2_act_attn": (False,),
    "use_attn_renorm": (True,),
    "use_gate_act": (False,),
    "use_grid_mlp": (True,),
    "use_sep_s2_act": (True,),
}
_SETTINGS = (
    *_BUILT_IN,
    "avg_degree",
    "avg_num_nodes",
    "enforce_max_neighbors_strictly",
    "max_neighbors",
    "max_radius",
    "grid_resolution",
)


class EquiformerV2Family:
    """EquiformerV2 in the layouts of fairchem v1 and efficient-atom."""

    name = "equiformer_v2"

    def matches(self, contents: Contents) -> bool:
        """Whether a file is of this family."""
        return any(name in contents.tensors for name in (_MARK, f"backbone.{_MARK}"))

    def recognise(self, contents: Contents, choices: Choices) -> Recognised:
        """The model, its head and the use of every tensor of a file.

        Raises:
            ConvertError: a tensor belongs to no part of the model, or the original has settings
                that atomjax's model does not offer.
        """
        names, ignored, parameters = _assign(contents, choices.backbone_only)
        biases = tuple(name for name, why in ignored.items() if why == EMBEDDED)
        settings = backbone_settings(contents, _SETTINGS)
        check_built_in(settings, _BUILT_IN, "EquiformerV2")
        config = infer_config(contents, names, settings)
        layout = _layout(contents)
        graph = published_graph(config.cutoff, int(settings.get("max_neighbors", 20)))
        notes = ()
        if settings.get("enforce_max_neighbors_strictly") is False:
            graph = dataclasses.replace(
                graph,
                max_neighbors=int(settings.get("max_neighbors", 20)) + 1,
                shells="keep",
                shell_tolerance=_DEGENERATE,
            )
            notes = (
                "limit of neighbours not strict: the one after the last is let in, too, and all "
                f"that are as far away to {_DEGENERATE} Å, where the original compares the squares",
            )
        if layout == "efficient_atom":
            config = dataclasses.replace(config, edge_direction="target_minus_source")
            graph = dataclasses.replace(graph, cutoff_molecule=8.0, max_neighbors=30)
            notes = (
                "taken for a model that efficient-atom trained: on its own graphs of 30 "
                "neighbours, 8 Å for molecules, with edges from source to target",
            )
        heads = ()
        if not choices.backbone_only:
            heads = _heads(contents, names, config, layout, choices.head_names)
        if any(head.targets for head in heads):
            # Its sums are not divided.
            config = dataclasses.replace(config, avg_num_nodes=1.0)
        return Recognised(
            layout=layout,
            model=describe_config(config),
            heads=heads,
            names=names,
            added={_MARK: biases} if biases else {},
            ignored=ignored,
            parameters=parameters,
            graph=graph,
            notes=notes,
            unread=unread_settings(contents, _SETTINGS, EquiformerV2Config),
        )

    def entries(
        self, variables: Mapping[str, Any], heads: tuple[HeadConfig, ...]
    ) -> Iterator[tuple[str, Path, str, tuple[int, ...]]]:
        """Every variable as (collection, path, entry, shape of the entry)."""
        # The name map needs a head; a backbone alone has no entries of one.
        return checkpoint_entries(variables, heads or (HeadConfig(name="none"),))

    change_layout = staticmethod(to_checkpoint_layout)
    export = staticmethod(export_equiformer)


def _layout(contents: Contents) -> str:
    if _MARK in contents.tensors:
        return "fairchem"
    if any(name.startswith("output_heads.") for name in contents.tensors):
        return "fairchem_hydra"
    return "efficient_atom"


def _assign(
    contents: Contents, backbone_only: bool
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Entry → name in the file, name → reason for ignoring it, and the trained parameters."""
    names: dict[str, str] = {}
    ignored: dict[str, str] = {}
    parameters, unknown = [], []
    # A head may come with the backbone's own prefix, in the oldest files of efficient-atom.
    nested = _MARK not in contents.tensors
    for name in contents.tensors:
        inner = name.removeprefix("backbone.") if nested else name
        head = next((m[1] for p in _HEADS if (m := re.fullmatch(p, inner))), None)
        if re.fullmatch(_BUFFERS, inner):
            ignored[name] = BUFFER
        elif inner == ELEMENT_ENERGIES:
            ignored[name] = "energies of elements, kept in the references"
        elif re.match(r"(?:train|val|test)_metrics\.|task_steps\.", name):
            ignored[name] = METRIC
        elif re.fullmatch(_DENOISING, inner):
            parameters.append(name)
            bias = inner.endswith("_embedding.bias")
            ignored[name] = EMBEDDED if bias else DENOISED
        elif head is not None:
            parameters.append(name)
            if backbone_only:
                ignored[name] = NO_HEAD
            elif head in names:
                raise ConvertError(f"{name} and {names[head]} are of two heads; atomjax's "
                                   "EquiformerV2 has one: use --backbone-only")  # fmt: skip
            else:
                names[head] = name
        elif inner != name or not nested:
            parameters.append(name)
            names[inner] = name
        elif backbone_only:
            parameters.append(name)
            ignored[name] = NO_HEAD
        else:
            unknown.append(name)
    if unknown:
        raise ConvertError(
            f"{len(unknown)} tensors belong to no part of EquiformerV2 as atomjax has it: "
            f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}. If they are heads of "
            "another kind, or of further tasks, convert the rest with --backbone-only"
        )
    return names, ignored, tuple(parameters)


def infer_config(
    contents: Contents, names: Mapping[str, str], settings: Mapping[str, Any]
) -> EquiformerV2Config:
    """The config of the model whose tensors a file holds.

    Args:
        contents: contents of the file.
        names: entry → name in the file.
        settings: settings of the original, for fields that no shape determines.

    Raises:
        ConvertError: a tensor that every EquiformerV2 has is missing, or one tells that the
            original differs from atomjax's model.
    """

    def shape(entry: str) -> tuple[int, ...]:
        if entry not in names:
            raise ConvertError(f"the file lacks {entry}, which every EquiformerV2 has")
        return contents.tensors[names[entry]].shape

    fields: dict[str, Any] = {f: shape(entry)[axis] for f, (entry, axis) in _SHAPES.items()}
    rows, width = shape("blocks.0.ga.so2_conv_2.fc_m0.weight")
    fields["lmax"] = shape("blocks.0.ga.proj.weight")[0] - 1
    degrees = fields["lmax"] + 1
    fields["attention_hidden"] = width // degrees
    fields["value_channels"] = rows // degrees // fields["num_heads"]
    basis = shape("blocks.0.ga.so2_conv_1.rad_func.net.0.weight")[1]
    fields["num_gaussians"] = basis - 2 * fields["edge_channels"]
    for field, pattern in _COUNTS.items():
        fields[field] = len({m[1] for entry in names if (m := re.fullmatch(pattern, entry))})
    for field in ("avg_degree", "avg_num_nodes"):
        if field in settings:
            fields[field] = float(settings[field])
    fields["cutoff"], fields["grid_resolution"] = _constants(contents, settings)
    return EquiformerV2Config(**fields)


def _constants(contents: Contents, settings: Mapping[str, Any]) -> tuple[float, int]:
    """Cutoff and grid resolution, from buffers or settings; else those of all published files."""
    cutoff = float(settings.get("max_radius", EquiformerV2Config.cutoff))
    resolution = int(settings.get("grid_resolution", EquiformerV2Config.grid_resolution))
    for name, value in contents.tensors.items():
        if re.search(r"SO3_rotation\.1\.", name):
            raise ConvertError("the original has several resolutions (lmax_list); atomjax has one")
        if name.endswith("distance_expansion.offset"):
            centres = np.linspace(0, cutoff, value.size)
            if not np.allclose(value, centres, rtol=0, atol=1e-4):
                raise ConvertError(
                    f"{name}: the Gaussians' centres are not linspace(0, {cutoff}, {value.size})"
                )
        if name.endswith("SO3_grid.0.0.to_grid_mat"):
            resolution = int(value.shape[0])
    return cutoff, resolution


def _heads(
    contents: Contents,
    names: Mapping[str, str],
    config: EquiformerV2Config,
    layout: str,
    given: tuple[str, ...] | None,
) -> tuple[HeadConfig, ...]:
    """The one head of a file."""
    if "energy_block.so3_linear_1.weight" not in names:
        raise ConvertError("the file has no energy head; convert its backbone with --backbone-only")
    if given is not None and len(given) != 1:
        raise ConvertError(f"--head-names gives {len(given)} names for one head")

    def width(entry: str, own: int, parts: int = 1) -> int | None:
        """The second length of an entry, over parts of it, where it is not the backbone's own."""
        found = contents.tensors[names[entry]].shape[1] // parts
        return None if found == own else found

    fields: dict[str, Any] = {"name": given[0] if given else "s2ef"}
    fields["hidden_channels"] = width("energy_block.so3_linear_1.weight", config.ffn_hidden)
    if forces := "force_block.so2_conv_2.fc_m0.weight" in names:
        fields["force_hidden_channels"] = width(
            "force_block.so2_conv_2.fc_m0.weight", config.attention_hidden, config.lmax + 1
        )
    if target := re.fullmatch(_PROPERTY, names["energy_block.so3_linear_1.weight"]):
        return (HeadConfig(**fields, kind="scalar", targets=(TargetConfig(name=target[1]),)),)
    kind = "energy_forces" if forces else "energy"
    # efficient-atom divides by the number of atoms, fairchem by a constant.
    pooling = "mean" if layout == "efficient_atom" else "sum"
    return (HeadConfig(**fields, kind=kind, pooling=pooling),)
