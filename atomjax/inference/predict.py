"""Predictions in eV and eV/Å from a checkpoint alone.

    predictor = load_predictor("runs/quickstart")
    energies = [prediction.energy for prediction in predictor(structures)]

A checkpoint holds the model's config, its heads, the graphs of each data set and what was taken
out of its labels; here that is put back.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from atomjax.batching import GrowingShape
from atomjax.graphs import Capacity, GraphBatch, GraphConfig
from atomjax.models import HeadConfig, build_model, predict
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.structures import PropertyScale, References, ReferencesError, Structure, TargetScale
from atomjax.structures.elements import SYMBOLS
from atomjax.structures.properties import target_scale
from atomjax.training.outset import last_element
from atomjax.training.running.checkpoint import CheckpointError, Which, load_checkpoint
from atomjax.training.running.results import StructureResult
from atomjax.training.update.step import CountedFunction

RELATIVE_ENERGY = "relative_energy"
OUTSIDE_SPAN = "outside_span"
PERIODICITY = "periodicity"
ELEMENTS = "elements"
# Meaning of each mark of a result.
MARKS = {
    RELATIVE_ENERGY: "the energy is defined up to a constant of each composition: the model was"
    " trained on forces alone",
    OUTSIDE_SPAN: "the composition is no combination of those that the references were fitted on,"
    " so that the elements' part of the result is a guess",
    PERIODICITY: "the model was trained on periodic structures alone, or on none, and this one is"
    " of the other kind",
    ELEMENTS: "the structure has elements that the model was not trained on",
}


@dataclass(frozen=True)
class TrainedHead:
    """A head with the graph settings and label references of its data set."""

    config: HeadConfig  # config of the head; its name is that of the data set
    graph: GraphConfig  # settings for building graphs, without dropout
    # References of energies and forces; None for a head of properties alone.
    references: References | None
    scales: Sequence[TargetScale]  # scales of the properties
    # Counts of structures, labels and periodic ones, and elements; empty for checkpoints that do
    # not state them.
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def without_energies(self) -> bool:
        """Whether the head is known to have been trained on no energy."""
        return self.trained_on.get("energy") == 0 and self.config.kind != "scalar"


class Predictor:
    """A trained model that takes structures and gives numbers in physical units.

    Batches are padded to one static shape, which grows when structures need more; each shape is
    compiled once.

    Attributes:
        network: the model.
        variables: {"params", "scale_factors"}, on the device.
        heads: name → head.

    Args:
        model: config of the model, {"name": ..., **overrides}.
        variables: {"params", "scale_factors"}.
        heads: the heads, in the model's order.
        batch_size: most structures in a batch.
        slack: by which share to make the shape larger than the structures at hand need, for
            others that come later.
        outside_span: treatment of compositions whose references are undetermined: "raise", or
            "mark" their results.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        variables: Mapping[str, Any],
        heads: Sequence[TrainedHead],
        *,
        batch_size: int = 16,
        slack: float = 0.0,
        outside_span: Literal["raise", "mark"] = "raise",
    ):
        if outside_span not in ("raise", "mark"):
            raise ValueError(f"outside_span={outside_span!r}; write 'raise' or 'mark'")
        self._model, self._outside_span = dict(model), outside_span
        self.heads = {head.config.name: head for head in heads}
        self.variables = jax.device_put(dict(variables))
        leaf = jax.tree.leaves(self.variables["params"])[0]
        self._shape = GrowingShape(batch_size, slack, np.dtype(leaf.dtype))
        self.network = build_model(model, [head.config for head in heads])
        self._last_element = last_element(model)
        # By data set: the energies of other heads are not differentiated.
        self._programs: dict[str, CountedFunction] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled programs are not copied: the copy compiles its own.
        options = {
            "batch_size": self._shape.batch_size,
            "slack": self._shape.slack,
            "outside_span": self._outside_span,
        }
        made = functools.partial(Predictor, **options)
        return made, (self._model, jax.device_get(self.variables), list(self.heads.values()))

    def __call__(
        self,
        structures: Sequence[Structure],
        dataset: str | None = None,
        told: Callable[[int], None] | None = None,
    ) -> list[StructureResult]:
        """Predictions for structures, in their order.

        Args:
            structures: structures to predict for; their labels are not read.
            dataset: data set whose head predicts; may be left out if there is one head.
            told: called after each batch with its number of structures.

        Raises:
            ValueError: there is no such head, or there are several and none is named.
            ReferencesError: an element that the training set did not hold, or a composition that
                the references do not tell.
            GraphError: the graph of a structure cannot be built.
        """
        head = self.head(dataset)
        # Elements and compositions that cannot be predicted are found before any computation.
        marks = [self._marks(head, structure) for structure in structures]
        results: dict[int, StructureResult] = {}
        program = self._program(head.config)
        for group, batch in self.batches(structures, head):
            raw = jax.device_get(program(self.variables, batch)[head.config.name])
            own = [structures[i] for i in group]
            results.update(zip(group.tolist(), _physical(head, own, raw), strict=True))
            if told is not None:
                told(len(group))
        return [replace(results[i], marks=marks[i]) for i in range(len(structures))]

    def _program(self, head: HeadConfig) -> CountedFunction:
        """The compiled predictions of one head."""
        if head.name not in self._programs:
            network = self.network.clone(heads=(head,))
            self._programs[head.name] = CountedFunction(functools.partial(predict, network))
        return self._programs[head.name]

    def share_programs(self, other: "Predictor") -> None:
        """Take the programs of another predictor, where they differ by the weights alone."""
        if self.network == other.network:
            self._programs = other._programs

    def batches(
        self, structures: Sequence[Structure], head: TrainedHead
    ) -> Iterator[tuple[np.ndarray, GraphBatch]]:
        """Batches of the present shape for a head, each with the places of its structures."""
        return self._shape.batches(structures, head.graph)

    def _marks(self, head: TrainedHead, structure: Structure) -> frozenset[str]:
        """Reasons to doubt the result of a structure, keys of `MARKS`.

        Raises:
            ReferencesError: there can be no result.
        """
        number = int(structure.atomic_numbers.max(initial=0))
        if number > self._last_element:
            raise ReferencesError(
                f"{structure!r} has {SYMBOLS[number]}, and the elements of this model end with "
                f"{SYMBOLS[self._last_element]}, Z = {self._last_element}; leave it out"
            )
        _zero(head, structure)
        marks, known = set(), head.trained_on
        if head.without_energies and head.config.forces == "conservative":
            marks.add(RELATIVE_ENERGY)
        if known and known["periodic"] == (0 if structure.is_periodic else known["structures"]):
            marks.add(PERIODICITY)
        if known and not {SYMBOLS[z] for z in structure.atomic_numbers} <= {*known["elements"]}:
            marks.add(ELEMENTS)
        labels = [one for one in (head.references, *head.scales) if one is not None]
        problems = [one.outside_span(structure.atomic_numbers) for one in labels]
        problem = next(filter(None, problems), None)
        if problem is not None and self._outside_span == "raise":
            raise ReferencesError(
                f"{structure!r}: {problem}; train on such compositions, or ask for outside_span="
                '"mark" to get the result with a mark'
            )
        return frozenset(marks if problem is None else {*marks, OUTSIDE_SPAN})

    @property
    def capacity(self) -> Capacity | None:
        """The present padded shape, None before the first prediction."""
        return self._shape.capacity

    @property
    def num_compilations(self) -> int:
        """Number of compilations of the model."""
        return sum(program.num_compilations for program in self._programs.values())

    def head(self, dataset: str | None = None) -> TrainedHead:
        """The head of a data set; of the only one if none is named.

        Raises:
            ValueError: there is no such head, or there are several and none is named.
        """
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
    outside_span: Literal["raise", "mark"] = "raise",
) -> Predictor:
    """A predictor from a run's checkpoint, which holds all that it needs.

    Arguments are those of `atomjax.load` and `Predictor`.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not say how its labels were
            scaled.
    """
    keep_freed_memory()
    options: dict[str, Any] = {"batch_size": batch_size, "slack": slack}
    loaded = load_checkpoint(directory, which, averaged=averaged)
    return make_predictor(*loaded, str(directory), outside_span=outside_span, **options)


