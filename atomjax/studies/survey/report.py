"""The survey: one model pretrained on many starts, finetuned on many tasks, against measures.

csi/                                   the similarity job of all candidates and tasks
pretrain/<start>/seed_<s>/             one pretraining for every start and seed
finetuned/<task>/<start>/seed_<s>/     from each, and from random weights ("scratch")
probed/<task>/<start>/seed_<s>/        linear probes of those on a single set, where asked for
gradients/                             how alike sets and tasks are to random weights, likewise
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from atomjax.reporting.tables import markdown_table, mean_and_std
from atomjax.similarity.analysis.rank_correlation import rank_correlation, regret
from atomjax.studies.engine import Report, Study
from atomjax.studies.results import Findings, Point
from atomjax.studies.survey.figures import correlation_plot, error_plots
from atomjax.studies.survey.settings import SurveySettings
from atomjax.studies.tables import correlation_cells, error_table, fractions
from atomjax.studies.transfer import SCRATCH, finetunings


def survey_points(settings: SurveySettings, records: Mapping[str, Any]) -> list[Point]:
    """The comparison, then seed by seed all pretrainings and all finetunings."""
    del records
    compare = settings.comparison()
    points = [Point("csi", compare, "comparing", judged=False)]
    if settings.gradients:
        by_gradients = settings.gradient_comparison()
        points.append(Point("gradients", by_gradients, "comparing gradients", judged=False))
    for seed in settings.seeds:
        starts: dict[str, str] = {}
        for start in settings.starts:
            if seed in (settings.seeds if start.seeds is None else start.seeds):
                starts[start.name] = name = f"pretrain/{start.name}/seed_{seed}"
                label, upstream = f"pretraining on {start.name}", settings.pretraining(start, seed)
                points.append(Point(name, upstream, label, seed, judged=False))
        for task in settings.tasks:
            folder, one = f"finetuned/{task.data.name}/", settings.finetuning(task, seed)
            points += finetunings(one, {**starts, SCRATCH: None}, folder)
            if settings.probe:
                points += [
                    Point(
                        f"probed/{task.data.name}/{start}/seed_{seed}",
                        settings.probing(task, seed),
                        probe_of(start),
                        seed,
                        starts[start],
                        judged=False,
                    )
                    for start in settings.singles.values()
                ]
    return points


def probe_of(start: str) -> str:
    """Label of the probes of a start."""
    return f"probe of {start}"


def report_survey(findings: Findings) -> Report:
    """Errors, distances, their rank correlation, and starts against each other."""
    settings, results = findings.settings, findings.results
    tasks = [task.data.name for task in settings.tasks]
    # In the order of the config, whichever seeds each has.
    names = (*(start.name for start in settings.starts), SCRATCH)
    points = [name for name in names if name in findings.judged]
    judged = {task: results.judged_by(points, task) for task in tasks}
    sizes = {
        start.name: f"{start.budget // start.epochs:,} × {start.epochs}"
        for start in settings.starts
    }
    columns = {"N × E": [sizes.get(point, "") for point in points]}
    ratios = {
        f"{one} / {other}": {task: results.ratios(one, other, judged[task], task) for task in tasks}
        for one, other in settings.pairs
    }
    found, at_random = correlations(findings, judged), random_regret(findings, judged)
    metrics = list(judged.items())
    lines = [
        f"Test errors of one model, mean ± standard deviation over the seeds {findings.seeds} of "
        "pretraining and finetuning; without the latter there was one seed. Upstream sets and "
        "their CSI: [csi/report.md](csi/report.md).",
        "",
        *error_table(results, points, metrics=metrics, columns=columns, first="start"),
        *_correlation_tables(found, settings, at_random),
    ]
    if ratios:
        rows = [
            [name, *(mean_and_std(by[task], 3) for task in tasks)] for name, by in ratios.items()
        ]
        words = "Mean ± standard deviation of the ratio over seeds; below 1 the first is better."
        table = markdown_table(["starts", *tasks], rows)
        lines += ["", "## Error of one start over that of another", "", words, "", *table]
    plots = error_plots(findings, judged)
    if found:
        titles = {key: one.title for key, one in predictors(settings).items()}
        plots = [correlation_plot(found, titles, settings.level), *plots]
    summary = {
        "metrics": {task: [metric, results.unit(metric, task)] for task, metric in metrics},
        "starts": {s.name: {**s.structures, "epochs": s.epochs} for s in settings.starts},
        "pairs": ratios,
        "csi": list(findings.records["csi"]["pairs"]),
        "correlations": found,
        "regret_at_random": at_random,
    }
    title = "Do distances between data sets rank pretraining sets?"
    return Report(title, lines=lines, summary=summary, plots=plots)


@dataclass(frozen=True)
class Predictor:
    """A measure as predictor of the error."""

    title: str
    sign: int  # 1 where small values mean near, -1 where large ones do


def predictors(settings: SurveySettings) -> dict[str, Predictor]:
    """Column of ``csi.csv`` → predictor: all measures, and their limits of infinite sets.

    Where starts are probed, also what the probes found, and errors under smaller budgets.
    """
    found = {}
    for column in settings.comparison().columns:
        sign = column.measure.sign
        found[column.name] = Predictor(column.title, sign)
        if column.measure.extrapolates and column.first:
            title = f"{column.title} extrapolated to infinite sets"
            found[column.fact("infinite")] = Predictor(title, sign)
    if settings.probe:
        found["probe_mae"] = Predictor("error of a linear probe", 1)
        found["log_evidence"] = Predictor("log evidence of a linear probe (LogME)", -1)
    if settings.gradients:
        found["gradient_distance"] = Predictor("distance of gradients", 1)
    for budget in settings.smaller_budgets:
        found[_error_under(budget)] = Predictor(f"error under C = {budget:,}", 1)
    return found


def _error_under(budget: int) -> str:
    """Name of the errors under a smaller budget among the predictors."""
    return f"error_under_{budget}"


def _values(findings: Findings, key: str, judged: Mapping[str, str]) -> list[list[float | None]]:
    """[K, M] values of a predictor: of a measure, or a mean over seeds of probes or errors."""
    settings, results = findings.settings, findings.results
    less = {_error_under(budget): starts for budget, starts in settings.smaller_budgets.items()}

    def value(candidate: str, start: str, task: str, metric: str) -> float | None:
        label, column = probe_of(start), key
        if key in less:
            label, column = less[key][candidate], metric
        errors = results.errors(label, column, task)
        return float(np.mean(errors)) if errors else results.values(candidate, key, task).get(None)

    return [
        [value(candidate, start, task, metric) for task, metric in judged.items()]
        for candidate, start in settings.singles.items()
    ]


def correlations(findings: Findings, judged: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Column of ``csi.csv`` → rank correlation with the errors of pretraining on single sets.

    Empty with fewer than three such starts.

    Args:
        findings: findings of the survey.
        judged: task → metric.
    """
    if len(findings.settings.singles) < 3:
        return {}
    errors, level = _errors_of_singles(findings, judged), findings.settings.level
    found = {}
    for key, predictor in predictors(findings.settings).items():
        distances = _values(findings, key, judged)
        # Extrapolation needs enough structures, distances within elements one that sets share.
        if any(value is None or np.isnan(value) for row in distances for value in row):
            continue
        far = predictor.sign * np.array(distances)
        one = rank_correlation(far, errors, level=level)
        found[key] = {
            **dataclasses.asdict(one),
            "by_task": dict(zip(judged, one.by_task.tolist(), strict=True)),
            "regret": dict(zip(judged, one.regret.tolist(), strict=True)),
        }
    return found


