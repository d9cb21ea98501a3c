"""What a sweep found: ``sweep.json``, ``sweep.md`` and, for curves, a plot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.reporting.plots import Curve, Panel, plot_curves
from atomjax.runtime.progress import format_digits
from atomjax.runtime.run import Run
from atomjax.studies.report import METRICS, ReportError
from atomjax.studies.sweep_settings import SweepSettings


def compare(settings: SweepSettings, summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of ``sweep.json``.

    Args:
        settings: of the sweep.
        summaries: variant → what :func:`atomjax.studies.repeats.summarize` returns of its seeds.

    Returns:
        Plain values: "judged_by" and "unit"; "seeds"; "reference"; "x_label"; "variants", for each
        "name", "line", "x", "changes", the errors of every dataset on the test set with mean,
        deviation and the seeds' values, "error" (that of "judged_by", a mean over the datasets)
        and "improvement" over the reference: 1 - error / error of the reference, seed by seed,
        with mean and deviation (JMP's relative improvement, table 6).

    Raises:
        ReportError: there is no test error that all variants share.
    """
    judged = _judged_by(summaries)
    errors = {name: _errors(summary, judged) for name, summary in summaries.items()}
    reference = settings.reference or settings.variants[0].name
    variants = []
    for variant in settings.variants:
        own = errors[variant.name]
        variants.append(
            {
                "name": variant.name,
                "line": variant.line,
                "x": variant.x,
                "start": variant.start,
                "changes": dict(variant.changes),
                "test": summaries[variant.name]["test"],
                "error": _spread(own),
                "improvement": _spread(1 - own / errors[reference]),
            }
        )
    return {
        "judged_by": judged,
        "unit": METRICS[judged][1] or _property_unit(settings),
        "seeds": list(settings.seeds),
        "reference": reference,
        "x_label": settings.x_label,
        "variants": variants,
    }


def _judged_by(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    measured = [
        {metric for errors in summary["test"].values() for metric in errors}
        for summary in summaries.values()
    ]
    shared = [metric for metric in METRICS if all(metric in found for found in measured)]
    if not shared:
        raise ReportError(
            "the variants share no error on a test set; give the data that they are judged by a "
            "test split with labels"
        )
    return shared[0]


def _errors(summary: Mapping[str, Any], metric: str) -> np.ndarray:
    """[seeds] the error of each seed, a mean over the datasets that have it."""
    values = [e[metric]["values"] for e in summary["test"].values() if metric in e]
    return np.mean(np.asarray(values), axis=0)


def _property_unit(settings: SweepSettings) -> str:
    finetuning = settings.base.get("finetune") or settings.base
    return str((finetuning.get("head") or {}).get("unit", ""))


def _spread(values: np.ndarray) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "deviation": deviation, "values": values.tolist()}


def write_sweep(summary: Mapping[str, Any], run: Run) -> None:
    """Writes ``sweep.json``, ``sweep.md`` and ``plots/curves.png`` where variants make curves."""
    run.write_json("sweep.json", summary)
    if not run.primary:
        return
    plots = []
    if summary["variants"][0]["x"] is not None:
        _plot(summary, run)
        plots = ["plots/curves.png"]
    run.path("sweep.md").write_text(render(summary, plots))


def render(summary: Mapping[str, Any], plots: Sequence[str] = ()) -> str:
    """The text of ``sweep.md``."""
    name, unit = METRICS[summary["judged_by"]][0], summary["unit"]
    seeds = ", ".join(map(str, summary["seeds"]))
    heading = f"{name} ({unit})" if unit else name
    lines = [
        "# Sweep",
        "",
        f"Test errors, mean ± deviation over the seeds {seeds}; the improvement is relative to "
        f"{summary['reference']} with the same seed.",
        "",
        f"| variant | {heading} | improvement | ahead in | single seeds |",
        "| --- | ---: | ---: | ---: | --- |",
        *(_row(variant, summary["reference"]) for variant in summary["variants"]),
        "",
    ]
    for plot in plots:
        lines += [f"![{plot}]({plot})", ""]
    return "\n".join(lines)


def _row(variant: Mapping[str, Any], reference: str) -> str:
    error, gain = variant["error"], variant["improvement"]
    single = ", ".join(format_digits(value, 4) for value in error["values"])
    if variant["name"] == reference:
        compared = "– | –"
    else:
        ahead = sum(value > 0 for value in gain["values"])
        deviation = f" ± {gain['deviation']:.1%}" if len(gain["values"]) > 1 else ""
        compared = f"{gain['mean']:+.1%}{deviation} | {ahead} of {len(gain['values'])}"
    spread = f" ± {format_digits(error['deviation'], 2)}"
    deviation = spread if len(error["values"]) > 1 else ""
    mean = f"{format_digits(error['mean'], 4)}{deviation}"
    return f"| {variant['name']} | {mean} | {compared} | {single} |"


def _plot(summary: Mapping[str, Any], run: Run) -> None:
    """Errors over x, one curve for each line and seed."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for variant in summary["variants"]:
        lines.setdefault(variant["line"], []).append(variant)
    curves = []
    for line, points in lines.items():
        points = sorted(points, key=lambda point: point["x"])
        for i in range(len(summary["seeds"])):
            values = [point["error"]["values"][i] for point in points]
            curves.append(Curve(label=line, steps=[p["x"] for p in points], values=values))
    name, unit = METRICS[summary["judged_by"]][0], summary["unit"]
    panel = Panel(
        title=f"{name} on the test set",
        x_label=summary["x_label"],
        y_label=f"{name} ({unit})" if unit else name,
        curves=curves,
        log_x=True,
    )
    plot_curves([panel], run.path("plots", "curves.png"))
