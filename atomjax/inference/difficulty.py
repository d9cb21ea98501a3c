"""Workflow "difficulty": structures of a set chosen by how hard they are for a trained model.

    difficulty.csv    of every structure: identifier, energy and force error, difficulty, chosen
    selected/         store of the chosen structures, for kind="store" in any config
    report.html       errors of the thirds and of the choice

The code of arXiv:2502.11085 offers this for pretraining: the easiest structures, the hardest, some
of the middle third, or some of every third. There the heads of the model stay random, so that its
loss says little; here they are the checkpoint's. Without labels, the structures that the model
knows least are chosen by its tangent kernel (`atomjax.inference.tangents`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atomjax.data.settings import DatasetSettings
from atomjax.data.sources import check_source
from atomjax.data.structures import load_structures
from atomjax.inference.predict import Predictor, load_predictor
from atomjax.inference.tangents import select_least_known, tangent_products
from atomjax.reporting.report import Document, write_report
from atomjax.reporting.tables import markdown_table, table_text
from atomjax.runtime.config import ConfigError, Count, WholeNumber
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.similarity.workflow.selection_job import write_choice
from atomjax.structures import Structure
from atomjax.structures.element_fit import TABLE_SIZE, solve_elements
from atomjax.training.running.checkpoint import read_metadata

# Structures whose predictions are in memory at a time.
CHUNK = 512
THIRDS = ("low", "mid", "high")


@dataclass(frozen=True, kw_only=True)
class DifficultySettings(WorkflowSettings):
    """A choice of structures by the errors of a trained model, or by what it knows least."""

    workflow: Literal["difficulty"]
    "Choose by what is hard for a model."
    dataset: DatasetSettings
    "Set to choose from, with energies or forces unless by variance; all of it, whatever its split."
    checkpoint: str
    "Directory of a model with heads, or a name in the package."
    which: Literal["best", "latest"] = "best"
    "Checkpoint of the run, by validation or the last one."
    head: str | None = None
    "Data set whose head predicts; none: the only one."
    size: Count
    "Structures to choose."
    choose: Literal["low", "mid", "high", "mixed", "variance"] = "mid"
    "The easiest, some of the middle third, the hardest, as many of each third, or the least known."
    directions: Count = 64
    "Random directions of the parameters that stand for the tangent kernel, by variance."
    batch_size: Count = 16
    "Most structures in a batch."
    cache_dir: str | None = None
    "Directory of generated sets; none: the run directory."
    workers: WholeNumber = 0
    "Processes that label structures; 0: one per core."
    seed: int = 0
    "Seed of what is drawn within thirds, and of the directions."


@dataclass(frozen=True)
class Errors:
    """Errors of a model on S structures; NaN where label or prediction is missing."""

    energy: np.ndarray  # [S] eV per atom, beyond what an energy for each element would explain
    force: np.ndarray  # [S] eV/Å, mean length over the atoms

    def difficulty(self) -> np.ndarray:
        """[S] the mean of both, each in units of its mean over the set.

        Raises:
            ValueError: structures have neither.
        """
        both = np.stack([self.energy, self.force])
        without = int(np.isnan(both).all(axis=0).sum())
        if without:
            raise ValueError(
                f"{without:,} of {both.shape[1]:,} structures have neither energy nor forces that "
                "the model predicts; leave them out"
            )
        means = np.array([_mean(one) or 1.0 for one in both])
        return np.nanmean(both / means[:, None], axis=0)


def choose_by_difficulty(
    config: Mapping[str, Any] | DifficultySettings, run: Run
) -> dict[str, Any]:
    """Chooses structures and writes them.

    Args:
        config: settings of workflow "difficulty", or a config that makes them.
        run: receives the files that the module describes, and shows progress.

    Returns:
        "available" structures, "size", and "errors": of each third and of the choice, the mean
        "energy" (eV/atom), "force" (eV/Å) and "difficulty".

    Raises:
        ConfigError: there are fewer structures than are asked for, or a data set cannot be read.
        CheckpointError: there is no such checkpoint, or it has no heads.
        ReferencesError: an element that the model does not know.
    """
    settings = DifficultySettings.from_config(config)
    structures = load_structures(
        settings.dataset,
        cache_dir=Path(settings.cache_dir) if settings.cache_dir else run.root / "data",
        workers=settings.workers,
        run=run,
    )
    predictor = load_predictor(
        settings.checkpoint,
        settings.which,
        batch_size=settings.batch_size,
        outside_span="mark",
    )
    errors = errors_of(structures, predictor, settings.head, run)
    if settings.choose == "variance":
        chosen, difficulty = _least_known(structures, predictor, settings, run)
    else:
        difficulty = errors.difficulty()
        chosen = choice(difficulty, settings.size, settings.choose, settings.seed)
    groups = dict(zip(THIRDS, np.array_split(np.argsort(difficulty), 3), strict=True))
    summary = {
        "available": len(structures),
        "size": len(chosen),
        "errors": {
            name: {
                "energy": _mean(errors.energy[places]),
                "force": _mean(errors.force[places]),
                "difficulty": _mean(difficulty[places]),
            }
            for name, places in {**groups, "chosen": chosen}.items()
        },
    }
    if run.primary:
        _write(structures, errors, difficulty, chosen, settings, run)
        run.write_json("results.json", summary)
    write_report(lambda: _compose(settings, summary), run)
    run.wait_for_all("choice by difficulty")
    return summary


def check_difficulty(settings: DifficultySettings) -> list[str]:
    """Check what can be known of a config before reading data; see ``Workflow.check``."""
    heads = read_metadata(settings.checkpoint, settings.which)["heads"]
    names = [head["name"] for head in heads]
    if settings.head is None and len(names) > 1:
        raise ConfigError(
            f"the checkpoint has several heads: set head to one of {', '.join(names)}"
        )
    if settings.head is not None and settings.head not in names:
        raise ConfigError(
            f'head="{settings.head}": the checkpoint has {", ".join(names) or "none"}'
        )
    kinds = [head["kind"] for head in heads if settings.head in (None, head["name"])]
    if settings.choose == "variance" and "scalar" in kinds:
        raise ConfigError(
            'choose="variance" needs a head of energies or forces; choose by errors instead'
        )
    check_source(settings.dataset)
    return [f"workflow difficulty of {settings.dataset.name}, by {settings.checkpoint}"]


def _least_known(
    structures: Sequence[Structure], predictor: Predictor, settings: DifficultySettings, run: Run
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the structures chosen, and the variances [S] of all.

    Raises:
        ConfigError: there are too few structures.
    """
    _check_size(settings.size, len(structures), settings.choose)
    with run.progress(len(structures), "tangents") as tracker:
        products = tangent_products(
            structures,
            predictor,
            settings.head,
            directions=settings.directions,
            seed=settings.seed,
            told=tracker.advance,
        )
    return select_least_known(products, settings.size)


