"""Export of a checkpoint of atomjax to a file that the original code loads."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from atomjax.convert.conversion import find_model_family
from atomjax.convert.errors import ConvertError
from atomjax.convert.family import Exported
from atomjax.convert.torch_writer import write_torch_file
from atomjax.models import HeadConfig
from atomjax.structures import References
from atomjax.training.running.checkpoint import Which, load_checkpoint

Say = Callable[[str], None]


def export(
    directory: str | Path,
    path: str | Path,
    *,
    which: Which = "best",
    averaged: bool = True,
    backbone_only: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Writes the weights of a run as a ``.pt`` file of the original code.

    The file holds one set of weights. Where the original looks for averages of them as well, it
    finds the same ones.

    Args:
        directory: directory of a run, or of a converted checkpoint.
        path: path of the file; must not exist.
        which: "best" or "latest".
        averaged: the averages of the weights, which validation used.
        backbone_only: leave the heads out.
        say: receives lines of progress.

    Returns:
        The content of the file.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConvertError: the original has no counterpart of the model's heads, or the file exists.
    """
    if Path(path).exists():
        raise ConvertError(f"{path} exists; give a new file, or remove it")
    variables, metadata = load_checkpoint(directory, which, averaged=averaged)
    heads = () if backbone_only else tuple(HeadConfig.from_dict(head) for head in metadata["heads"])
    for head in heads:
        if len(head.targets) + (head.kind != "scalar") > 1:
            names = ", ".join(target.name for target in head.targets)
            raise ConvertError(
                f"head {head.name!r} predicts several quantities ({head.kind}, {names}), of which "
                "the original codes have a head each; export the backbone with --backbone-only"
            )
    params = {k: v for k, v in variables["params"].items() if heads or not k.startswith("head_")}
    family = find_model_family(metadata["model"])
    flat = {key: traverse_util.flatten_dict(tree) for key, tree in variables.items()}
    entries = {
        entry: family.change_layout(entry, np.asarray(flat[collection][leaf]))
        for collection, leaf, entry, _ in family.entries({**variables, "params": params}, heads)
    }
    exported = family.export(metadata["model"], heads, entries)
    say(f"{metadata['model']['name']} as {exported.layout}, {len(exported.tensors)} tensors")
    references = {head.name: _references_of(head, metadata) for head in heads}
    if exported.layout.startswith("jmp"):
        for name, one in references.items():
            if one is not None:
                say(_unit_note(name, one))
    content = _content(exported, references)
    write_torch_file(path, content)
    if licence := metadata.get("converted", {}).get("licence"):
        say(f"licence of the weights that these were converted from: {licence}")
    say(f"wrote {path} ({Path(path).stat().st_size / 2**20:,.1f} MiB)")
    return content


def _references_of(head: HeadConfig, metadata: Mapping[str, Any]) -> References | None:
    """References of a head's energies and forces, as its training had them."""
    given = metadata.get("datasets", {}).get(head.name, {}).get("references")
    return None if given is None else References.from_dict(given)


def _unit_note(name: str, references: References) -> str:
    """Line on the outputs of a head, for a file without a place for references."""
    elements = " and the energies of its elements" if references.element_energies.any() else ""
    return (
        f"head {name}: an energy in eV is {references.energy_scale:.6g} times the output, plus "
        f"{references.energy_mean:.6g}{elements}; forces in eV/Å are {references.force_scale:.6g} "
        "times it. This file cannot hold that; the checkpoint does"
    )


def _content(exported: Exported, heads: Mapping[str, References | None]) -> dict[str, Any]:
    """Content of an exported file: the state_dict as nested in the original code."""
    if exported.layout.startswith("jmp"):
        averages = tuple(exported.tensors[name] for name in exported.parameters)
        return {"state_dict": exported.tensors, "optimizer_states": [{"ema": averages}]}
    references = next(iter(heads.values()), None)
    labels: dict[str, Any] = {"normalizers": {}}
    if references is not None:
        scales = {
            "energy": (references.energy_mean, references.energy_scale),
            "forces": (0.0, references.force_scale),
        }
        labels["normalizers"] = {
            key: {"mean": np.array(mean, np.float32), "rmsd": np.array(scale, np.float32)}
            for key, (mean, scale) in scales.items()
        }
        if references.element_energies.any():
            table = references.element_energies.astype(np.float32)
            labels["elementrefs"] = {"energy": {"element_references": table}}
    return {
        "state_dict": exported.tensors,
        **labels,
        "config": {"model": dict(exported.settings)},
        "amp": None,
    }
