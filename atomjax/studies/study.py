"""The whole story: compare, recommend, pretrain, finetune, and see whether the prediction held.

csi/                            the similarity job
pretrain/<set>/                 on the closest and on the farthest set, under one budget
finetuned/<set>/seed_<s>/       from each of them, one for each seed
scratch/seed_<s>/               the same model, data, schedule and seed from random weights
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from atomjax.similarity.settings import SimilaritySettings, implied_pretraining
from atomjax.studies.engine import Report, Study
from atomjax.studies.results import Findings, Point, against
from atomjax.studies.tables import error_table
from atomjax.studies.transfer import SCRATCH, finetunings
from atomjax.training.running.metrics import METRICS
from atomjax.training.settings import RunSettings


def study_points(settings: SimilaritySettings, records: Mapping[str, Any]) -> list[Point]:
    """The comparison, trainings from random weights, and then those that it suggests."""
    points = [Point("csi", settings.comparison(), "comparing", judged=False)]
    scratch = {SCRATCH: None}
    if "csi" not in records:
        for downstream in downstream_settings(settings):
            points += finetunings(downstream, scratch)
        return points
    ranking = records["csi"]["recommendations"][0]["ranking"]
    pair = ranking[0], ranking[-1]
    # One N for both, so that only the set differs.
    available = min(records["csi"]["available"][name] for name in pair)
    starts = {name: f"pretrain/{name}" for name in pair}
    # The farthest first: in the quickstart its training takes longer, and what does so has to
    # begin first where two processes share the work.
    for name in reversed(pair):
        upstream, label = implied_pretraining(settings, name, available), f"pretraining on {name}"
        points.append(Point(starts[name], upstream, label, judged=False))
    for downstream in downstream_settings(settings):
        points += finetunings(downstream, starts, "finetuned/")
        points += finetunings(downstream, scratch)
    return points


def downstream_settings(settings: SimilaritySettings) -> list[RunSettings]:
    """The finetuning with each seed, whose checkpoint is not known yet."""
    given = settings.finetuning
    assert given is not None
    if given.data.cache_dir is None:
        data = dataclasses.replace(given.data, cache_dir=settings.cache_dir)
        given = dataclasses.replace(given, data=data)
    return [given.run(settings.plan.model, seed, None) for seed in given.seeds]


def report_study(findings: Findings) -> Report:
    """Whether the prediction held, whichever way it fell."""
    results, compared = findings.results, findings.records["csi"]
    choice, task = compared["recommendations"][0], findings.settings.tasks[0].name
    near, far = findings.judged[:2]
    judged = results.judged_by(findings.judged, task)
    column = findings.settings.columns[0]
    measure, csi = column.title, {p["upstream"]: p[column.name] for p in compared["pairs"]}
    errors = {label: results.errors(label, judged, task) for label in findings.judged}
    mean = {label: sum(values) / len(values) for label, values in errors.items()}
    ahead = sum(n < f for n, f in zip(errors[near], errors[far], strict=True))
    summary = {
        "task": task,
        "labels": findings.records[findings.points[-1].name]["structures"],
        "judged_by": judged,
        "unit": results.unit(judged, task),
        "csi": csi,
        "recommended": near,
        "farthest": far,
        "confidence": choice["confidence"],
        "outside": choice["outside"],
        "budget": findings.records[f"pretrain/{near}"]["budget"],
        "mean": mean,
        "held": mean[near] < mean[far],
        "seeds_that_held": ahead,
        "better_than_scratch": mean[near] < mean[SCRATCH],
    }
    unit, seeds = summary["unit"], len(errors[near])
    verdict = (
        f"The prediction {'held' if summary['held'] else 'did NOT hold'}: on {task}, "
        f"{METRICS[judged][0]} after pretraining on {near} ({measure} {csi[near]:.4g}) "
        f"{mean[near]:.4g} {unit}, on {far} ({measure} {csi[far]:.4g}) {mean[far]:.4g} {unit}, "
        f"from scratch {mean[SCRATCH]:.4g} {unit} ("
        f"{f'{near} ahead of {far} in {ahead} of {seeds} seeds' if seeds > 1 else 'one seed'}; "
        f"{against(mean[near], mean[SCRATCH])} scratch)"
    )
    order = ", ".join(f"{name} {csi[name]:.4g}" for name in choice["ranking"])
    columns = {measure: [f"{csi[n]:.4g}" if n in csi else "" for n in findings.judged]}
    lines = [
        f"The {measure} was measured before anything was trained ([details](csi/report.md)): "
        f"{order}. The same model was then pretrained on the closest and on the farthest set with "
        f"C = {summary['budget']:,} samples each, and finetuned on {summary['labels']:,} "
        f"structures of {task}; the scratch twin has the same schedule, data and seeds.",
        "",
        *error_table(results, findings.judged, reference=SCRATCH, columns=columns, first="start"),
    ]
    if seeds < 3:
        lines += ["", f"{seeds} seed(s): a difference of a few per cent may be chance."]
    if choice["outside"]:
        lines += ["", f"{task} lies outside all candidates, where it may not predict."]
    title = "Did the similarity of data sets predict transfer?"
    return Report(title, verdict, lines, summary)


def _later(settings: SimilaritySettings) -> list[str]:
    # Which sets they take is not known yet.
    return [f"then 2 pretrainings, {2 * len(downstream_settings(settings))} finetunings"]


STUDY = Study(
    name="study",
    settings=SimilaritySettings,
    points=study_points,
    report=report_study,
    notes=_later,
)