def errors_of(
    structures: Sequence[Structure], predictor: Predictor, head: str | None, run: Run
) -> Errors:
    """Errors of a model on each structure."""
    gaps = np.full(len(structures), np.nan)
    force, sizes = gaps.copy(), np.ones(len(structures))
    counts = np.zeros((len(structures), TABLE_SIZE))
    with run.progress(len(structures), "difficulty") as tracker:
        for first in range(0, len(structures), CHUNK):
            some = [structures[i] for i in range(first, min(first + CHUNK, len(structures)))]
            results = predictor(some, head, tracker.advance)
            for place, (structure, result) in enumerate(zip(some, results, strict=True), first):
                sizes[place] = len(structure)
                counts[place] = np.bincount(structure.atomic_numbers, minlength=TABLE_SIZE)
                if structure.energy is not None and result.energy is not None:
                    gaps[place] = structure.energy - result.energy
                free = ~structure.fixed
                if structure.forces is not None and result.forces is not None and free.any():
                    difference = (structure.forces - result.forces)[free]
                    force[place] = np.linalg.norm(difference, axis=1).mean()
    known = np.isfinite(gaps)
    if known.any():
        # Labels of another method differ by a constant for each element.
        gaps -= counts @ solve_elements(counts[known], gaps[known])[0]
    return Errors(np.abs(gaps) / sizes, force)


