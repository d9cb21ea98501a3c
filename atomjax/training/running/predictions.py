"""Predictions of a split in physical units, as files that plots are made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.batching import GraphDataset
from atomjax.runtime.files import write_npz
from atomjax.training.running.evaluate import StructurePrediction


def physical_predictions(
    rows: Sequence[StructurePrediction], dataset: GraphDataset, index: int
) -> dict[str, np.ndarray]:
    """Labels and predictions of one dataset, where there are labels.

    Args:
        rows: result of :meth:`atomjax.training.running.evaluate.Evaluator.predictions`.
        dataset: structures, references and property scales.
        index: the dataset's index in ``rows``.

    Returns:
        "identifier" [S]; with energies "energy_true", "energy_predicted" [S] eV (NaN where a
        structure has none), "n_atoms" [S]; with forces "forces_true", "forces_predicted" [A, 3]
        eV/Å of the free atoms and "forces_structure" [A], the row in "identifier" of each; with
        stresses "stress_true", "stress_predicted" [S, 3, 3] eV/Å³ (NaN likewise); with a property
        "value_true", "value_predicted" [S] in its unit.
    """
    own = [row for row in rows if row.dataset == index]
    structures = [dataset.structure(row.structure) for row in own]
    arrays: dict[str, Any] = {
        "identifier": np.array([dataset.identify(row.structure) for row in own], dtype=np.str_),
        "n_atoms": np.array([len(structure) for structure in structures]),
    }
    if dataset.scales:
        (scale,) = dataset.scales
        arrays["value_true"] = np.array([s.targets[scale.name] for s in structures])
        arrays["value_predicted"] = np.array(
            [scale.value(s.atomic_numbers, r.value) for s, r in zip(structures, own, strict=True)]
        )
        return arrays
    references = dataset.references
    if references is None:
        return arrays
    if any(structure.energy is not None for structure in structures):
        arrays["energy_true"] = np.array(
            [np.nan if s.energy is None else s.energy for s in structures]
        )
        arrays["energy_predicted"] = np.array(
            [
                references.energy(s.atomic_numbers, row.energy)
                for s, row in zip(structures, own, strict=True)
            ]
        )
    stresses = [row.stress for row in own if row.stress is not None]
    if stresses:
        unknown = np.full((3, 3), np.nan)
        arrays["stress_true"] = np.array(
            [unknown if s.stress is None else s.stress for s in structures]
        )
        arrays["stress_predicted"] = np.array([references.stress(stress) for stress in stresses])
    labelled = [i for i, s in enumerate(structures) if s.forces is not None]
    if labelled:
        free = [~structures[i].fixed for i in labelled]
        pairs = list(zip(labelled, free, strict=True))
        arrays["forces_true"] = np.concatenate([_forces(structures[i])[f] for i, f in pairs])
        arrays["forces_predicted"] = np.concatenate(
            [references.forces(own[i].forces)[f] for i, f in pairs]
        )
        arrays["forces_structure"] = np.repeat(labelled, [int(f.sum()) for f in free])
    return arrays


def _forces(structure: Any) -> np.ndarray:
    return np.asarray(structure.forces)


def write_predictions(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as one ``.npz``, whole or not at all."""
    write_npz(path, arrays, compressed=True)
