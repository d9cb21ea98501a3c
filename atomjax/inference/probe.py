"""Workflow "probe": a linear head on a pretrained backbone, fitted in closed form.

    features/<part>/    features of the structures to fit and to validate, kept for the next start

Ridge regression of energies, or of scalar properties, on the features of a structure's atoms,
summed or averaged as the head pools them. The result is a checkpoint like any other, with a head of
one linear layer; so forces and stresses are derivatives of the energy, though no label of theirs is
fitted.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.batching import GraphDataset
from atomjax.inference.embeddings import Embedder
from atomjax.inference.feature_files import write_features
from atomjax.models import find_backbone
from atomjax.models.heads import value_key
from atomjax.models.network import head_key
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.similarity.features.extractor import BackboneExtractor
from atomjax.structures import ClassLabels, Structure
from atomjax.training.checks import check_settings
from atomjax.training.finetune import check_alone, load_pretrained
from atomjax.training.from_settings import Variables, model_config
from atomjax.training.running.leaves import backbone_of
from atomjax.training.session import Session
from atomjax.training.settings import RegularizationSettings, RunSettings
from atomjax.training.update.optimizer import count_parameters

# Ridge strengths to choose from, in units of the mean squared singular value of the features.
STRENGTHS = 10.0 ** np.arange(-10, 3.5, 0.5)


def probe(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Fits a linear head on the features of a checkpoint, and tests it.

    The strength of the ridge is that of the smallest mean absolute error on the validation part.

    Args:
        config: settings of workflow "probe", or a config that makes them; of ``train`` the sizes
            of batches count, and the number of structures.
        run: receives features, checkpoint, test predictions and ``results.json``.

    Returns:
        See :meth:`atomjax.training.session.Session.train`; also "probe": output → the "strength"
        chosen, the "validation_mae" in the model's units, and the "log_evidence" for a label.

    Raises:
        ConfigError: there is no checkpoint or no validation part, or the head is not linear.
        CheckpointError: the checkpoint is missing or of another model.
    """
    session = Session(linear_settings(RunSettings.from_config(config)), run)
    began = time.perf_counter()
    variables = load_pretrained(session, session.fresh_variables())
    parts = {name: session.dataset(name) for name in ("train", "validation")}
    features = {
        name: _features(session, variables, dataset, name) for name, dataset in parts.items()
    }
    head = session.heads[0]
    kernels = dict(variables["params"][head_key(head.name)])
    chosen = {}
    for key, pooling, label in _outputs(session, parts["train"]):
        rows = {
            name: _rows(dataset.structures, features[name], pooling, label)
            for name, dataset in parts.items()
        }
        for name, (values, _) in rows.items():
            if not len(values):
                raise ConfigError(f'no {name} structure of "{head.name}" has a label for {key!r}')
        weights, chosen[key] = fit_ridge(*rows["train"], *rows["validation"])
        kernels[key] = _linear(kernels[key], weights)
        strength, error = chosen[key]["strength"], chosen[key]["validation_mae"]
        at_end = " (an end of those tried)" if strength in STRENGTHS[[0, -1]] else ""
        run.say(
            f"probe of {key}: ridge strength {strength:.3g}{at_end}, validation MAE {error:.4g} "
            "model units"
        )
    params = {**variables["params"], head_key(head.name): kernels}
    results = session.keep({**variables, "params": params}, time.perf_counter() - began)
    results |= {"probe": chosen, "trained_parameters": count_parameters(kernels)}
    if run.primary:
        run.write_json("results.json", results)
    return results


def check_probe(settings: RunSettings) -> list[str]:
    """Checks a config of workflow "probe"; see :func:`atomjax.training.checks.check_settings`."""
    linear_settings(settings)
    return check_settings(settings)


def linear_settings(settings: RunSettings) -> RunSettings:
    """Settings of a probe's head: it has one layer, and starts from none of the checkpoint's.

    Raises:
        ConfigError: it is none that a linear head could be fitted for.
    """
    start, head = settings.start, settings.head
    if start.checkpoint is None:
        raise ConfigError("a probe reads the features of a checkpoint: give finetune.checkpoint")
    check_alone(settings)
    if len(settings.data.train) != 1:
        raise ConfigError(f"a probe is of one data set, not of {len(settings.data.train)}")
    if head.kind == "energy_forces" and head.forces == "direct":
        raise ConfigError(
            'a probe fits energies and properties, not direct forces: set head.kind="energy", or '
            'head.forces="conservative" for those that follow from the energy'
        )
    for target in head.targets:
        if target.kind != "number" or target.pooling not in ("sum", "mean"):
            raise ConfigError(
                f'a probe is linear: "{target.name}" must be a number of pooling "sum" or "mean"'
            )
    train = dataclasses.replace(
        settings.train, epochs=1, budget=None, lora=None, regularization=RegularizationSettings()
    )
    # The upstream set is tested; nothing is trained that could forget it.
    replay = start.replay and dataclasses.replace(start.replay, share=0.0)
    linear = settings.replace(
        train=train,
        head=dataclasses.replace(head, num_layers=1),
        finetune=dataclasses.replace(start, head_from=None, replay=replay),
    )
    backbone = find_backbone(model_config(linear))
    if "num_layers" not in backbone.head_sizes:
        raise ConfigError(
            f"a probe is a head of one layer, and those of {backbone.name} have a fixed depth"
        )
    return linear


