"""Results of a similarity job, as ``csi.csv``, ``csi.json`` and a report."""

import dataclasses
import math
import pprint
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.reporting.drawing import Plot
from atomjax.reporting.report import Document, write_report
from atomjax.reporting.tables import markdown_table, table_text
from atomjax.runtime.run import Run
from atomjax.similarity.analysis.comparison import Comparison
from atomjax.similarity.analysis.recommendation import Recommendation, describe_recommendation
from atomjax.similarity.analysis.views import describe_orientation
from atomjax.similarity.features.cache import ExtractedSet
from atomjax.similarity.features.coverage import coverage_plot, describe_coverage
from atomjax.similarity.features.orientation import OrientationTest, orientation_plot
from atomjax.similarity.features.units import describe_units
from atomjax.similarity.workflow.figures import (
    bar_plot,
    embedding_plot,
    map_plot,
    matrix_plot,
    part_plot,
)
from atomjax.similarity.workflow.measure_tables import (
    describe_intervals,
    describe_measures,
    divided,
    measure_record,
    part_lists,
    value_table,
)
from atomjax.similarity.workflow.selection_job import Selection
from atomjax.structures.elements import SYMBOLS
from atomjax.training.settings import RunSettings

# Weight of a structure, in mean weights, from which a report mentions it.
HEAVY = 1.05
# Figures that stand before the tables.
LEADING = 2


@dataclasses.dataclass(frozen=True)
class Extras:
    """Content of a report beside the comparison."""

    extractor: str  # in words
    embeddings: Mapping[str, np.ndarray]  # symbol → learned embedding of the element
    # Task → candidate → variant → distances as stored and rotated.
    orientation: Mapping[str, Mapping[str, Mapping[str, OrientationTest]]]
    selections: Sequence[Selection] = ()  # structures chosen for each task


def write_results(
    comparison: Comparison,
    recommendations: Sequence[Recommendation],
    plans: Mapping[str, RunSettings],
    extras: Extras,
    run: Run,
    figures: bool = True,
) -> dict[str, Any]:
    """Writes tables, report, figures and the configs of the pretraining that follows.

    Returns:
        The content of ``csi.json``.
    """
    records = comparison.records()
    tasks = [one.name for one in comparison.downstream]
    configs = {task: f"pretrain_{task}.py" for task in plans}
    summary = {
        "extractor": extras.extractor,
        "level": comparison.level,
        "measures": [measure_record(table) for table in comparison.tables],
        "sets": [_describe_set(comparison, s) for s in comparison.sets],
        "pairs": [_without_nan(record) for record in records],
        "mixtures": {
            name: dict(zip(tasks, _without_nan(list(map(float, values))), strict=True))
            for name, values in comparison.mixtures.items()
        },
        "recommendations": [
            {**_without_nan(r.to_dict()), "words": " ".join(describe_recommendation(r, comparison))}
            for r in recommendations
        ],
        "available": {s.name: s.available for s in comparison.upstream},
        "configs": configs,
        "orientation": {
            task: {
                candidate: {kind: dataclasses.asdict(test) for kind, test in by_kind.items()}
                for candidate, by_kind in by_candidate.items()
            }
            for task, by_candidate in extras.orientation.items()
        },
        "selections": [selection.to_dict() for selection in extras.selections],
    }
    run.write_json("csi.json", summary)
    if run.primary:
        run.path("csi.csv").write_text(table_text(records))
        for task, plan in plans.items():
            run.path(configs[task]).write_text(config_text(task, plan))
    plots = all_plots(comparison, extras) if figures else []
    write_report(lambda: compose(comparison, recommendations, plans, extras, plots), run)
    return summary


