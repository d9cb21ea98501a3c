"""The job: from data sets of a config to a table, a recommendation and the config it implies.

features/               statistics of each set, kept for the next run
csi.csv, csi.json       every number
report.html             the same for people, in one file; with figures in report.md and plots/
selected/<task>/        structures chosen inside the recommended set, where asked for
pretrain_<task>.py      the pretraining that the recommendation implies
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomjax.data.given import Source, dataset_entry
from atomjax.data.sources import check_source, find_file, undeclared
from atomjax.models import backbone_config
from atomjax.runtime.config import ConfigError, change
from atomjax.runtime.run import Run
from atomjax.similarity.analysis.comparison import compare
from atomjax.similarity.analysis.recommendation import describe_recommendation, recommend
from atomjax.similarity.analysis.views import extract_all, orientation_tests, other_views
from atomjax.similarity.features.cache import SetExtractor
from atomjax.similarity.features.extractor import (
    BackboneExtractor,
    check_invariants,
    has_scalars,
    load_extractor,
)
from atomjax.similarity.measures.elements import element_shares
from atomjax.similarity.measures.registry import find_measures
from atomjax.similarity.settings import SimilaritySettings, implied_pretraining
from atomjax.similarity.statistics import read_statistics
from atomjax.similarity.workflow.report import Extras, describe_plan, write_results
from atomjax.similarity.workflow.selection_job import select_structures
from atomjax.training.checks import check_settings


def similarity(
    config: Mapping[str, Any] | SimilaritySettings, run: Run, *, figures: bool = True
) -> dict[str, Any]:
    """Compares candidates with downstream sets; sets that were extracted before are not again.

    Args:
        config: settings of workflow "csi", or a config that makes them.
        run: receives features, tables, report and figures.
        figures: draw figures.

    Returns:
        The content of ``csi.json``.

    Raises:
        ConfigError: settings contradict each other or the data.
        CheckpointError: the extractor's checkpoint is missing.
        ReadError: a file cannot be read.
    """
    settings, extractor, sets = open_sets(config, run)
    upstream, downstream = extract_all(sets, settings)
    views = other_views(settings, extractor, run)
    orientation = orientation_tests(settings, sets, upstream, downstream)
    run.say(f"comparing {len(upstream)} candidates with {len(downstream)} tasks")
    comparison = compare(
        upstream,
        downstream,
        measures=find_measures(settings.measures),
        mixtures=settings.mixtures,
        resamples=settings.resamples,
        level=settings.level,
        seed=settings.seed,
        views=views,
    )
    shares = {s.name: element_shares(s.features.elements) for s in comparison.sets}
    untrained = {name: extractor.untrained(of_set) for name, of_set in shares.items()}
    recommendations = recommend(comparison, untrained)
    available = {s.name: s.available for s in upstream}
    known = [d.name for d in settings.candidates if d.kind != "statistics"]
    plans = {
        choice.task: implied_pretraining(settings, choice.closest, available[choice.closest])
        for choice in recommendations
        if choice.closest in known
    }
    chosen = [
        select_structures(settings, sets, task, choice.closest, run)
        for task, choice in zip(downstream, recommendations, strict=True)
        if settings.select is not None
    ]
    extras = Extras(extractor.name, extractor.element_embeddings, orientation, chosen)
    summary = write_results(comparison, recommendations, plans, extras, run, figures)
    for choice in recommendations:
        run.say(" ".join(describe_recommendation(choice, comparison)))
        if choice.task in plans:
            run.say(f"implied pretraining: {describe_plan(plans[choice.task])}")
    for selection in chosen:
        run.say(selection.describe())
    run.say(f"report: {run.workdir / 'report.html'}")
    return summary


def open_sets(
    config: Mapping[str, Any] | SimilaritySettings, run: Run
) -> tuple[SimilaritySettings, BackboneExtractor, SetExtractor]:
    """The settings of a job, its extractor, and what extracts its sets."""
    settings = SimilaritySettings.from_config(config)
    extractor = _load_checked(settings)
    run.say(f"extractor: {extractor.name}")
    return settings, extractor, SetExtractor(settings, extractor, run)


def given_settings(
    workflow: str,
    sides: Mapping[str, Mapping[str, Source | Mapping[str, Any]]],
    data: Path,
    options: Mapping[str, Any],
    checkpoint: str | Path | None,
    size: int | None,
    seed: int,
    changes: Mapping[str, Any],
) -> SimilaritySettings:
    """Settings of a job on data sets as people have them.

    Args:
        workflow: "csi" or "statistics".
        sides: "candidates" and "downstream" → name → source or entry of a config.
        data: folder for structures that are in no file.
        options: units and label keys of files and atoms, as in a config.
        checkpoint: checkpoint whose features count; None for the package's extractor. Features
            that are scalars already are compared as they are.
        size: structures drawn from each set; None for the default.
        seed: seed of samples, resampling and projection.
        changes: dotted key → value of a setting.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: settings contradict each other or the data.
        ReadError: a file or a frame cannot be read.
    """
    given: dict[str, Any] = {
        "workflow": workflow,
        "seed": seed,
        "extractor": {"checkpoint": None if checkpoint is None else str(checkpoint)},
        "sampling": {"seed": seed} if size is None else {"seed": seed, "size": size},
    }
    if checkpoint is not None and has_scalars(checkpoint):
        given["invariants"] = ("none",)
    for side, sources in sides.items():
        given[side] = [
            dataset_entry(name, source, data, **options) for name, source in sources.items()
        ]
    return SimilaritySettings.from_config(change(given, changes))


def _load_checked(settings: SimilaritySettings) -> BackboneExtractor:
    extractor = load_extractor(settings.extractor)
    check_invariants(extractor, settings.invariants)
    return extractor


def check_similarity(settings: SimilaritySettings) -> list[str]:
    """Check what can be known of a config before reading data; see ``Workflow.check``."""
    extractor = _load_checked(settings)
    for other in settings.views.extractors:
        load_extractor(other)
    for dataset in (*settings.candidates, *settings.tasks):
        if dataset.kind == "statistics":
            read_statistics(find_file(dataset))
        else:
            check_source(settings.as_read(dataset))
    model = settings.plan.model
    try:
        backbone_config({"name": model.name, **model.overrides})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.plan.model: {error}") from error
    notes = []
    for dataset in settings.candidates:
        if "statistics" in (settings.workflow, dataset.kind):
            continue
        if settings.workflow == "csi" and dataset.kind == "read" and undeclared(dataset):
            missing = " and ".join(undeclared(dataset))
            notes.append(f"{dataset.name}: the pretraining implied has to declare its {missing}")
            continue
        # Their number is known once the data are read.
        check_settings(implied_pretraining(settings, dataset.name, available=1))
    candidates, tasks = (
        ", ".join(d.name for d in side) for side in (settings.candidates, settings.tasks)
    )
    compared = f"{candidates} against {tasks}" if tasks else candidates
    if tasks:
        budget = settings.plan.budget
        known = "C is known once the data are read" if budget is None else f"C = {budget} samples"
        notes = [known, *notes]
    return [
        f"workflow {settings.workflow}, seed {settings.seed}",
        f"extractor {extractor.name}",
        f"{compared}: {settings.sampling.size} structures of each, {settings.sampling.strategy}",
        *notes,
    ]
