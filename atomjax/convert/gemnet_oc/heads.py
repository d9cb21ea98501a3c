"""The heads of a GemNet-OC, from the tensors of a file and the settings beside them."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.gemnet_oc.layouts import Layout
from atomjax.convert.nesting import Contents, read_field
from atomjax.convert.settings import model_section
from atomjax.models import HeadConfig, TargetConfig

# The tasks of the published JMP models, in the order of their heads.
JMP_TASKS = ("oc20", "oc22", "ani1x", "transition1x")
FAIRCHEM_HEAD = "s2ef"

Heads = tuple[HeadConfig, ...]
Shapes = Mapping[str, tuple[int, ...]]


def find_heads(
    contents: Contents, layout: Layout, shapes: Shapes, names: tuple[str, ...] | None
) -> tuple[Heads, tuple[str, ...]]:
    """The heads of a file, with notes on choices that the file leaves open.

    Args:
        contents: contents of the file.
        layout: naming scheme of the file.
        shapes: entry → shape.
        names: names of the heads; None takes the file's, or those of the published models.

    Raises:
        ConvertError: there is no head, or one that atomjax does not have.
    """
    tasks = sorted({int(m[1]) for e in shapes if (m := re.match(r"output\.out_\w+\.(\d+)\.", e))})
    if not tasks:
        raise ConvertError("the file has no heads; convert its backbone with --backbone-only")
    if tasks != list(range(len(tasks))):
        raise ConvertError(f"the file has heads {tasks}; some between them are missing")
    named, notes = _names(contents, layout, tasks, names)
    heads = []
    for task, name in zip(tasks, named, strict=True):
        energy, forces = (
            _layers(shapes, f"output.out_{kind}.{task}.") for kind in ("energy", "forces")
        )
        if not energy:
            raise ConvertError(f"head {name!r} predicts forces but no energy, which atomjax does "
                               "not offer; use --backbone-only")  # fmt: skip
        if forces and forces != energy:
            raise ConvertError(f"head {name!r} has {energy} layers for energies and {forces} for "
                               "forces; atomjax's heads have one depth")  # fmt: skip
        kind, more = _kind(contents, layout, task, bool(forces))
        if layout.head_targets and layout.head_targets[task] in layout.classes:
            scores = shapes[f"output.out_energy.{task}.{2 * (energy - 1)}.weight"][0]
            kind["targets"] = tuple(_of_classes(target, scores) for target in kind["targets"])
        notes += more
        heads.append(HeadConfig(name=name, num_layers=energy, **kind))
    return tuple(heads), tuple(notes)


def _of_classes(target: TargetConfig, scores: int) -> TargetConfig:
    if scores < 2:
        raise ConvertError(f"head {target.name!r} has one score for two classes, and atomjax's "
                           "have one for each; convert the rest with --backbone-only")  # fmt: skip
    return dataclasses.replace(target, num_classes=scores)


def missing_biases(shapes: Shapes, heads: Heads) -> dict[str, np.ndarray]:
    """Zero for each bias that our heads have and the file's do not."""
    zeros = {}
    for task, head in enumerate(heads):
        for kind in ("energy", "forces") if head.direct_forces else ("energy",):
            prefix = f"output.out_{kind}.{task}."
            layers = range(0, 2 * (head.num_layers - 1), 2)
            absent = [f"{prefix}{layer}.bias" for layer in layers]
            if not any(entry in shapes for entry in absent):
                width = shapes[f"{prefix}0.weight"][0]
                zeros |= {entry: np.zeros(width, np.float32) for entry in absent}
    return zeros


def _layers(shapes: Shapes, prefix: str) -> int:
    return sum(e.startswith(prefix) and e.endswith(".weight") for e in shapes)


def _names(
    contents: Contents, layout: Layout, tasks: list[int], names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Names of the heads, and a note where they are a guess."""
    if names is not None:
        if len(names) != len(tasks):
            raise ConvertError(f"--head-names gives {len(names)} names for {len(tasks)} heads")
        return names, []
    if layout.name.startswith("fairchem"):
        return (FAIRCHEM_HEAD,), []
    if layout.name == "jmp_finetuned":
        return layout.head_targets or ("energy_forces",), []
    given = read_field(contents.parts.get("hyper_parameters"), "tasks")
    if isinstance(given, list) and len(given) == len(tasks):
        return tuple(str(read_field(task, "name")) for task in given), []
    if len(tasks) == len(JMP_TASKS):
        return JMP_TASKS, ["heads are named after the four tasks of the published JMP models"]
    return tuple(f"task{task}" for task in tasks), [
        "the file does not name its heads: they are task0, task1, ...; --head-names names them"
    ]


def _kind(
    contents: Contents, layout: Layout, task: int, has_forces: bool
) -> tuple[dict[str, Any], list[str]]:
    """Kind, forces, pooling and targets of a head, with notes on assumptions."""
    if layout.name.startswith("fairchem"):
        backbone = model_section(contents)
        pooling = "sum" if read_field(backbone, "extensive", True) else "mean"
        by_gradient = read_field(backbone, "regress_forces") and not has_forces
        forces = "direct" if has_forces else "conservative" if by_gradient else None
        kind = "energy_forces" if forces else "energy"
        return {"kind": kind, "forces": forces, "pooling": pooling}, []
    settings = contents.parts.get("hyper_parameters")
    if layout.head_targets:
        target = layout.head_targets[task]
        word = "classification" if target in layout.classes else "scalar"
        pooling = read_field(read_field(settings, f"graph_{word}_reduction"), target)
        pooling = pooling or read_field(settings, f"graph_{word}_reduction_default")
        notes = [] if pooling else [f"head {target!r}: the file does not say how atoms are pooled; "
                                    "'sum', JMP's default, is assumed"]  # fmt: skip
        predicted = TargetConfig(name=target, pooling=pooling or "sum")
        return {"kind": "scalar", "targets": (predicted,)}, notes
    if has_forces:
        return {"kind": "energy_forces", "forces": "direct"}, []
    by_gradient = read_field(settings, "gradient_forces")
    if by_gradient is False:
        return {"kind": "energy"}, []
    notes = [] if by_gradient else ["the file does not say where forces come from; "
                                    "'conservative' is assumed"]  # fmt: skip
    return {"kind": "energy_forces", "forces": "conservative"}, notes
