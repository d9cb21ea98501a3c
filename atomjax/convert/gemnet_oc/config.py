"""The config of a GemNet-OC from the shapes of its tensors and the settings beside them."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.nesting import Contents, read_field
from atomjax.convert.sizes import describe_config
from atomjax.graphs import GraphConfig
from atomjax.models import HeadConfig
from atomjax.models.gemnet_oc import PUBLISHED_GRAPH, GemNetOCConfig

# Field of the config → tensor and axis whose length it is. "#" stands for block 0.
_SHAPES = {
    "num_elements": ("embedding.atom_embedding.weight", 0),
    "emb_size_atom": ("embedding.atom_embedding.weight", 1),
    "emb_size_edge": ("backbone.bases.edge_emb.dense.linear.weight", 0),
    "num_radial": ("backbone.bases.mlp_cbf_tint.weight", 0),
    "num_spherical": ("backbone.bases.mlp_cbf_tint.weight", 1),
    "emb_size_cbf": ("backbone.bases.mlp_cbf_tint.weight", 2),
    "emb_size_rbf": ("backbone.bases.mlp_rbf_tint.linear.weight", 0),
    "emb_size_sbf": ("backbone.bases.mlp_sbf_qint.weight", 2),
    "emb_size_trip_in": ("#trip_interaction.down_projection.linear.weight", 0),
    "emb_size_trip_out": ("#trip_interaction.up_projection_ca.linear.weight", 1),
    "emb_size_quad_in": ("#quad_interaction.down_projection.linear.weight", 0),
    "emb_size_quad_out": ("#quad_interaction.up_projection_ca.linear.weight", 1),
    "emb_size_aint_in": ("#atom_interaction.down_projection.linear.weight", 0),
    "emb_size_aint_out": ("#atom_interaction.up_projection.linear.weight", 1),
}
# Field → name of its layers, and the number of them that it does not count.
_COUNTS = {
    "num_blocks": (r"backbone\.int_blocks\.(\d+)\.", 0),
    "num_before_skip": (r"#layers_before_skip\.(\d+)\.", 0),
    "num_after_skip": (r"#layers_after_skip\.(\d+)\.", 0),
    "num_concat": (r"#residual_m\.(\d+)\.", 0),
    "num_atom": (r"#atom_update\.layers\.(\d+)\.dense_mlp\.", 0),
    "num_atom_emb_layers": (r"#atom_emb_layers\.(\d+)\.", 0),
    "num_output_afteratom": (r"backbone\.out_blocks\.0\.seq_energy2\.(\d+)\.", 0),
    "num_global_out_layers": (r"backbone\.out_mlp_E\.out_mlp\.(\d+)\.", 1),
}
_FLAGS = {
    "quad_interaction": "#quad_interaction.",
    "atom_edge_interaction": "#atom_edge_interaction.",
    "edge_atom_interaction": "#edge_atom_interaction.",
    "atom_interaction": "#atom_interaction.",
    "edge_output": "backbone.out_mlp_F.",
}
_BLOCK = "backbone.int_blocks.0."

# Settings of the original that atomjax's model has built in: name → values that mean the same.
BUILT_IN = {
    "rbf": ({"name": "gaussian"},),
    "cbf": ({"name": "spherical_harmonics"},),
    "sbf": ({"name": "legendre_outer"},),
    "rbf_spherical": (None, {}),
    "activation": ("silu", "swish", "scaled_silu", "scaled_swish"),
    "forces_coupled": (False,),
    "scale_basis": (False,),
    "unique_basis_per_layer": (False,),
    "learnable_rbf": (False,),
    "learnable_rbf_stds": (False,),
    "num_targets": (1,),
}

# fairchem's name of a field of GraphConfig → ours.
_GRAPH = {
    "cutoff": "cutoff",
    "max_neighbors": "max_neighbors",
    "max_neighbors_aeaint": "max_neighbors_a2ee2a",
    "max_neighbors_qint": "max_neighbors_qint",
    "max_neighbors_aint": "max_neighbors_a2a",
    "qint_tags": "qint_tags",
}
# fairchem's name of the cutoff of a graph beside the main one → our name of the graph.
_CUTOFFS = {"cutoff_aeaint": "a2ee2a", "cutoff_qint": "qint", "cutoff_aint": "a2a"}
# Å: distances that differ by less count as equal where fairchem's limits are not strict.
_DEGENERATE = 0.01
SETTINGS = (
    *BUILT_IN,
    *_GRAPH,
    *_CUTOFFS,
    "enforce_max_neighbors_strictly",
    "absolute_rbf_cutoff",
    "envelope",
)


def infer_config(
    shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]
) -> GemNetOCConfig:
    """The config of the model whose tensors have these shapes.

    Args:
        shapes: entry → shape.
        settings: settings of the original, for the two fields that no shape determines.

    Raises:
        ConvertError: a tensor that every GemNet-OC has is missing.
    """
    fields: dict[str, Any] = {}
    for field, prefix in _FLAGS.items():
        start = prefix.replace("#", _BLOCK)
        fields[field] = any(entry.startswith(start) for entry in shapes)
    for field, (pattern, offset) in _COUNTS.items():
        regex = re.compile(pattern.replace("#", re.escape(_BLOCK)))
        numbers = {int(match[1]) for entry in shapes if (match := regex.match(entry))}
        fields[field] = max(len(numbers) - offset, 0)
    for field, (name, axis) in _SHAPES.items():
        entry = name.replace("#", _BLOCK)
        if entry in shapes:
            fields[field] = int(shapes[entry][axis])
        elif field.startswith(("emb_size_quad", "emb_size_aint", "emb_size_sbf")):
            continue  # of an interaction that the model may do without
        else:
            raise ConvertError(f"the file lacks {entry}, from which {field} is read")
    cutoff = read_field(settings, "absolute_rbf_cutoff") or read_field(settings, "cutoff")
    if cutoff is not None:
        fields["rbf_cutoff"] = float(cutoff)
    if read_field(settings, "absolute_rbf_cutoff") is None:
        fields |= {f"rbf_cutoff_{graph}": end for graph, end in _other_cutoffs(settings).items()}
    if envelope := read_field(settings, "envelope"):
        if read_field(envelope, "name", "polynomial") != "polynomial":
            raise ConvertError(f"the original's envelope is {envelope}; atomjax has 'polynomial'")
        fields["envelope_exponent"] = int(read_field(envelope, "exponent", 5))
    return GemNetOCConfig(**fields)


def describe_gemnet(config: GemNetOCConfig, heads: Sequence[HeadConfig]) -> dict[str, Any]:
    """A model config as ``build_model`` takes it."""
    described = describe_config(config)
    # A value that follows from the heads is left out.
    if heads and config.edge_output == any(head.direct_forces for head in heads):
        described.pop("edge_output", None)
    else:
        described["edge_output"] = config.edge_output
    return described


def check_radial_basis(contents: Contents) -> None:
    """Compares the centres of the Gaussians, which are buffers, with those of our model."""
    for name, value in contents.tensors.items():
        if name.endswith(".rbf.offset"):
            centres = np.linspace(0, 1, value.size)
            if not np.allclose(value, centres, rtol=0, atol=1e-5):
                raise ConvertError(f"{name}: the Gaussians' centres are not linspace(0, 1, n)")
        elif name.endswith(".rbf.temps"):
            width = gaussian_factor(value.size)
            if not np.allclose(value, width, rtol=1e-4, atol=0):
                raise ConvertError(f"{name}: the Gaussians are not as wide as their distance")


def gaussian_factor(count: int) -> float:
    """Factor of a squared distance in the exponent of ``count`` Gaussians on [0, 1]."""
    return 0.5 * (count - 1) ** 2


def graph_config(settings: Mapping[str, Any]) -> GraphConfig:
    """The graphs of the file's settings, with JMP's values for those not given."""
    graph = PUBLISHED_GRAPH
    given: dict[str, Any] = {
        ours: settings[theirs]
        for theirs, ours in _GRAPH.items()
        if settings.get(theirs) is not None
    }
    if "qint_tags" in given:
        given["qint_tags"] = tuple(given["qint_tags"])
    if "cutoff" in given:
        given["cutoff_molecule"] = given["cutoff"]
        given |= {f"cutoff_{name}": end for name, end in _other_cutoffs(settings).items()}
    if settings.get("enforce_max_neighbors_strictly") is False:
        # The neighbour after the last is let in, too, and all that are as far away as it.
        limits = [name for name in _GRAPH.values() if name.startswith("max_neighbors")]
        given |= {name: given.get(name, getattr(graph, name)) + 1 for name in limits}
        given |= {"shells": "keep", "shell_tolerance": _DEGENERATE}
    return dataclasses.replace(graph, **given)


def _other_cutoffs(settings: Mapping[str, Any]) -> dict[str, float]:
    """Graph → Å, of those that do not end where the main graph does."""
    if read_field(settings, "cutoff") is None:
        return {}
    main = float(settings["cutoff"])
    ends = {
        graph: main if read_field(settings, theirs) is None else float(settings[theirs])
        for theirs, graph in _CUTOFFS.items()
    }
    if read_field(settings, "cutoff_aint") is None:
        ends["a2a"] = max(main, *ends.values())
    return {graph: end for graph, end in ends.items() if end != main}
