"""Whether the prediction held: ``study.json``, ``report.md`` and curves of a study."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.reporting.plots import Curve, Panel, plot_curves
from atomjax.runtime.progress import format_seconds
from atomjax.runtime.run import Run, repetition
from atomjax.studies.report import METRICS, Outcome, ReportError

SCRATCH = "scratch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """A comparison, and what became of the models that it suggested.

    Attributes:
        task: name of the downstream set.
        labels: its training structures.
        closest, farthest: names of the upstream sets that were pretrained on.
        csi: upstream set → CSI.
        confidence: that the closest is closer than the runner-up.
        outside: whether the task lies outside all candidates.
        budget: C of each pretraining, epochs × unique structures.
        seconds_comparing: wall time of the comparison.
        pretrained: upstream set → pretraining.
        outcomes: start (an upstream set, or "scratch") → one outcome for each seed.
    """

    task: str
    labels: int
    closest: str
    farthest: str
    csi: Mapping[str, float]
    confidence: float
    outside: bool
    budget: int
    seconds_comparing: float
    pretrained: Mapping[str, Outcome]
    outcomes: Mapping[str, Sequence[Outcome]]


def summarize_study(outcome: StudyOutcome) -> dict[str, Any]:
    """The content of ``study.json``.

    Raises:
        ReportError: the test set gave no error to compare.
    """
    first = outcome.outcomes[SCRATCH][0]
    measured = [name for name in METRICS if name in first.test]
    if not measured:
        raise ReportError(
            f"the test set of '{outcome.task}' gave no error to compare; give finetune.data a "
            "test split with labels"
        )
    judged = measured[0]
    errors = {
        start: [float(one.test[judged]) for one in runs] for start, runs in outcome.outcomes.items()
    }
    means = {start: float(np.mean(values)) for start, values in errors.items()}
    near, far = errors[outcome.closest], errors[outcome.farthest]
    trainings = [*outcome.pretrained.values(), *(o for r in outcome.outcomes.values() for o in r)]
    return {
        "task": outcome.task,
        "labels": outcome.labels,
        "judged_by": judged,
        "unit": METRICS[judged][1],
        "csi": dict(outcome.csi),
        "recommended": outcome.closest,
        "farthest": outcome.farthest,
        "confidence": outcome.confidence,
        "outside": outcome.outside,
        "budget": outcome.budget,
        "seeds": [one.seed for one in outcome.outcomes[SCRATCH]],
        "errors": errors,
        "mean": means,
        "held": means[outcome.closest] < means[outcome.farthest],
        "seeds_that_held": int(np.sum(np.array(near) < np.array(far))),
        "better_than_scratch": means[outcome.closest] < means[SCRATCH],
        "seconds": outcome.seconds_comparing + sum(o.seconds for o in trainings),
    }


def verdict(summary: Mapping[str, Any]) -> str:
    """The result in words, whichever way it fell."""
    near, far, mean = summary["recommended"], summary["farthest"], summary["mean"]
    name, unit = METRICS[summary["judged_by"]][0], summary["unit"]
    held = "held" if summary["held"] else "did NOT hold"
    seeds = len(summary["seeds"])
    counted = f"in {summary['seeds_that_held']} of {seeds} seeds" if seeds > 1 else "one seed"
    change = mean[near] / mean[SCRATCH] - 1
    return (
        f"The prediction {held}: on {summary['task']}, {name} after pretraining on {near} (CSI "
        f"{summary['csi'][near]:.4g}) {mean[near]:.4g} {unit}, on {far} (CSI "
        f"{summary['csi'][far]:.4g}) {mean[far]:.4g} {unit}, from scratch {mean[SCRATCH]:.4g} "
        f"{unit} ({near} ahead of {far} {counted}; {abs(change):.0%} "
        f"{'below' if change < 0 else 'above'} scratch)"
    )


def write_study(outcome: StudyOutcome, run: Run) -> dict[str, Any]:
    """Writes the report; returns the content of ``study.json``."""
    summary = summarize_study(outcome)
    run.write_json("study.json", summary)
    if run.primary:
        _plot(outcome, summary, run)
        run.path("report.md").write_text(render(outcome, summary))
    return summary


def render(outcome: StudyOutcome, summary: Mapping[str, Any]) -> str:
    """The text of ``report.md``."""
    judged = summary["judged_by"]
    head = f"{METRICS[judged][0]} ({summary['unit']})".replace(" ()", "")
    seeds = summary["seeds"]
    lines = [
        "# Did the similarity of data sets predict transfer?",
        "",
        f"**{verdict(summary)}.**",
        "",
        f"The CSI was measured before anything was trained ([details](csi/report.md)): "
        f"{_ranking(outcome)}. The same model was then pretrained on the closest and on the "
        f"farthest set with C = {outcome.budget:,} samples each, and finetuned on "
        f"{outcome.labels:,} structures of {outcome.task}; the scratch twin has the same "
        "schedule, data and seeds.",
        "",
        f"| start | CSI | {' | '.join(f'{head}, seed {seed}' for seed in seeds)} | mean |",
        "| --- | ---: |" + " ---: |" * (len(seeds) + 1),
    ]
    for start, errors in summary["errors"].items():
        csi = f"{outcome.csi[start]:.4g}" if start in outcome.csi else ""
        cells = " | ".join(f"{error:.4g}" for error in errors)
        lines.append(f"| {start} | {csi} | {cells} | {summary['mean'][start]:.4g} |")
    lines += [
        "",
        *_caveats(outcome, seeds),
        "## Time",
        "",
        "| stage | wall time |",
        "| --- | --- |",
    ]
    lines.append(f"| comparing | {format_seconds(outcome.seconds_comparing)} |")
    for name, one in outcome.pretrained.items():
        lines.append(f"| pretraining on {name} | {format_seconds(one.seconds)} |")
    for start, runs in outcome.outcomes.items():
        total = sum(one.seconds for one in runs)
        lines.append(f"| {start}, downstream | {format_seconds(total)} |")
    lines += [
        f"| together | {format_seconds(summary['seconds'])} |",
        "",
        "![plots/curves.png](plots/curves.png)",
        "",
        *repetition(),
    ]
    return "\n".join(lines)


def _ranking(outcome: StudyOutcome) -> str:
    order = sorted(outcome.csi, key=lambda name: outcome.csi[name])
    return ", ".join(f"{name} {outcome.csi[name]:.4g}" for name in order)


def _caveats(outcome: StudyOutcome, seeds: Sequence[int]) -> list[str]:
    notes = []
    if len(seeds) < 3:
        notes.append(f"{len(seeds)} seed(s): a difference of a few per cent may be chance.")
    if outcome.outside:
        notes.append(
            f"{outcome.task} lies outside all candidates, where the CSI is not expected to predict."
        )
    return [" ".join(notes), ""] if notes else []


def _plot(outcome: StudyOutcome, summary: Mapping[str, Any], run: Run) -> None:
    judged = summary["judged_by"]
    downstream = [
        Curve(label=start, steps=steps, values=values)
        for start, runs in outcome.outcomes.items()
        for one in runs
        for steps, values in _history(one, judged)
    ]
    upstream = [
        Curve(label=name, steps=steps, values=values)
        for name, one in outcome.pretrained.items()
        for steps, values in _history(one, "loss")
    ]
    panels = [
        Panel(title="pretraining", y_label="validation loss", curves=upstream),
        Panel(
            title=f"{outcome.task}, {outcome.labels} labels",
            y_label=f"validation {METRICS[judged][0]} ({summary['unit']})",
            curves=downstream,
        ),
    ]
    plot_curves(panels, run.path("plots", "curves.png"))


def _history(outcome: Outcome, metric: str) -> list[tuple[list[float], list[float]]]:
    """Steps and validation values of a metric; nothing where it was not logged."""
    points = [
        (record["step"], value)
        for record in outcome.history
        for name, value in record.items()
        if name == f"validation/{metric}"
        or (name.startswith("validation/") and name.endswith(f"/{metric}"))
    ]
    return [([p[0] for p in points], [p[1] for p in points])] if points else []
