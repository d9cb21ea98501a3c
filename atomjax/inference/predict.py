"""Predictions in eV and eV/Å from a checkpoint alone.

    predictor = load_predictor("runs/quickstart")
    energies = [prediction.energy for prediction in predictor(structures)]

A checkpoint holds the model's config, its heads, the graphs of each data set and what was taken
out of its labels; here that is put back.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from atomjax.batching import GrowingShape
from atomjax.graphs import Capacity, GraphConfig
from atomjax.models import HeadConfig, build_model, predict
from atomjax.structures import PropertyScale, References, Structure
from atomjax.training.running.checkpoint import CheckpointError, Which, load_checkpoint
from atomjax.training.update.step import CountedFunction


@dataclass(frozen=True)
class StructureResult:
    """What a model says of one structure, in physical units; None for what it does not predict.

    Attributes:
        energy: eV, of the kind that the model was trained on.
        forces: [N, 3] eV/Å.
        value: the scalar property, in the unit of its data set.
        stress: [3, 3] eV/Å³, positive under tension; None also where not all directions repeat.
    """

    energy: float | None
    forces: np.ndarray | None
    value: float | None
    stress: np.ndarray | None = None


@dataclass(frozen=True)
class TrainedHead:
    """A head with what its data set's graphs are and what was taken out of its labels.

    Attributes:
        config: of the head; its name is that of the data set.
        graph: how graphs are built, without dropout.
        references: of energies and forces; None for a head of a property.
        scale: of the property; None for energies and forces.
    """

    config: HeadConfig
    graph: GraphConfig
    references: References | None
    scale: PropertyScale | None


class Predictor:
    """A trained model that takes structures and gives numbers in physical units.

    Batches are padded to one static shape, which grows when structures need more; each shape is
    compiled once.

    Args:
        model: config of the model, {"name": ..., **overrides}.
        variables: {"params", "scale_factors"}.
        heads: the heads, in the model's order.
        batch_size: most structures in a batch.
        slack: by which share to make the shape larger than the structures at hand need, for
            others that come later.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        variables: Mapping[str, Any],
        heads: Sequence[TrainedHead],
        *,
        batch_size: int = 16,
        slack: float = 0.0,
    ):
        self.heads = {head.config.name: head for head in heads}
        self._variables = jax.device_put(dict(variables))
        leaf = jax.tree.leaves(self._variables["params"])[0]
        self._shape = GrowingShape(batch_size, slack, np.dtype(leaf.dtype))
        network = build_model(model, [head.config for head in heads])
        self._predict = CountedFunction(functools.partial(predict, network))

    def __call__(
        self, structures: Sequence[Structure], dataset: str | None = None
    ) -> list[StructureResult]:
        """Predictions for structures, in their order.

        Args:
            structures: what to predict for; labels are not looked at.
            dataset: whose head to ask; may be left out where there is one.

        Raises:
            ValueError: there is no such head, or there are several and none is named.
            ReferencesError: an element that the training set did not hold.
            GraphError: the graph of a structure cannot be built.
        """
        head = self._head(dataset)
        # Unknown elements are found before anything is computed.
        for structure in structures:
            _zero(head, structure)
        results: dict[int, StructureResult] = {}
        for group, batch in self._shape.batches(structures, head.graph):
            raw = jax.device_get(self._predict(self._variables, batch)[head.config.name])
            own = [structures[i] for i in group]
            results.update(zip(group.tolist(), _physical(head, own, raw), strict=True))
        return [results[i] for i in range(len(structures))]

    @property
    def capacity(self) -> Capacity | None:
        """The present padded shape, None before the first prediction."""
        return self._shape.capacity

    @property
    def num_compilations(self) -> int:
        """How often the model was compiled."""
        return self._predict.num_compilations

    def _head(self, dataset: str | None) -> TrainedHead:
        names = ", ".join(self.heads)
        if dataset is None and len(self.heads) > 1:
            raise ValueError(f"the model has several heads; give dataset=, one of {names}")
        name = next(iter(self.heads)) if dataset is None else dataset
        if name not in self.heads:
            raise ValueError(f"the model has no head for data set {name!r}; it has {names}")
        return self.heads[name]


def load_predictor(
    directory: str | Path,
    which: Which = "best",
    *,
    averaged: bool = True,
    batch_size: int = 16,
    slack: float = 0.0,
) -> Predictor:
    """A predictor from a run's checkpoint, which holds all that it needs.

    Args:
        directory: a run directory, or the ``checkpoints`` directory in it.
        which: "best" by validation, or "latest".
        averaged: take the moving average of the parameters, which validation used.
        batch_size: most structures in a batch.
        slack: room in the padded shape for structures that come later, as a share.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not say how its labels were
            scaled.
    """
    variables, metadata = load_checkpoint(directory, which, averaged=averaged)
    heads = []
    for fields in metadata["heads"]:
        name = fields["name"]
        labels = metadata.get("datasets", {}).get(name)
        graph = metadata.get("graphs", {}).get(name)
        if labels is None or graph is None:
            raise CheckpointError(
                f"{directory}: the checkpoint does not say how graphs and labels of data set"
                f" {name!r} were made; finetune from it, or convert it again with its data's"
                " normalisation"
            )
        heads.append(_trained_head(fields, graph, labels))
    return Predictor(metadata["model"], variables, heads, batch_size=batch_size, slack=slack)


def _trained_head(
    fields: Mapping[str, Any], graph: Mapping[str, Any], labels: Mapping[str, Any]
) -> TrainedHead:
    references, properties = labels["references"], labels["properties"]
    return TrainedHead(
        config=HeadConfig(**fields),
        graph=GraphConfig.from_dict({**graph, "edge_dropout": 0.0}),
        references=None if references is None else References.from_dict(references),
        scale=PropertyScale.from_dict(properties[0]) if properties else None,
    )


def _zero(head: TrainedHead, structure: Structure) -> None:
    """Raise for a structure that has an element without a reference."""
    if head.references is not None:
        head.references.reference_energy(structure.atomic_numbers)
    if head.scale is not None:
        head.scale.value(structure.atomic_numbers, 0.0)


def _physical(
    head: TrainedHead, structures: Sequence[Structure], raw: Any
) -> list[StructureResult]:
    """Results of the structures of one batch."""
    results, first = [], 0
    for i, structure in enumerate(structures):
        numbers, atoms = structure.atomic_numbers, slice(first, first + len(structure))
        first += len(structure)
        energy = forces = value = stress = None
        if raw.energy is not None:
            energy = float(raw.energy[i])
            energy = head.references.energy(numbers, energy) if head.references else energy
        if raw.forces is not None:
            forces = np.asarray(raw.forces[atoms], dtype=np.float64)
            forces = head.references.forces(forces) if head.references else forces
        if raw.value is not None:
            value = float(raw.value[i])
            value = head.scale.value(numbers, value) if head.scale else value
        if raw.stress is not None and structure.pbc.all():
            stress = np.asarray(raw.stress[i], dtype=np.float64)
            stress = head.references.stress(stress) if head.references else stress
        results.append(StructureResult(energy, forces, value, stress))
    return results
