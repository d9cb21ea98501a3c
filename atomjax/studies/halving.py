"""Successive halving: short pretrainings on all candidates, longer ones on those that did best.

Jamieson and Talwalkar (AISTATS 2016), with upstream sets for arms. Every round has a schedule of
its own from random weights, since one that decays cannot be gone on with. Candidates are judged by
the validation part of the task; its test part is for what was chosen.

csi/                                   the similarity job
scratch/seed_<s>/                      finetuned from random weights, one for each seed
pretrain/<set>/round_<r>/              on each candidate of a round, with a share of the budget
finetuned/<set>/round_<r>/seed_<s>/    from each of them, one for each seed
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atomjax.reporting.tables import markdown_table, mean_and_std
from atomjax.runtime.progress import format_seconds
from atomjax.similarity.settings import PlanSettings, SimilaritySettings, implied_pretraining
from atomjax.studies.engine import Report, Study
from atomjax.studies.results import Findings, Point, Results, Row, against, spread
from atomjax.studies.study import downstream_settings
from atomjax.studies.tables import error_table
from atomjax.studies.transfer import SCRATCH, finetunings
from atomjax.training.checks import check_part, check_settings
from atomjax.training.running.metrics import METRICS

Records = Mapping[str, Any]
TITLE = "Which set to pretrain on, found by trials"


@dataclass(frozen=True)
class Round:
    """One round."""

    fraction: float  # fraction of the plan's budget
    names: tuple[str, ...]  # candidates in it, in the order in which they entered
    points: tuple[Point, ...]  # pretrainings and finetunings

    def is_done(self, records: Records) -> bool:
        """Test whether all is computed that says who goes on."""
        return all(point.name in records for point in self.points)

    def errors(self, records: Records) -> tuple[str, dict[str, list[float]]]:
        """The metric that candidates are judged by, and validation errors: candidate → by seed."""
        rows = [
            Row(point.label, point.seed, data_set, metric, value)
            for point in self.points
            if point.judged
            for data_set, errors in records[point.name]["validation"].items()
            for metric, value in errors.items()
        ]
        results, labels = Results(rows), [label(name, self.fraction) for name in self.names]
        metric = results.judged_by(labels)
        found = [results.errors(one, metric) for one in labels]
        return metric, dict(zip(self.names, found, strict=True))

    def ranked(self, records: Records) -> list[str]:
        """Candidates by their mean validation error; of equal ones the nearer first."""
        errors = self.errors(records)[1]
        return sorted(self.names, key=lambda name: spread(errors[name])["mean"])


def label(name: str, fraction: float) -> str:
    """Label of the finetunings from a candidate after a share of the budget."""
    return f"{name}, {share(fraction)}"


def share(fraction: float) -> str:
    """A fraction of the budget in words."""
    return f"{100 * fraction:g} % of C"


def halving_points(settings: SimilaritySettings, records: Records) -> list[Point]:
    """The comparison and random weights, then round by round what is known of them."""
    points = [Point("csi", settings.comparison(), "comparing", judged=False)]
    for downstream in downstream_settings(settings):
        points += finetunings(downstream, {SCRATCH: None})
    return points + [point for one in known_rounds(settings, records) for point in one.points]


def known_rounds(settings: SimilaritySettings, records: Records) -> list[Round]:
    """The rounds whose candidates are known; those of the next follow from a round's errors."""
    if "csi" not in records:
        return []
    ranking = records["csi"]["recommendations"][0]["ranking"]
    names, rounds = tuple(ranking[: settings.halving.first]), []
    for number, fraction in enumerate(settings.halving.fractions):
        rounds.append(Round(fraction, names, tuple(_points(settings, records, number, names))))
        if not rounds[-1].is_done(records):
            break
        best = rounds[-1].ranked(records)
        names = tuple(best[: math.ceil(settings.halving.keep * len(names)) or 1])
    return rounds


def _points(
    settings: SimilaritySettings, records: Records, number: int, names: Iterable[str]
) -> Iterator[Point]:
    """Pretrainings on the candidates of a round, then the finetunings from each."""
    fraction = settings.halving.fractions[number]
    plan, available = shortened(settings.plan, fraction), records["csi"]["available"]
    starts = {label(name, fraction): f"pretrain/{name}/round_{number}" for name in names}
    for name, (words, folder) in zip(names, starts.items(), strict=True):
        upstream = implied_pretraining(settings, name, available[name], plan)
        yield Point(folder, upstream, f"pretraining on {words}", judged=False)
    for downstream in downstream_settings(settings):
        for words, start in starts.items():
            folder = start.replace("pretrain", "finetuned", 1)
            yield Point(
                f"{folder}/seed_{downstream.seed}", downstream, words, downstream.seed, start
            )


def shortened(plan: PlanSettings, fraction: float) -> PlanSettings:
    """A plan with a fraction of the budget, and of the steps of warm-up."""
    assert plan.budget is not None
    schedule = plan.train.schedule
    warmup = round(fraction * schedule.warmup_steps)
    train = dataclasses.replace(
        plan.train, schedule=dataclasses.replace(schedule, warmup_steps=warmup)
    )
    budget = max(train.epochs, round(fraction * plan.budget))
    return dataclasses.replace(plan, train=train, budget=budget)