def all_plots(comparison: Comparison, extras: Extras) -> list[Plot]:
    """The figures, those first that answer the question."""
    sets, tasks = comparison.sets, [s.name for s in comparison.downstream]
    plots = [
        matrix_plot(comparison),
        map_plot({s.name: s.rows for s in sets}, tasks),
        bar_plot(comparison),
        *(part_plot(comparison, table) for table in divided(comparison)),
        coverage_plot({s.name: s.coverage for s in sets}),
    ]
    present = sorted({z for s in sets for z in s.features.elements})
    if present:
        named = {SYMBOLS[z]: extras.embeddings[SYMBOLS[z]] for z in present}
        plots.append(embedding_plot(named))
    tests = extras.orientation.items()
    return [*plots, *(orientation_plot(task, by_candidate) for task, by_candidate in tests)]


def config_text(task: str, plan: RunSettings) -> str:
    """A config file that runs a plan."""
    chosen = plan.data.train[0].name
    body = pprint.pformat(plan.to_dict(), width=88, sort_dicts=False).replace("\n", "\n    ")
    return (
        f'"""Pretrain on {chosen}, the candidate nearest to {task}."""\n\n\n'
        f"def get_config() -> dict:\n    return {body}\n"
    )


def describe_plan(plan: RunSettings) -> str:
    """Budget of a plan in words."""
    train = plan.train
    return (
        f"{plan.model.name} on {train.max_structures:,} structures for {train.epochs} epochs, "
        f"C = {train.budget:,} samples"
    )


def compose(
    comparison: Comparison,
    recommendations: Sequence[Recommendation],
    plans: Mapping[str, RunSettings],
    extras: Extras,
    plots: Sequence[Plot],
) -> Document:
    """The report: the recommendation, what it rests on, and what was compared how."""
    lines: list[str | Plot] = []
    for choice in recommendations:
        lines += [" ".join(describe_recommendation(choice, comparison)), ""]
    lines += [
        *plots[:LEADING],
        "## Distances",
        "",
        *value_table(comparison),
        "",
        f"Features: {extras.extractor}. {describe_intervals(comparison)} The noise floor is what "
        f"two sets of one distribution, of these sizes, exceed in {1 - comparison.level:.0%} of "
        "cases; a value with the mark ≈ 0 does not exceed it, and is not distinguishable from that "
        "of two sets of one distribution.",
        "",
        *describe_measures(comparison),
        "`csi.csv` and `csi.json` hold every number; infinite is the value extrapolated to "
        "infinitely many structures, unseen the share of the task's atoms whose element the "
        "upstream set lacks.",
        "",
        *_few_structures(comparison),
        *_mixtures(comparison),
        *part_lists(comparison),
        *_orientation(extras),
        "## Sets",
        "",
        *_sets(comparison),
        "",
        *_coverage(comparison),
        *_plans(plans),
        *_selections(extras),
        *(["## Further figures", ""] if plots else []),
        *plots[LEADING:],
    ]
    return Document(title="Which upstream set is near", lines=lines)


def _mixtures(comparison: Comparison) -> list[str]:
    if not comparison.mixtures:
        return []
    tasks = [s.name for s in comparison.downstream]
    heads = [f"{comparison.table.measure.label} to {task}" for task in tasks]
    rows = [
        [name, *(f"{value:.4g}" for value in values)]
        for name, values in comparison.mixtures.items()
    ]
    return [*markdown_table(["mixture of all candidates", *heads], rows), ""]


def _few_structures(comparison: Comparison) -> list[str]:
    """Advice where a set has fewer structures than features."""
    variants = comparison.upstream[0].variants
    width = {name: features.parts[0].dimension for name, features in variants.items()}
    decides, features = next(iter(width.items()))
    few = {s.name: s.features.num_structures for s in comparison.sets}
    few = {name: count for name, count in few.items() if count < features}
    if not few:
        return []
    narrower = [f"{n} ({w} features)" for n, w in width.items() if w <= min(few.values())]
    fewer = f"or the variant of fewer features: {', '.join(narrower)}"
    if not narrower:
        fewer = 'or take fewer features (`invariants=("scalars",)` where there are degrees)'
    listed = ", ".join(f"{name} {count:,}" for name, count in few.items())
    return [
        f"**Fewer structures than features** ({features} in {decides}): {listed}. So few do not "
        "determine a covariance, and the CSI as it stands is mostly bias. Trust the intervals and "
        f"the extrapolated values (where ± is small beside them) {fewer}.",
        "",
    ]


