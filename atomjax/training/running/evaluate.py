"""Errors and predictions over a whole dataset, every structure counted once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from atomjax.graphs.batch import GraphBatch
from atomjax.runtime.cluster import processes
from atomjax.training.running.metrics import error_sums, physical_metrics
from atomjax.training.update.losses import (
    Reduction,
    label_counts,
    loss_sums,
    named_terms,
    own_predictions,
    own_stress,
    prediction_errors,
)
from atomjax.training.update.properties import own_values
from atomjax.training.update.state import DATA_AXIS, gather, place_batch
from atomjax.training.update.step import Apply, CountedFunction, over_devices
from atomjax.training.update.tasks import Task

StackedBatches = Callable[[], Iterable[GraphBatch]]


@dataclass(frozen=True)
class StructurePrediction:
    """Prediction for one structure, in model units."""

    dataset: int  # index of its dataset
    structure: int  # index in its dataset
    energy: float  # energy of the dataset's head; zero where it has none
    forces: np.ndarray  # [n, 3]; zero where the head has none
    # Name of each property → value, or scores [C]; zero where the head has none.
    values: Mapping[str, Any]
    stress: np.ndarray | None = None  # [3, 3], or None where no head has one


class Evaluator:
    """Evaluates any parameters on one set of batches.

    Args:
        step: result of :func:`make_evaluation_step`; evaluators of one model share it, so that
            of one shape are compiled once.
        tasks: task i serves dataset index i.
        mesh: devices.
        batches: gives a new pass over the stacked batches.
        num_structures: number of real structures in a pass.
    """

    def __init__(
        self,
        step: CountedFunction,
        tasks: Sequence[Task],
        mesh: Mesh,
        batches: StackedBatches,
        num_structures: int,
    ):
        self._step = step
        self._tasks = tasks
        self._mesh = mesh
        self._batches = batches
        self._num_structures = num_structures

    @property
    def compile_seconds(self) -> float:
        """Wall time of the calls that were compiled."""
        return self._step.compile_seconds

    def metrics(self, variables: Any) -> dict[str, float]:
        """The loss, its terms, and errors in physical units.

        Returns:
            "loss", "loss_energy", "loss_forces", "loss_value", "loss_stress" and what
            :func:`atomjax.training.running.metrics.physical_metrics` returns.

        Raises:
            RuntimeError: if a structure was left out or counted twice.
            FloatingPointError: if the loss is not finite.
        """
        totals: Any = None
        for sums, _ in self._outputs(variables):
            sums = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(sums))
            totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
        return self._summary(totals)

    def predictions(self, variables: Any) -> list[StructurePrediction]:
        """Predictions of every structure, ordered by dataset and structure index."""
        rows: list[StructurePrediction] = []
        for _, outputs in self._outputs(variables):
            outputs = processes.from_all(outputs, rows=True)
            rows.extend(_split_structures(jax.device_get(outputs)))
        return sorted(rows, key=lambda row: (row.dataset, row.structure))

    def _outputs(self, variables: Any) -> Iterator[Any]:
        """Results of each batch, of which one is computed while the last is read."""
        pending = None
        # Averages may be divided over the devices.
        variables = gather(variables, self._mesh)
        for batch in self._batches():
            processes.advance("evaluating")
            placed = place_batch(batch, self._mesh)
            with jax.transfer_guard("disallow"):
                outputs = self._step(variables, placed)
            if pending is not None:
                yield pending
            pending = outputs
        if pending is None:
            raise RuntimeError("nothing to evaluate: there is no batch")
        yield pending

    def _summary(self, totals: Any) -> dict[str, float]:
        sums, counts, errors = totals["sums"], totals["counts"], totals["errors"]
        seen = int(errors["structures"].sum())
        if seen != self._num_structures:
            raise RuntimeError(
                f"evaluated {seen} structures of {self._num_structures}: the batches do not hold "
                "every structure exactly once"
            )
        means = jax.tree.map(lambda total, count: total / max(count, 1), sums, counts)
        terms = {name: float(term) for name, term in named_terms(means).items()}
        loss = sum(terms.values())
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss of the evaluated data is {loss}: {terms}")
        return {"loss": loss, **terms, **physical_metrics(errors, self._tasks)}


def make_evaluation_step(
    apply: Apply, tasks: Sequence[Task], mesh: Mesh, *, reduction: Reduction = "structure"
) -> CountedFunction:
    """The compiled ``(variables, batch) -> (sums over all devices, predictions of each)``."""

    def device_step(variables: Any, batch: GraphBatch):
        predictions = apply(variables, batch, train=False)
        errors = prediction_errors(predictions, batch, tasks)
        sums = {
            "sums": loss_sums(errors, batch, tasks, reduction),
            "counts": label_counts(batch, tasks, reduction),
            "errors": error_sums(errors, batch, tasks),
        }
        energy, forces = own_predictions(predictions, batch, tasks)
        outputs = {
            "energy": energy,
            "forces": forces,
            "values": own_values(predictions, batch, tasks),
            "n_node": batch.graph.n_node,
            "dataset": batch.targets.dataset,
            "structure": batch.targets.structure,
        }
        stress = own_stress(predictions, batch, tasks)
        if stress is not None:
            outputs["stress"] = stress
        stacked = jax.tree.map(lambda x: x[None], outputs)
        return jax.lax.psum(sums, DATA_AXIS), stacked

    return CountedFunction(over_devices(device_step, mesh, (P(), P(DATA_AXIS))))


def _split_structures(outputs: dict[str, Any]) -> Iterator[StructurePrediction]:
    """One item for each real structure of stacked outputs."""
    n_node, structure = outputs["n_node"], outputs["structure"]
    ends = np.cumsum(n_node, axis=1)
    for device, g in np.argwhere(structure >= 0):
        atoms = slice(ends[device, g] - n_node[device, g], ends[device, g])
        yield StructurePrediction(
            dataset=int(outputs["dataset"][device, g]),
            structure=int(structure[device, g]),
            energy=float(outputs["energy"][device, g]),
            forces=outputs["forces"][device, atoms],
            values={name: x[device, g] for name, x in outputs["values"].items()},
            stress=outputs["stress"][device, g] if "stress" in outputs else None,
        )
