"""Normalisation of a converted model's outputs, as far as the file states it: to eV and eV/Å.

fairchem: ``normalizers`` hold mean and deviation of the labels, under the older names "target"
and "grad_target" or the newer "energy" and "forces"; ``elementrefs`` holds energies of elements.
EquiformerV2 may hold the latter among its weights.
JMP: its configs hold the deviations of each task, but not the energies of elements that its data
were referred to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.nesting import Contents, read_field
from atomjax.models import HeadConfig
from atomjax.structures import References
from atomjax.structures.elements import MAX_ATOMIC_NUMBER

Labels = dict[str, dict[str, float]]

# Deviations of the labels of JMP's four pretraining tasks, eV and eV/Å; the means are zero. Source:
# the pretraining config that its authors publish (config/jmp_l_pretrain.ipynb in their repository).
JMP_DEVIATIONS = {
    "oc20": (24.901469505465872, 0.5111534595489502),
    "oc22": (25.229595396538468, 0.25678861141204834),
    "ani1x": (2.8700712783472118, 2.131422996520996),
    "transition1x": (1.787466168382901, 0.3591422140598297),
}
_OLDER = {"target": "energy", "grad_target": "forces", "y": "energy", "force": "forces"}


def find_normalization(
    contents: Contents, heads: Sequence[HeadConfig], layout: str
) -> tuple[dict[str, Labels], dict[str, References | None], list[str]]:
    """Normalisation of the labels of each head.

    Returns:
        Head → label → {"mean", "std"}; head → references where the file tells them in full; and
        notes on what it does not tell.

    Raises:
        ConvertError: a normaliser is damaged.
    """
    if not heads:
        return {}, {}, []
    if "normalizers" in contents.parts or "config" in contents.parts:
        labels = _normalizers(contents)
        references, notes = _references(contents, labels)
        names = [head.name for head in heads]
        return dict.fromkeys(names, labels), dict.fromkeys(names, references), notes
    if layout == "jmp":
        return _jmp(contents, heads)
    given = read_field(contents.parts.get("hyper_parameters"), "normalization")
    labels = _labels(given) if given else {}
    notes = ["energies of elements are not in the file: what its heads predict cannot be turned "
             "into physical units"]  # fmt: skip
    return {h.name: labels for h in heads}, {h.name: None for h in heads}, notes


def _jmp(
    contents: Contents, heads: Sequence[HeadConfig]
) -> tuple[dict[str, Labels], dict[str, References | None], list[str]]:
    tasks = read_field(contents.parts.get("hyper_parameters"), "tasks") or []
    labels = {str(read_field(t, "name")): _labels(read_field(t, "normalization")) for t in tasks}
    for name, (energy, forces) in JMP_DEVIATIONS.items():
        if name not in labels:
            scales = {
                "energy": {"mean": 0.0, "std": energy},
                "forces": {"mean": 0.0, "std": forces},
            }
            labels[name] = scales
    notes = [
        "energies of elements are not in the file: forces can be turned into eV/Å, energies only "
        "up to a sum over the elements"
    ]
    return {h.name: labels.get(h.name, {}) for h in heads}, {h.name: None for h in heads}, notes


def _normalizers(contents: Contents) -> Labels:
    given = contents.parts.get("normalizers")
    return _labels(given) if isinstance(given, Mapping) else {}


def _labels(given: Any) -> Labels:
    """Label → {"mean", "std"} from a mapping of normalisers, whatever their class."""
    labels = {}
    for key in given if isinstance(given, Mapping) else ():
        normalizer = given[key]
        # Some versions of fairchem kept {"energy": {"normalizer": ...}}.
        normalizer = read_field(normalizer, "normalizer", normalizer)
        spread = read_field(normalizer, "rmsd")
        spread = read_field(normalizer, "std", 1.0) if spread is None else spread
        mean = read_field(normalizer, "mean", 0.0)
        try:
            labels[_OLDER.get(key, str(key))] = {
                "mean": float(np.asarray(mean).reshape(())),
                "std": float(np.asarray(spread).reshape(())),
            }
        except (TypeError, ValueError):
            raise ConvertError(f"the normaliser of {key!r} holds no number") from None
    return labels


def _references(contents: Contents, labels: Labels) -> tuple[References | None, list[str]]:
    """References, if the file holds all that the original undoes in its predictions."""
    if "energy" not in labels:
        return None, ["the file has no normaliser of energies: outputs stay in the model's units"]
    table = np.zeros(MAX_ATOMIC_NUMBER + 1)
    given = read_field(contents.parts.get("elementrefs"), "energy")
    values = read_field(given, "element_references")
    inside = next((v for n, v in contents.tensors.items() if n.endswith("energy_lin_ref")), None)
    if values is None and inside is not None:
        # EquiformerV2 holds them in units of the deviation.
        values = np.asarray(inside, np.float64) * labels["energy"]["std"]
    if values is not None:
        count = min(len(table), np.asarray(values).size)
        table[:count] = np.asarray(values).reshape(-1)[:count]
    elif used := _linear_reference(contents.parts.get("config")):
        return None, [f"the model was trained with linear references ({used}) that are not in the "
                      "file: energies lack a sum over the elements"]  # fmt: skip
    seen = np.ones(len(table), bool)
    seen[0] = False
    energy = labels["energy"]
    forces = labels.get("forces", {"std": energy["std"]})
    return References(table, energy["mean"], energy["std"], forces["std"], seen), []


def _linear_reference(config: Any) -> str | None:
    """The first file of linear references that a config names."""
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            for key, value in part.items():
                if key in ("lin_ref", "element_references") and value:
                    return str(value)
                pending.append(value)
        elif isinstance(part, list):
            pending.extend(part)
    return None
