"""What a survey found: ``survey.json``, ``report.md`` and a plot of errors against the CSI."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atomjax.reporting.plots import COLORS
from atomjax.runtime.progress import format_seconds
from atomjax.runtime.run import Run, repetition
from atomjax.similarity.measures.rank_correlation import rank_correlation
from atomjax.studies.report import METRICS, ReportError
from atomjax.studies.survey_settings import SCRATCH, SurveySettings

# Columns of ``csi.csv`` that errors are correlated with, in words.
DISTANCES = {
    "csi": "CSI",
    "csi_flat-norms": "rotation-invariant CSI (norms)",
    "csi_flat-scalars": "rotation-invariant CSI (scalars)",
    "infinite": "CSI extrapolated to infinite sets",
}


@dataclass
class SurveyOutcome:
    """What is known so far; grows while the survey runs.

    Attributes:
        settings: of the survey.
        pairs: records of the comparison, one for each candidate and task.
        metrics: task → key of ``METRICS`` that it is judged by.
        errors: (start, task) → seed → test error.
        seeds: those that are complete.
        seconds: wall time of all trainings.
    """

    settings: SurveySettings
    pairs: Sequence[Mapping[str, Any]]
    metrics: dict[str, str] = field(default_factory=dict)
    errors: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return [task.data.name for task in self.settings.tasks]

    @property
    def starts(self) -> list[str]:
        """Names of the starts, the one from random weights last."""
        return [*(start.name for start in self.settings.starts), SCRATCH]

    def of_seeds(self, start: str, task: str) -> np.ndarray:
        """[S] errors of the complete seeds that a start has."""
        errors = self.errors.get((start, task), {})
        return np.array([errors[seed] for seed in self.seeds if seed in errors])

    def ratios(self, start: str, other: str, task: str) -> np.ndarray:
        """[S] errors of one start over those of another, of the complete seeds that both have."""
        first, second = (self.errors.get((name, task), {}) for name in (start, other))
        common = [seed for seed in self.seeds if seed in first and seed in second]
        return np.array([first[seed] / second[seed] for seed in common])


def judged_error(task: str, test: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """The metric that a task is judged by, and its value.

    Raises:
        ReportError: nothing was measured on the test set.
    """
    metrics = test.get(task, {})
    for name in METRICS:
        if name in metrics:
            return name, float(metrics[name])
    raise ReportError(
        f"the test set of '{task}' gave no error to compare; give its data a test split with labels"
    )


def summarize_survey(outcome: SurveyOutcome) -> dict[str, Any]:
    """The content of ``survey.json``."""
    settings = outcome.settings
    return {
        "seeds": list(outcome.seeds),
        "metrics": {t: [outcome.metrics[t], METRICS[outcome.metrics[t]][1]] for t in outcome.tasks},
        "starts": {s.name: {**s.structures, "epochs": s.epochs} for s in settings.starts},
        "errors": {
            start: {task: outcome.of_seeds(start, task).tolist() for task in outcome.tasks}
            for start in outcome.starts
        },
        "pairs": {
            f"{start} / {other}": {
                task: outcome.ratios(start, other, task).tolist() for task in outcome.tasks
            }
            for start, other in settings.pairs
        },
        "csi": list(outcome.pairs),
        "correlations": correlations(outcome),
        "seconds": outcome.seconds,
    }


def correlations(outcome: SurveyOutcome) -> dict[str, dict[str, Any]]:
    """Distance → rank correlation with the errors of pretraining on single sets.

    Empty with fewer than three such starts.
    """
    singles = outcome.settings.singles
    if len(singles) < 3:
        return {}
    errors = np.array(
        [[outcome.of_seeds(start, task) for task in outcome.tasks] for start in singles.values()]
    )
    found = {}
    for key in _distances(outcome):
        values = {(p["upstream"], p["downstream"]): p[key] for p in outcome.pairs}
        distances = np.array([[values[c, task] for task in outcome.tasks] for c in singles])
        one = rank_correlation(distances, errors, level=outcome.settings.level)
        found[key] = {
            "by_task": dict(zip(outcome.tasks, one.by_task.tolist(), strict=True)),
            "mean": one.mean,
            "interval": list(one.interval),
            "p_value": one.p_value,
        }
    return found


def _distances(outcome: SurveyOutcome) -> list[str]:
    """Columns of distances that are known for every pair; extrapolation needs enough structures."""
    return [key for key in DISTANCES if all(p.get(key) is not None for p in outcome.pairs)]


def write_survey(outcome: SurveyOutcome, run: Run) -> dict[str, Any]:
    """Writes the report; returns the content of ``survey.json``."""
    summary = summarize_survey(outcome)
    run.write_json("survey.json", summary)
    if run.primary:
        plot_survey(outcome, run)
        run.path("report.md").write_text(render(outcome, summary))
    return summary


def render(outcome: SurveyOutcome, summary: Mapping[str, Any]) -> str:
    """The text of ``report.md``."""
    lines = [
        "# Does the CSI rank pretraining sets?",
        "",
        f"Test errors of one model, mean ± deviation over the seeds {summary['seeds']} of "
        "pretraining and finetuning; without a deviation there was one seed. Upstream "
        "sets and their CSI: [csi/report.md](csi/report.md).",
        "",
        *_error_table(outcome),
        "",
        *_csi_table(outcome),
        *_correlation_table(outcome, summary["correlations"]),
        *_pair_table(outcome, summary["pairs"]),
        "![plots/errors.png](plots/errors.png)",
        "",
        f"All trainings together took {format_seconds(outcome.seconds)}.",
        "",
        *repetition(),
    ]
    return "\n".join(lines)


def _error_table(outcome: SurveyOutcome) -> list[str]:
    heads = []
    for task in outcome.tasks:
        name, unit = METRICS[outcome.metrics[task]]
        heads.append(f"{task}: {name}" + (f" ({unit})" if unit else ""))
    lines = [
        "| start | N | E | C | " + " | ".join(heads) + " |",
        "| --- | ---: | ---: | ---: |" + " ---: |" * len(heads),
    ]
    described = {
        s.name: f"{sum(s.structures.values()):,} | {s.epochs} | {s.budget:,}"
        for s in outcome.settings.starts
    }
    for start in outcome.starts:
        cells = " | ".join(_spread(outcome.of_seeds(start, task)) for task in outcome.tasks)
        lines.append(f"| {start} | {described.get(start, ' |  | ')} | {cells} |")
    return lines


def _csi_table(outcome: SurveyOutcome) -> list[str]:
    keys = _distances(outcome)
    lines = [
        "| task | upstream | " + " | ".join(DISTANCES[key] for key in keys) + " |",
        "| --- | --- |" + " ---: |" * len(keys),
    ]
    for pair in sorted(outcome.pairs, key=lambda p: (p["downstream"], p["csi"])):
        cells = " | ".join(f"{pair[key]:.4g}" for key in keys)
        lines.append(f"| {pair['downstream']} | {pair['upstream']} | {cells} |")
    return [*lines, ""]


def _correlation_table(outcome: SurveyOutcome, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not found:
        return []
    level = f"{outcome.settings.level:.0%}"
    lines = [
        "## Rank correlation with the error",
        "",
        "Spearman's, over the starts on a single set under the common budget: 1 where the nearer "
        f"set always gave the smaller error. The {level} interval draws seeds with replacement; p "
        "is the share of orders of the sets with at least such a mean.",
        "",
        "| distance | " + " | ".join(outcome.tasks) + " | mean | interval | p |",
        "| --- |" + " ---: |" * (len(outcome.tasks) + 3),
    ]
    for key, one in found.items():
        cells = " | ".join(f"{one['by_task'][task]:.2f}" for task in outcome.tasks)
        low, high = one["interval"]
        interval = f"{low:.2f} to {high:.2f}" if len(outcome.seeds) > 1 else "one seed"
        lines.append(
            f"| {DISTANCES[key]} | {cells} | {one['mean']:.2f} | {interval} | "
            f"{one['p_value']:.3f} |"
        )
    return [*lines, ""]


def _pair_table(
    outcome: SurveyOutcome, pairs: Mapping[str, Mapping[str, Sequence[float]]]
) -> list[str]:
    if not pairs:
        return []
    lines = [
        "## Error of one start over that of another",
        "",
        "Mean ± deviation of the ratio over seeds; below 1 the first is better.",
        "",
        "| starts | " + " | ".join(outcome.tasks) + " |",
        "| --- |" + " ---: |" * len(outcome.tasks),
    ]
    for name, ratios in pairs.items():
        cells = " | ".join(_spread(np.array(ratios[task])) for task in outcome.tasks)
        lines.append(f"| {name} | {cells} |")
    return [*lines, ""]


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return ""
    deviation = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{deviation}"


def plot_survey(outcome: SurveyOutcome, run: Run) -> None:
    """Draws the errors of pretraining on single sets against the CSI, one panel a task."""
    # The canvas is named outright: pyplot would look for a display and keep global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(outcome.tasks), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(outcome.tasks), squeeze=False)[0]
    csi = {(p["upstream"], p["downstream"]): p["csi"] for p in outcome.pairs}
    for ax, task in zip(axes, outcome.tasks, strict=True):
        for color, (candidate, start) in zip(
            COLORS * len(outcome.starts), outcome.settings.singles.items(), strict=False
        ):
            errors = outcome.of_seeds(start, task)
            distance = np.full(len(errors), csi[candidate, task])
            ax.scatter(distance, errors, s=16, color=color, label=candidate)
        ax.axhline(outcome.of_seeds(SCRATCH, task).mean(), color="0.6", linewidth=0.8, zorder=0)
        name, unit = METRICS[outcome.metrics[task]]
        ax.set(title=task, xlabel="CSI", ylabel=f"{name} ({unit})" if unit else name)
    axes[-1].legend(frameon=False, title="grey: scratch")
    figure.savefig(run.path("plots", "errors.png"), dpi=120)
