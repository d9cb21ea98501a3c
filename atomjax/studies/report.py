"""What a transfer study found: ``report.json``, ``report.md`` and plots in the run's directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atomjax.reporting.plots import Comparison, Curve, Panel, plot_comparisons, plot_curves
from atomjax.runtime.progress import format_seconds
from atomjax.runtime.run import Run

# In order of interest: the first one that a task has is the one that results are judged by.
METRICS: Mapping[str, tuple[str, str]] = {
    "force_mae_mev_per_angstrom": ("force MAE", "meV/Å"),
    "value_mae": ("MAE", ""),
    "energy_mae_mev_per_atom": ("energy MAE", "meV/atom"),
    "energy_mae_mev": ("energy MAE", "meV"),
    "stress_mae_ev_per_cubic_angstrom": ("stress MAE", "eV/Å³"),
}
MILLI = 1e3


class ReportError(ValueError):
    """Results that no report can be made of."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One finished training.

    Attributes:
        seed: of initialisation, shuffling and dropout.
        seconds: wall time, with compilation and evaluation.
        test: test error by metric, keys of ``METRICS``; empty without a test set.
        validation: best validation error by metric.
        history: logged records, each with "step".
        predictions: arrays ``forces_true`` and ``forces_predicted`` [N, 3] eV/Å of the free
            atoms of the test set, and ``energy_true``, ``energy_predicted`` [G] eV, as far as
            the task has them.
        steps: optimiser steps made.
    """

    seed: int
    seconds: float
    test: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict)
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class TransferOutcome:
    """A pretraining and what became of it downstream.

    Attributes:
        upstream: name of the pretraining set or sets.
        upstream_structures: unique structures of the pretraining.
        budget: C = epochs × unique structures.
        downstream: name of the task.
        labels: training structures of the task.
        pretraining: outcome of the pretraining.
        finetuned: one outcome for each seed.
        scratch: the twins that started from random weights, in the same order.
        property_unit: unit of a scalar target.
    """

    upstream: str
    upstream_structures: int
    budget: int
    downstream: str
    labels: int
    pretraining: Outcome
    finetuned: Sequence[Outcome]
    scratch: Sequence[Outcome]
    property_unit: str = ""

    def __post_init__(self):
        if [o.seed for o in self.finetuned] != [o.seed for o in self.scratch]:
            raise ReportError("every finetuned seed needs its scratch twin, in the same order")
        if not self.finetuned:
            raise ReportError("no finetuned model to report; give finetune.seeds at least one seed")


def summarize(outcome: TransferOutcome) -> dict[str, Any]:
    """The content of ``report.json``.

    Returns:
        Plain values: the metric the study is judged by, each seed's test errors, mean and sample
        deviation over seeds, the relative improvement over scratch, times in seconds.

    Raises:
        ReportError: no metric of ``METRICS`` was measured on the test set.
    """
    shared = [name for name in METRICS if name in outcome.finetuned[0].test]
    if not shared:
        raise ReportError(
            f"the test set of '{outcome.downstream}' gave no error to compare; "
            "give the downstream data a test split with labels"
        )
    judged = shared[0]
    pairs = list(zip(outcome.finetuned, outcome.scratch, strict=True))
    improvements = [1 - tuned.test[judged] / scratch.test[judged] for tuned, scratch in pairs]
    return {
        "judged_by": judged,
        "unit": _unit(judged, outcome),
        "upstream": outcome.upstream,
        "upstream_structures": outcome.upstream_structures,
        "budget": outcome.budget,
        "downstream": outcome.downstream,
        "training_structures": outcome.labels,
        "baseline": _baseline(outcome.scratch[0]),
        "pretraining": {
            "seconds": outcome.pretraining.seconds,
            "steps": outcome.pretraining.steps,
            "validation": dict(outcome.pretraining.validation),
        },
        "seeds": [
            {
                "seed": tuned.seed,
                "finetuned": {"test": dict(tuned.test), "seconds": tuned.seconds},
                "scratch": {"test": dict(scratch.test), "seconds": scratch.seconds},
                "improvement": improvement,
            }
            for (tuned, scratch), improvement in zip(pairs, improvements, strict=True)
        ],
        "finetuned": {name: _spread(outcome.finetuned, name) for name in shared},
        "scratch": {name: _spread(outcome.scratch, name) for name in shared},
        "improvement": float(np.mean(improvements)),
        "seeds_ahead": int(np.sum(np.array(improvements) > 0)),
        "seconds": sum(o.seconds for o in _trainings(outcome)),
    }


def _trainings(outcome: TransferOutcome) -> list[Outcome]:
    return [outcome.pretraining, *outcome.finetuned, *outcome.scratch]


def _unit(metric: str, outcome: TransferOutcome) -> str:
    return METRICS[metric][1] or outcome.property_unit


def _spread(outcomes: Sequence[Outcome], metric: str) -> dict[str, float]:
    values = [outcome.test[metric] for outcome in outcomes]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": deviation}


def _baseline(outcome: Outcome) -> dict[str, float]:
    """Errors of predicting nothing, which every model must beat."""
    if "forces_true" not in outcome.predictions:
        return {}
    forces = outcome.predictions["forces_true"]
    return {"force_mae_mev_per_angstrom": MILLI * float(np.abs(forces).mean())}


def write_report(outcome: TransferOutcome, run: Run, *, command: str = "") -> dict[str, Any]:
    """Writes ``report.json``, ``report.md``, ``plots/curves.png`` and ``plots/forces.png``.

    Args:
        outcome: what to report.
        run: its directory takes the files.
        command: that made the run, for the reader to repeat.

    Returns:
        The content of ``report.json``.

    Raises:
        ReportError: see :func:`summarize`.
    """
    summary = summarize(outcome)
    run.write_json("report.json", summary)
    if run.primary:
        plots = _write_plots(outcome, summary, run)
        text = render(summary, outcome, plots=plots, command=command)
        run.path("report.md").write_text(text)
    return summary


def verdict(summary: Mapping[str, Any]) -> str:
    """The result in one sentence, as it is."""
    judged = summary["judged_by"]
    name, unit = METRICS[judged][0], summary["unit"]
    tuned, scratch = (summary[kind][judged] for kind in ("finetuned", "scratch"))
    seeds, ahead = len(summary["seeds"]), summary["seeds_ahead"]
    change = summary["improvement"]
    direction = "lower" if change >= 0 else "higher"
    counted = f"ahead in {ahead} of {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"{name} on the test set of {summary['downstream']}: {_number(tuned, unit)} finetuned, "
        f"{_number(scratch, unit)} from scratch, {abs(change):.0%} {direction} ({counted})"
    )


def _number(spread: Mapping[str, float], unit: str) -> str:
    deviation = f" ± {spread['std']:.3g}" if spread["std"] else ""
    return f"{spread['mean']:.4g}{deviation} {unit}".rstrip()


def render(
    summary: Mapping[str, Any],
    outcome: TransferOutcome,
    *,
    plots: Sequence[str] = (),
    command: str = "",
) -> str:
    """The text of ``report.md``."""
    lines = [
        "# Pretrained and finetuned against trained from scratch",
        "",
        f"**{verdict(summary)}.**",
        "",
        f"The backbone was pretrained on {summary['upstream_structures']:,} structures of "
        f"{summary['upstream']} (budget C = {summary['budget']:,} samples), then finetuned on "
        f"{summary['training_structures']:,} labelled structures of {summary['downstream']}. The "
        "scratch twin is the same model with random weights under the same schedule, data and "
        "seed. Errors are of the best weights by validation.",
        "",
        *_result_table(summary, outcome),
        "",
        *_baseline_lines(summary),
        "## Time",
        "",
        "| stage | wall time | steps |",
        "| --- | --- | --- |",
        *(_time_row(label, item) for label, item in _labelled(outcome)),
        f"| together | {format_seconds(summary['seconds'])} | |",
    ]
    if plots:
        lines += ["", "## Plots", ""]
        lines += [f"![{plot}]({plot})" for plot in plots]
    lines += [
        "",
        "## Again",
        "",
        *([f"    {command}", ""] if command else []),
        "`config.json` holds the resolved config with the seed, `versions.json` the versions and "
        "devices, `metrics.jsonl` in each stage's directory what was logged.",
        "",
    ]
    return "\n".join(lines)


def _result_table(summary: Mapping[str, Any], outcome: TransferOutcome) -> list[str]:
    names = [name for name in METRICS if name in summary["finetuned"]]
    heads = [f"{METRICS[name][0]} ({_unit(name, outcome)})".replace(" ()", "") for name in names]
    lines = [
        "| seed | start | " + " | ".join(heads) + " |",
        "| --- | --- |" + " ---: |" * len(names),
    ]
    for kind, items in (("pretrained", outcome.finetuned), ("scratch", outcome.scratch)):
        for item in items:
            cells = " | ".join(f"{item.test[name]:.4g}" for name in names)
            lines.append(f"| {item.seed} | {kind} | {cells} |")
    if len(outcome.finetuned) > 1:
        for kind, key in (("pretrained", "finetuned"), ("scratch", "scratch")):
            cells = " | ".join(_number(summary[key][name], "") for name in names)
            lines.append(f"| mean ± deviation | {kind} | {cells} |")
    return lines


def _baseline_lines(summary: Mapping[str, Any]) -> list[str]:
    error = summary["baseline"].get("force_mae_mev_per_angstrom")
    if error is None:
        return []
    return [f"A model that always predicts zero forces has a force MAE of {error:.4g} meV/Å.", ""]


def _labelled(outcome: TransferOutcome) -> list[tuple[str, Outcome]]:
    rows = [("pretraining", outcome.pretraining)]
    for tuned, scratch in zip(outcome.finetuned, outcome.scratch, strict=True):
        rows += [
            (f"finetuning, seed {tuned.seed}", tuned),
            (f"scratch, seed {tuned.seed}", scratch),
        ]
    return rows


def _time_row(label: str, item: Outcome) -> str:
    return f"| {label} | {format_seconds(item.seconds)} | {item.steps or ''} |"


def _write_plots(outcome: TransferOutcome, summary: Mapping[str, Any], run: Run) -> list[str]:
    judged = summary["judged_by"]
    name, unit = METRICS[judged][0], summary["unit"]
    pretraining = [
        curve
        for label, key in (("training", "train/loss"), ("validation", "validation/loss"))
        for curve in _curves(label, [outcome.pretraining], key)
    ]
    downstream = [
        *_curves("finetuned", outcome.finetuned, judged),
        *_curves("from scratch", outcome.scratch, judged),
    ]
    panels = [
        Panel(title=f"pretraining on {outcome.upstream}", y_label="loss", curves=pretraining),
        Panel(
            title=f"{outcome.downstream}, {outcome.labels} labels",
            y_label=f"validation {name} ({unit})" if unit else f"validation {name}",
            curves=downstream,
        ),
    ]
    plot_curves(panels, run.path("plots", "curves.png"))
    plots = ["plots/curves.png"]
    comparisons = [
        Comparison(
            label=label,
            true=item.predictions["forces_true"],
            predicted=item.predictions["forces_predicted"],
        )
        for label, item in (
            ("finetuned", outcome.finetuned[0]),
            ("from scratch", outcome.scratch[0]),
        )
        if "forces_true" in item.predictions
    ]
    if comparisons:
        plot_comparisons(comparisons, "force", "eV/Å", run.path("plots", "forces.png"))
        plots.append("plots/forces.png")
    return plots


def _curves(label: str, outcomes: Sequence[Outcome], key: str) -> list[Curve]:
    """One curve for each outcome of the logged values whose name is, or ends in, ``key``."""
    curves = []
    for outcome in outcomes:
        points = [
            (record["step"], value)
            for record in outcome.history
            for name, value in record.items()
            if name == key or (name.startswith("validation/") and name.endswith(f"/{key}"))
        ]
        if points:
            steps, values = zip(*points, strict=True)
            curves.append(Curve(label=label, steps=steps, values=values))
    return curves