def report_halving(findings: Findings) -> Report:
    """The choice, what the distance alone would have chosen, and what the choice cost."""
    settings, records, results = findings.settings, findings.records, findings.results
    rounds = [one for one in known_rounds(settings, records) if one.is_done(records)]
    if not rounds:
        return Report(TITLE, lines=["No round is complete yet."])
    task, planned = settings.tasks[0].name, len(settings.halving.fractions)
    last, nearest = rounds[-1], rounds[0].names[0]
    chosen, *_ = best = last.ranked(records)
    points = [*(label(name, last.fraction) for name in best), SCRATCH]
    judged = results.judged_by(points, task)
    mean = {point: spread(results.errors(point, judged, task))["mean"] for point in points}
    error, unit = mean[points[0]], results.unit(judged, task)
    pays = error < mean[SCRATCH]
    column, metric = settings.columns[0], last.errors(records)[0]
    distance = {pair["upstream"]: pair[column.name] for pair in records["csi"]["pairs"]}
    cost = costs(settings, findings, rounds)
    summary = {
        "task": task,
        "chosen": chosen,
        "nearest": nearest,
        "distances": {name: distance[name] for name in rounds[0].names},
        "rounds": [
            {"fraction": one.fraction, "validation": one.errors(records)[1]} for one in rounds
        ],
        "validated_by": metric,
        "judged_by": judged,
        "unit": unit,
        "mean": mean,
        "better_than_scratch": pays,
        "cost": cost,
    }
    opening = f"Pretrain on {chosen}" if pays else f"Better not pretrain; {chosen} is best"
    verdict = (
        f"{opening}: {METRICS[judged][0]} on the test part of {task} {error:.4g} {unit}, "
        f"{against(error, mean[SCRATCH])} that from random weights "
        f"({mean[SCRATCH]:.4g} {unit}). The {column.title} alone says "
        f"{'so, too' if chosen == nearest else nearest}"
    )
    lines = [
        f"Candidates were pretrained on in rounds, C = {settings.plan.budget:,} samples being the "
        f"whole budget, and finetuned on {task}; its validation part decides who goes on. "
        f"{METRICS[metric][0]} there, after each of {len(rounds)} rounds of {planned}:",
        "",
        *_round_table(rounds, records, column.title, distance),
        "",
        f"Pretraining took {cost['samples']:,} samples, where all candidates with the whole budget "
        f"take {cost['samples_of_all']:,}; {cost['finetunings']} finetunings followed, instead of "
        f"{cost['finetunings_of_all']}. Together {format_seconds(cost['seconds'])}, instead of "
        f"about {format_seconds(cost['seconds_of_all'])}.",
        "",
        "## Test errors after the last round",
        "",
        *error_table(results, points, reference=SCRATCH, first="start"),
    ]
    return Report(TITLE, verdict, lines, summary)


def costs(
    settings: SimilaritySettings, findings: Findings, rounds: Sequence[Round]
) -> dict[str, Any]:
    """Samples, trainings and seconds of the rounds, beside all candidates with the whole budget.

    Samples are those of pretrainings. In seconds, a candidate of all is taken to last as long as
    the mean one of the last round, whose pretraining may have a part of the budget only.
    """
    records, count, last = findings.records, len(rounds[0].names), rounds[-1]
    points = [point for one in rounds for point in one.points]
    seconds = {point.name: records[point.name]["wall_seconds"] for point in points}
    of_last = sum(seconds[p.name] / (1 if p.judged else last.fraction) for p in last.points)
    return {
        "samples": sum(records[point.name]["budget"] for point in points if not point.judged),
        "samples_of_all": count * (settings.plan.budget or 0),
        "finetunings": sum(point.judged for point in points),
        "finetunings_of_all": count * len(findings.seeds),
        "seconds": sum(seconds.values()),
        "seconds_of_all": count * of_last / len(last.names),
    }


def _round_table(
    rounds: Sequence[Round], records: Records, title: str, distance: Mapping[str, float]
) -> list[str]:
    """A row for each candidate, nearest first: its distance, and its error after each round."""
    by_round = {share(one.fraction): one.errors(records)[1] for one in rounds}
    rows = [
        [name, f"{distance[name]:.4g}", *(mean_and_std(e.get(name, [])) for e in by_round.values())]
        for name in rounds[0].names
    ]
    return markdown_table(["candidate", title, *by_round], rows)


def _check_rounds(settings: SimilaritySettings) -> list[str]:
    """Checks the trainings; returns how many there will be."""
    downstream = downstream_settings(settings)
    check_settings(downstream[0])
    check_part(downstream[0], "validation")
    check_part(downstream[0], "test")
    count = min(len(settings.candidates), settings.halving.first or len(settings.candidates))
    counts = []
    for fraction in settings.halving.fractions:
        counts.append(f"{count} pretrainings with {share(fraction)}")
        count = math.ceil(settings.halving.keep * count) or 1
    return [f"then {', '.join(counts)}, each with {len(downstream)} finetunings"]


HALVING = Study(
    name="halving",
    settings=SimilaritySettings,
    points=halving_points,
    report=report_halving,
    notes=_check_rounds,
)