def _describe_set(comparison: Comparison, one: ExtractedSet) -> dict[str, Any]:
    """One set, for ``csi.json`` and the table of sets."""
    return {
        "name": one.name,
        "available": one.available,
        "structures": one.features.num_structures,
        "unit": one.unit,
        "units": one.units,
        "heaviest": one.heaviest,
        "classes": one.classes,
        "covered": one.covered,
        "atoms": one.features.num_atoms,
        "effective_rank": comparison.ranks[one.name],
        "halves": None if math.isnan(comparison.halves[one.name]) else comparison.halves[one.name],
    }


def _sets(comparison: Comparison) -> list[str]:
    described = [_describe_set(comparison, s) for s in comparison.sets]
    heads = ["set", "independent units", "structures", "sample", "classes in it", "atoms"]
    rows = [
        [
            s["name"],
            describe_units(s["unit"], s["units"]),
            f"{s['available']:,}",
            f"{s['structures']:,}",
            f"{s['covered']:,} of {s['classes']:,}",
            f"{s['atoms']:,}",
            f"{s['effective_rank']:.1f}",
            "" if s["halves"] is None else format(s["halves"], ".3g"),
        ]
        for s in described
    ]
    lines = markdown_table([*heads, "effective rank", "two halves"], rows, left=2)
    lines += [
        "",
        f"Two halves: the {comparison.table.measure.label} between two sets of this size and "
        "distribution, from random halves of the one, scaled to its size. Whatever is drawn anew "
        "is drawn in whole units; frames of a trajectory that nothing marks as one count as "
        "independent "
        '(`sampling.unit="trajectory"` says otherwise).',
    ]
    heavy = [f"{s['name']} ({s['heaviest']:.1f})" for s in described if s["heaviest"] > HEAVY]
    if heavy:
        lines += [
            "",
            "Classes count alike where structures of small classes weigh more; the heaviest, in "
            f"mean weights: {', '.join(heavy)}.",
        ]
    return lines


def _coverage(comparison: Comparison) -> list[str]:
    lines = [line for s in comparison.sets for line in describe_coverage(s.name, s.coverage)]
    return [
        "Classes that the samples cover:",
        "",
        *(f"- {line}" for line in lines),
        "",
    ]


def _orientation(extras: Extras) -> list[str]:
    lines = describe_orientation(extras.orientation)
    return ["## Orientation", "", *(f"- {line}" for line in lines), ""] if lines else []


def _selections(extras: Extras) -> list[str]:
    if not extras.selections:
        return []
    lines = ["## Structures chosen inside the recommended set", ""]
    for one in extras.selections:
        lines += [
            one.describe(),
            "",
            f'They are a store: a data set with `kind="store"` and `path="{one.path}"`.',
            "",
        ]
    return lines


def _plans(plans: Mapping[str, RunSettings]) -> list[str]:
    if not plans:  # of the nearest there are statistics alone
        return []
    lines = ["## The pretraining that follows", ""]
    for task, plan in plans.items():
        lines += [
            f"For {task}: {describe_plan(plan)}.",
            "",
            f"    python -m atomjax.launch --config pretrain_{task}.py --workdir "
            f"runs/pretrain_{task}",
            "",
        ]
    return [
        *lines,
        "Under a fixed budget C = E × N, arXiv:2502.11085 (appendix A) found fewer structures for "
        "more epochs about as good where the set is near, and worse where it is far.",
        "",
    ]


def _without_nan(value: Any) -> Any:
    """Plain values with None for NaN, which JSON has not."""
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
