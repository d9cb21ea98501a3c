"""The transfer study: pretrain, finetune the result and a twin from random weights, and compare.

pretrain/               the pretraining
finetuned/seed_<s>/     finetuned from it, one for each seed
scratch/seed_<s>/       the same model, data, schedule and seed from random weights
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from atomjax.reporting.tables import mean_and_std
from atomjax.studies.engine import Report, Study
from atomjax.studies.figures import predictions_of
from atomjax.studies.results import Findings, Point, spread
from atomjax.studies.tables import error_table
from atomjax.training.running.metrics import METRICS
from atomjax.training.settings import RunSettings, TransferSettings

SCRATCH = "scratch"


def upstream_settings(settings: TransferSettings) -> RunSettings:
    """The pretraining of a transfer study."""
    given = settings.pretraining
    return RunSettings(
        workflow="pretrain",
        model=settings.model,
        data=given.data,
        train=given.train,
        head=given.head,
        seed=settings.seed,
        notes=settings.notes,
    )


def downstream_settings(settings: TransferSettings, seed: int) -> RunSettings:
    """The finetuning of a transfer study with one seed, without a checkpoint."""
    return settings.finetuning.run(settings.model, seed, settings.notes)


def finetunings(
    settings: RunSettings, starts: Mapping[str, str | None], folder: str = ""
) -> list[Point]:
    """Finetunings of one task and seed.

    Args:
        settings: settings of each, but for its checkpoint.
        starts: label → name of the pretraining; None for random weights.
        folder: folder of all.
    """
    return [
        Point(f"{folder}{label}/seed_{settings.seed}", settings, label, settings.seed, start)
        for label, start in starts.items()
    ]


def transfer_points(settings: TransferSettings, records: Mapping[str, Any]) -> list[Point]:
    """One pretraining, and for each seed a finetuned model and its scratch twin."""
    del records
    upstream = upstream_settings(settings)
    points = [Point("pretrain", upstream, "pretraining", judged=False)]
    for seed in settings.finetuning.seeds:
        starts = {"finetuned": "pretrain", SCRATCH: None}
        points += finetunings(downstream_settings(settings, seed), starts)
    return points


def report_transfer(findings: Findings) -> Report:
    """Finetuned against scratch, seed by seed."""
    settings, results = findings.settings, findings.results
    task = settings.finetuning.data.train[0].name
    judged = results.judged_by(findings.judged, task)
    gains = results.gains("finetuned", SCRATCH, judged, task)
    upstream = ", ".join(dataset.name for dataset in settings.pretraining.data.train)
    pretraining = findings.records["pretrain"]
    baseline = _zero_forces(findings)
    summary = {
        "judged_by": judged,
        "unit": results.unit(judged, task),
        "upstream": upstream,
        "upstream_structures": pretraining["structures"],
        "budget": pretraining["budget"],
        "downstream": task,
        "training_structures": findings.records[findings.points[-1].name]["structures"],
        "baseline": baseline,
        "improvement": spread(gains),
        "seeds_ahead": sum(gain > 0 for gain in gains),
    }
    tuned, scratch = (mean_and_std(results.errors(p, judged, task)) for p in findings.judged)
    change, seeds = summary["improvement"]["mean"], len(gains)
    gained = f", {abs(change):.0%} {'lower' if change >= 0 else 'higher'} " if gains else " "
    verdict = (
        f"{METRICS[judged][0]} on the test set of {task}: {tuned} {summary['unit']} finetuned, "
        f"{scratch} {summary['unit']} from scratch{gained}"
        + (f"(ahead in {summary['seeds_ahead']} of {seeds} seeds)" if seeds > 1 else "(one seed)")
    )
    labels = f"{summary['training_structures']:,} labels"
    lines = [
        f"Pretrained on {summary['upstream_structures']:,} structures of {upstream} (budget "
        f"C = {summary['budget']:,} samples), finetuned on {labels} of {task}; the scratch twin "
        "has the same model, schedule, data and seed. Errors are of the best weights by "
        "validation.",
        "",
        *error_table(results, findings.judged, reference=SCRATCH, first="start"),
    ]
    if baseline is not None:
        lines += ["", f"Predicting zero forces has a force MAE of {baseline:.4g} meV/Å."]
    title = "Pretrained and finetuned against trained from scratch"
    return Report(title, verdict, lines, summary)


def _zero_forces(findings: Findings) -> float | None:
    """The error of predicting zero forces, meV/Å; None where no forces are predicted."""
    judged = [point for point in findings.points if point.judged]
    for arrays in predictions_of(findings, judged[0]).values():
        if "forces_true" in arrays:
            return 1e3 * float(np.abs(arrays["forces_true"]).mean())
    return None


TRANSFER = Study(
    name="transfer", settings=TransferSettings, points=transfer_points, report=report_transfer
)
