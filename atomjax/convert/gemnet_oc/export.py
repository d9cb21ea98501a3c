"""GemNet-OC models of ours under the names of the original codes, complete with their buffers."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.family import Exported
from atomjax.convert.gemnet_oc.config import gaussian_factor
from atomjax.convert.gemnet_oc.layouts import Layout
from atomjax.models import HeadConfig, backbone_config
from atomjax.models.bases import gaussian_centres
from atomjax.models.gemnet_oc import GEMNET_OC, GemNetOCConfig

# Modules of the original that hold Gaussians, and the interaction that each serves.
_RADIAL = {
    "radial_basis": None,
    "cbf_basis_qint.radial_basis": "quad_interaction",
    "sbf_basis_qint.radial_basis": "quad_interaction",
    "radial_basis_aeaint": "atom_edge_interaction edge_atom_interaction",
    "cbf_basis_aeint.radial_basis": "atom_edge_interaction",
    "cbf_basis_eaint.radial_basis": "edge_atom_interaction",
    "radial_basis_aint": "atom_interaction",
    "cbf_basis_tint.radial_basis": None,
}


def export_gemnet(
    model: Mapping[str, Any],
    heads: tuple[HeadConfig, ...],
    entries: Mapping[str, np.ndarray],
) -> Exported:
    """A GemNet-OC under the names that the original gives such a one.

    Args:
        model: its config.
        heads: its heads; none for the backbone alone, in the layout of JMP's pretraining.
        entries: JMP's pretraining name → array, of all parameters and scale factors.

    Raises:
        ConvertError: no original has such heads.
    """
    config = backbone_config(model)
    assert isinstance(config, GemNetOCConfig)
    layout = choose_layout(heads)
    named: dict[str, np.ndarray] = dict(_buffers(config, with_widths=layout.name != "fairchem"))
    parameters = []
    without_biases = layout.name == "jmp_finetuned" and not layout.head_targets
    for entry, value in entries.items():
        if without_biases and re.fullmatch(r"output\.out_energy\.0\.\d+\.bias", entry):
            if value.any():
                raise ConvertError(
                    f"{entry} is not zero, and the original's energy heads for conservative "
                    "forces have no biases; export the backbone with --backbone-only"
                )
            continue
        alias = re.sub(r"(\bout_blocks\.\d+)\.seq_energy_pre\.", r"\1.layers.", entry)
        if alias != entry:
            named[alias] = value
        named[entry] = value
        if not entry.endswith("scale_factor"):
            parameters.append(alias)
    return Exported(
        layout=layout.name,
        tensors={layout.name_of(entry): value for entry, value in named.items()},
        parameters=tuple(layout.name_of(entry) for entry in parameters),
        settings=_settings(config, heads) if layout.name == "fairchem" else _one_basis(config),
    )


def choose_layout(heads: tuple[HeadConfig, ...]) -> Layout:
    """The original whose heads are like these; raises ConvertError where there is none."""
    if not heads:
        return Layout("jmp")
    if len({head.num_layers for head in heads}) > 1:
        depths = ", ".join(f"{head.name}: {head.num_layers} layers" for head in heads)
        raise ConvertError(
            f"heads of the original codes have one depth ({depths}); export the backbone with "
            "--backbone-only"
        )
    first = heads[0]
    alone = len(heads) == 1
    if alone and first.num_layers == 1 and not first.targets and first.pooling != "max":
        return Layout("fairchem")
    targets = [[target.name for target in head.targets] for head in heads]
    if all(head.direct_forces and head.pooling == "sum" for head in heads) and not any(targets):
        return Layout("jmp")
    properties = (len(t) == (h.kind == "scalar") for h, t in zip(heads, targets, strict=True))
    if all(properties) and all(head.forces is None for head in heads):
        named = (t[0] if t else head.name for head, t in zip(heads, targets, strict=True))
        classes = (t.name for head in heads for t in head.targets if t.num_classes)
        return Layout("jmp_finetuned", tuple(named), tuple(classes))
    if alone and first.forces == "conservative" and first.pooling == "sum" and not first.targets:
        return Layout("jmp_finetuned")
    kinds = ", ".join(
        " ".join([f"{h.name}: {h.kind}", h.forces or "without forces", h.pooling, *t])
        for h, t in zip(heads, targets, strict=True)
    )
    raise ConvertError(
        f"no original code has such heads ({kinds}); export the backbone with --backbone-only"
    )


def _buffers(config: GemNetOCConfig, *, with_widths: bool):
    """(entry, value) of the Gaussians, which the originals keep in their state_dict."""
    centres = gaussian_centres(config.num_radial)
    widths = np.full_like(centres, gaussian_factor(config.num_radial))
    for module, needs in _RADIAL.items():
        if needs is None or any(getattr(config, name) for name in needs.split()):
            yield f"backbone.bases.{module}.rbf.offset", centres.copy()
            if with_widths:
                yield f"backbone.bases.{module}.rbf.temps", widths.copy()


def _one_basis(config: GemNetOCConfig) -> dict[str, Any]:
    """Cutoff of the radial basis of JMP's network, which has one for all graphs."""
    others = ("a2ee2a", "qint", "a2a")
    if any(config.basis_cutoff(name) != config.rbf_cutoff for name in others):
        ends = ", ".join(f"{name} {config.basis_cutoff(name):g} Å" for name in others)
        raise ConvertError(
            f"the model's radial bases end at different distances (main {config.rbf_cutoff:g} Å, "
            f"{ends}), and JMP's network has one for all graphs"
        )
    return {"absolute_rbf_cutoff": config.rbf_cutoff}


def _settings(config: GemNetOCConfig, heads: tuple[HeadConfig, ...]) -> dict[str, Any]:
    """Our config under fairchem's names, as far as it determines the network."""
    sizes = dataclasses.asdict(config)
    for name in (*GEMNET_OC.basis_fields, "edge_output", "dropout", "edge_dropout"):
        del sizes[name]
    return {
        "name": "gemnet_oc",
        **sizes,
        "activation": "silu",
        "rbf": {"name": "gaussian"},
        "cbf": {"name": "spherical_harmonics"},
        "sbf": {"name": "legendre_outer"},
        "cutoff": config.rbf_cutoff,
        "cutoff_aeaint": config.basis_cutoff("a2ee2a"),
        "cutoff_qint": config.basis_cutoff("qint"),
        "cutoff_aint": config.basis_cutoff("a2a"),
        "envelope": {"name": "polynomial", "exponent": config.envelope_exponent},
        "extensive": heads[0].pooling == "sum",
        "regress_forces": heads[0].forces is not None,
        "direct_forces": heads[0].direct_forces,
    }
