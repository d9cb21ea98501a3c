"""Tensor names of GemNet-OC in the original codes, each in terms of JMP's pretraining.

jmp             JMP and efficient-atom, pretraining: ``embedding.atom_embedding.weight``,
                ``backbone.…``, ``output.out_energy.{task}.{layer}``, ``output.out_forces.…``
jmp_finetuned   their finetuning: ``embedding.weight``, ``backbone.…``, and for properties
                ``graph_outputs._module_dict.ft_mlp_{target}.out_mlp.{layer}``, for classes
                ``graph_classification_outputs.…`` likewise, for energies and forces
                ``out_energy.{layer}`` (without biases) and ``out_forces.{layer}``
fairchem        fairchem v1 and ocp: everything in one module, heads of one linear layer
fairchem_hydra  fairchem v1, later: ``backbone.…`` and ``output_heads.{energy, forces}.…``
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from atomjax.convert.family import BUFFER, METRIC

_BASES = r"((?:mlp_(?:rbf|cbf|sbf)_|(?:radial|cbf|sbf)_basis|edge_emb\.).*)"
_FAIRCHEM = (
    (r"atom_emb\.embeddings\.weight", r"embedding.atom_embedding.weight"),
    (_BASES, r"backbone.bases.\1"),
    (r"((?:int|out)_blocks\..*)", r"backbone.\1"),
)
_FAIRCHEM_HEADS = (
    (r"out_mlp_([EF])\.(.*)", r"backbone.out_mlp_\1.out_mlp.\2"),
    (r"out_(energy|forces)\.linear\.weight", r"output.out_\1.0.0.weight"),
)
TARGET = r"graph_(classification_)?outputs\._module_dict\.ft_mlp_(.+?)\."
_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "jmp": ((r"((?:embedding|backbone|output)\..*)", r"\1"),),
    "jmp_finetuned": (
        (r"embedding\.weight", r"embedding.atom_embedding.weight"),
        (r"(backbone\..*)", r"\1"),
        (r"out_(energy|forces)\.(\d+\.\w+)", r"output.out_\1.0.\2"),
    ),
    "fairchem": _FAIRCHEM + _FAIRCHEM_HEADS,
    "fairchem_hydra": tuple(
        [(rf"backbone\.{pattern}", entry) for pattern, entry in _FAIRCHEM]
        + [(rf"output_heads\.\w+\.{pattern}", entry) for pattern, entry in _FAIRCHEM_HEADS]
    ),
}
# A tensor of each layout that no other has.
_MARKS = {
    "jmp": "embedding.atom_embedding.weight",
    "jmp_finetuned": "embedding.weight",
    "fairchem": "atom_emb.embeddings.weight",
    "fairchem_hydra": "backbone.atom_emb.embeddings.weight",
}
_IGNORED = (
    (r".*\.rbf\.(?:offset|temps)", BUFFER),
    (r"task_steps\..*|(?:train|val|test)_metrics\..*", METRIC),
    (r"atomic_masses", BUFFER),
)


@dataclass(frozen=True)
class Layout:
    """One way of naming."""

    name: str  # its name
    head_targets: tuple[str, ...] = ()  # properties of a finetuned model, in order
    classes: tuple[str, ...] = ()  # those of them that are classes

    def _prefix(self, target: str) -> str:
        """Beginning of the names of the tensors of a property's head."""
        kind = "classification_" if target in self.classes else ""
        return f"graph_{kind}outputs._module_dict.ft_mlp_{target}.out_mlp."

    def entry(self, name: str) -> str | None:
        """JMP's pretraining name of a tensor; None if it is no part of the model."""
        for pattern, entry in _RULES[self.name]:
            if match := re.fullmatch(pattern, name):
                return match.expand(entry)
        if self.name == "jmp_finetuned":
            for task, target in enumerate(self.head_targets):
                prefix = self._prefix(target)
                if name.startswith(prefix):
                    return f"output.out_energy.{task}.{name.removeprefix(prefix)}"
        return None

    def name_of(self, entry: str) -> str:
        """Name of an entry in this layout, which has to be "jmp", "jmp_finetuned" or "fairchem"."""
        if self.name == "jmp_finetuned":
            for task, target in enumerate(self.head_targets):
                head = f"output.out_energy.{task}."
                entry = entry.replace(head, self._prefix(target))
            entry = re.sub(r"^output\.(out_\w+)\.0\.", r"\1.", entry)
            return entry.replace("embedding.atom_embedding.", "embedding.")
        if self.name == "fairchem":
            entry = entry.replace("embedding.atom_embedding.", "atom_emb.embeddings.")
            entry = re.sub(r"^backbone\.bases\.", "", entry)
            entry = re.sub(r"^backbone\.out_mlp_([EF])\.out_mlp\.", r"out_mlp_\1.", entry)
            entry = re.sub(r"^output\.(out_\w+)\.0\.0\.", r"\1.linear.", entry)
            return entry.removeprefix("backbone.")
        return entry


def find_layout(names: Collection[str]) -> Layout | None:
    """The layout of a file, None if it is of no GemNet-OC."""
    if not any("trip_interaction" in name for name in names):
        return None
    for layout, mark in _MARKS.items():
        if mark in names:
            found = [match for name in names if (match := re.match(TARGET, name))]
            classes = dict.fromkeys(match[2] for match in found if match[1])
            return Layout(layout, tuple(dict.fromkeys(m[2] for m in found)), tuple(classes))
    return None


def ignored_reason(name: str) -> str | None:
    """Why a tensor is not used, None if it has to be."""
    return next((reason for pattern, reason in _IGNORED if re.fullmatch(pattern, name)), None)


def without_alias(name: str) -> str:
    """The name of an output block's tensor that the name map uses.

    The originals hold the first layers of an output block under two names, ``layers``, inherited,
    and ``seq_energy_pre``.
    """
    return re.sub(r"(\bout_blocks\.\d+)\.layers\.", r"\1.seq_energy_pre.", name)