def fit_ridge(
    values: np.ndarray, labels: np.ndarray, others: np.ndarray, their_labels: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    """Ridge regression without intercept, its strength chosen on other rows.

    Args:
        values: [S, d] rows to fit.
        labels: [S].
        others: [V, d] rows to choose by.
        their_labels: [V].

    Returns:
        [d] weights; the strength, the mean absolute error on the other rows, and the largest log
        evidence for a label, see :func:`log_evidence`.
    """
    # All columns as large as each other: what a feature is worth does not follow from its size.
    sizes = np.sqrt(np.mean(values**2, axis=0))
    sizes[sizes == 0] = 1.0
    left, singular, right = np.linalg.svd(values / sizes, full_matrices=False)
    projected, mean = left.T @ labels, np.mean(singular**2)
    # [strengths, d]
    shrunk = singular * projected / (singular**2 + STRENGTHS[:, None] * mean)
    weights = shrunk @ right / sizes
    errors = np.abs(others @ weights.T - their_labels[:, None]).mean(axis=0)
    best = int(errors.argmin())
    chosen = {
        "strength": float(STRENGTHS[best]),
        "validation_mae": float(errors[best]),
        "log_evidence": log_evidence(singular**2, projected, labels, STRENGTHS * mean),
    }
    return weights[best], chosen


def log_evidence(
    squares: np.ndarray, projected: np.ndarray, labels: np.ndarray, strengths: np.ndarray
) -> float:
    """The log evidence of a linear model for a label, at the best of some ridge strengths.

    The labels are Gaussian with covariance σ² (1 + X Xᵀ / strength), and σ² is the best one: LogME
    of You et al. (ICML 2021), whose iteration finds the strength.

    Args:
        squares: [r] squared singular values of the rows X.
        projected: [r] labels along the left singular vectors.
        labels: [S].
        strengths: [L] ridge strengths.
    """
    growth = 1 + squares / strengths[:, None]
    rest = max(float(labels @ labels - projected @ projected), 0.0)
    variance = ((projected**2 / growth).sum(axis=1) + rest) / len(labels)
    tiny = np.finfo(float).tiny
    logs = np.log(2 * np.pi * np.maximum(variance, tiny)) + 1
    return float(np.max(-0.5 * (logs + np.log(growth).sum(axis=1) / len(labels))))


def _features(
    session: Session, variables: Variables, dataset: GraphDataset, part: str
) -> tuple[np.ndarray, np.ndarray]:
    """[S, d] mean features of the structures, and [S] their numbers of atoms."""
    name = f"{session.model_config['name']} of {session.settings.start.checkpoint}"
    extractor = BackboneExtractor(
        name, session.model_config, backbone_of(variables), dataset.graph_config
    )
    train = session.settings.train
    size = train.validation.eval_batch_size or train.batching.batch_size
    embedder, folder = Embedder(extractor, batch_size=size), session.run.path("features", part)
    write_features(folder, part, dataset.structures, embedder, session.run)
    means = np.load(folder / "structures.npy", allow_pickle=False)
    with np.load(folder / "index.npz", allow_pickle=False) as index:
        return means.astype(np.float64), index["n_node"]


def _outputs(
    session: Session, dataset: GraphDataset
) -> list[tuple[str, str, Callable[[Structure], float | None]]]:
    """Key, pooling and label in the model's units of each output of the head."""
    head, found = session.heads[0], []
    references = dataset.references
    if head.kind != "scalar" and references is not None:

        def energy(structure: Structure) -> float | None:
            if structure.energy is None:
                return None
            return references.residual_energy(structure) / references.energy_scale

        found.append(("energy", head.pooling, energy))
    for i, (target, scale) in enumerate(zip(head.targets, dataset.scales, strict=True)):
        assert not isinstance(scale, ClassLabels)

        def value(structure: Structure, scale=scale) -> float | None:
            return scale.normalize(structure) if scale.name in structure.targets else None

        found.append((value_key(i), target.pooling, value))
    return found


def _rows(
    structures: Sequence[Structure],
    features: tuple[np.ndarray, np.ndarray],
    pooling: str,
    label: Callable[[Structure], float | None],
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features and labels of the structures that have one."""
    labels = [label(structure) for structure in structures]
    known = np.array([one is not None for one in labels])
    means, n_atoms = features
    pooled = means if pooling == "mean" else means * n_atoms[:, None]
    return pooled[known], np.array([one for one in labels if one is not None], dtype=np.float64)


def _linear(fresh: Mapping[str, Any], weights: np.ndarray) -> dict[str, Any]:
    """Parameters of an output of one linear layer without bias."""
    kernel = fresh["dense_0"]["kernel"]
    return {"dense_0": {"kernel": weights.reshape(kernel.shape).astype(kernel.dtype)}}