def make_predictor(
    variables: Mapping[str, Any], metadata: Mapping[str, Any], name: str, **options: Any
) -> Predictor:
    """A predictor from the content of a checkpoint.

    Raises:
        CheckpointError: the checkpoint has no heads, or does not say how labels were scaled.
    """
    if not metadata["heads"]:
        raise CheckpointError(
            f"{name}: the checkpoint has no head, only a backbone, which gives features; finetune"
            " from it to predict"
        )
    heads = []
    for fields in metadata["heads"]:
        own = fields["name"]
        labels = metadata.get("datasets", {}).get(own)
        graph = metadata.get("graphs", {}).get(own)
        if labels is None or graph is None:
            raise CheckpointError(
                f"{name}: the checkpoint does not say how graphs and labels of data set"
                f" {own!r} were made; finetune from it, or convert it again with its data's"
                " normalisation"
            )
        heads.append(_trained_head(fields, graph, labels))
    return Predictor(metadata["model"], variables, heads, **options)


def _trained_head(
    fields: Mapping[str, Any], graph: Mapping[str, Any], labels: Mapping[str, Any]
) -> TrainedHead:
    references = labels["references"]
    config = HeadConfig.from_dict(fields)
    known = {one["name"]: target_scale(one) for one in labels["properties"]}
    # A converted head does not say how its numbers were scaled.
    scales = [known.get(t.name) or PropertyScale.unscaled(t.name) for t in config.targets]
    return TrainedHead(
        config=config,
        graph=GraphConfig.from_dict({**graph, "edge_dropout": 0.0}),
        references=None if references is None else References.from_dict(references),
        scales=scales,
        trained_on=labels.get("trained_on", {}),
    )


def _zero(head: TrainedHead, structure: Structure) -> None:
    """Raise for a structure with an element that has no reference."""
    try:
        if head.references is not None:
            head.references.reference_energy(structure.atomic_numbers)
        for scale in head.scales:
            scale.check_elements(structure.atomic_numbers)
    except ReferencesError as error:
        raise ReferencesError(f"{structure!r}: {error}") from error


def _physical(
    head: TrainedHead, structures: Sequence[Structure], raw: Any
) -> list[StructureResult]:
    """Results of the structures of one batch."""
    energies = not head.without_energies or head.config.forces == "conservative"
    results, first = [], 0
    for i, structure in enumerate(structures):
        atoms = slice(first, first + len(structure))
        first += len(structure)
        given = {
            "energy": raw.energy[i] if raw.energy is not None and energies else None,
            "forces": None if raw.forces is None else raw.forces[atoms],
            "values": {name: value[i] for name, value in raw.values.items()},
            "stress": raw.stress[i] if raw.stress is not None and structure.pbc.all() else None,
        }
        labels = structure.atomic_numbers, head.references, head.scales
        results.append(StructureResult.physical(*labels, **given))
    return results