def choice(difficulty: np.ndarray, size: int, choose: str, seed: int) -> np.ndarray:
    """[size] places of the structures chosen, the easiest first.

    Args:
        difficulty: [S] difficulties.
        size: structures to choose.
        choose: "low", "mid", "high" or "mixed", as in the settings.
        seed: seed of what is drawn within thirds.

    Raises:
        ConfigError: there are too few structures.
    """
    order, rng = np.argsort(difficulty, kind="stable"), np.random.default_rng(seed)
    thirds = np.array_split(order, 3)
    most = {"mid": len(thirds[1]), "mixed": 3 * min(map(len, thirds))}.get(choose, len(order))
    _check_size(size, most, choose)
    if choose == "low":
        return order[:size]
    if choose == "high":
        return order[len(order) - size :]
    if choose == "mid":
        taken = rng.choice(thirds[1], size, replace=False)
    else:
        shares = [len(part) for part in np.array_split(np.arange(size), 3)]
        drawn = [rng.choice(t, n, replace=False) for t, n in zip(thirds, shares, strict=True)]
        taken = np.concatenate(drawn)
    return order[np.isin(order, taken)]


def _check_size(size: int, most: int, choose: str) -> None:
    """Raise ConfigError where there are too few structures to choose from."""
    if size > most:
        raise ConfigError(
            f'size={size} is more than the {most:,} structures that choose="{choose}" has; lower '
            "it, or choose otherwise"
        )


def _write(
    structures: Sequence[Structure],
    errors: Errors,
    difficulty: np.ndarray,
    chosen: np.ndarray,
    settings: DifficultySettings,
    run: Run,
) -> None:
    """The errors of all structures as a table, and the chosen ones as a store."""
    taken = np.isin(np.arange(len(structures)), chosen)
    rows = [
        {"identifier": s.identifier, "energy": e, "force": f, "difficulty": d, "chosen": int(t)}
        for s, e, f, d, t in zip(
            structures, errors.energy, errors.force, difficulty, taken, strict=True
        )
    ]
    run.write_text("difficulty.csv", table_text(rows))
    picked = (structures[i] for i in chosen.tolist())
    write_choice(run, "selected", picked, f"{settings.choose} difficulty", settings.dataset.name)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _compose(settings: DifficultySettings, summary: Mapping[str, Any]) -> Document:
    """The report."""

    def cell(value: float | None, factor: float) -> str:
        return "–" if value is None else f"{factor * value:.4g}"

    rows = [
        [name, cell(e["energy"], 1e3), cell(e["force"], 1e3), cell(e["difficulty"], 1)]
        for name, e in summary["errors"].items()
    ]
    heads = ["structures", "energy error (meV/atom)", "force error (meV/Å)", "difficulty"]
    why, meaning = "the errors", "the mean of both errors in units of their means"
    if settings.choose == "variance":
        why, meaning = "the tangent kernel", "the variance of the outputs, 1 on average"
    lines = [
        f"{summary['size']:,} of {summary['available']:,} structures of {settings.dataset.name}, "
        f'chosen as "{settings.choose}" by {why} of {settings.checkpoint}: `selected/`, for '
        '`kind="store"` in any config. Energies are compared beyond what a constant for each '
        f"element would explain; a difficulty is {meaning}.",
        "",
        *markdown_table(heads, rows),
    ]
    return Document(title="Structures by difficulty", lines=lines)