def random_regret(findings: Findings, judged: Mapping[str, str]) -> dict[str, float]:
    """Task → regret of a start on a single set that is chosen at random; empty without such."""
    if not findings.settings.singles:
        return {}
    means = _errors_of_singles(findings, judged).mean(axis=2)
    return dict(zip(judged, regret(means, np.ones_like(means, bool)).tolist(), strict=True))


def _errors_of_singles(findings: Findings, judged: Mapping[str, str]) -> np.ndarray:
    """[K, M, S] errors from each of K single sets on each of M tasks with each of S seeds."""
    starts, errors = findings.settings.singles.values(), findings.results.errors
    return np.array([[errors(s, metric, task) for task, metric in judged.items()] for s in starts])


def _correlation_tables(
    found: Mapping[str, Mapping[str, Any]],
    settings: SurveySettings,
    at_random: Mapping[str, float],
) -> list[str]:
    """Rank correlations of the measures with the errors, and what following each costs."""
    if not found:
        return []
    titles, tasks = predictors(settings), list(at_random)
    rows, regrets = [], []
    for key, one in sorted(found.items(), key=lambda item: -item[1]["mean"]):
        title = titles[key].title
        rows.append([title, *correlation_cells(one), f"{one['p_value']:.3f}"])
        regrets.append([title, *fractions(one["regret"])])
    regrets.append(["at random", *fractions(at_random)])
    return [
        "",
        "## Rank correlation with the error",
        "",
        "Spearman's, over the starts on a single set under the common budget: 1 where the nearer "
        f"set always gave the smaller error. The {settings.level:.0%} interval draws tasks, sets "
        "and seeds with replacement; p is the fraction of orders of the sets with at least such "
        "a mean.",
        "",
        *markdown_table(["measure", *tasks, "mean", "interval", "p"], rows),
        "",
        "## Regret",
        "",
        "How much larger the error from the nearest set is than from the best one.",
        "",
        *markdown_table(["measure", *tasks, "mean"], regrets),
    ]


SURVEY = Study(name="survey", settings=SurveySettings, points=survey_points, report=report_survey)
