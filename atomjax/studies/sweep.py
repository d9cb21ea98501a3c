"""A sweep: variants of one config, each trained with several seeds, and a table that compares them.

    pretrained/<variant>/seed_<s>/    pretrainings; variants that differ downstream alone share one
    <variant>/seed_<s>/               the training that a variant is judged by

An ablation is a sweep, and so is a curve over the number of training structures. Variants and seeds
can be added later with ``--accept-changes``.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.reporting.drawing import Plot
from atomjax.reporting.plots import Curve, Panel, curve_plot
from atomjax.runtime.config import ConfigError, Settings, change, to_plain
from atomjax.runtime.earlier import translated_changes, translated_config
from atomjax.runtime.names import check_name
from atomjax.runtime.workflows import WorkflowSettings, find_workflow
from atomjax.studies.engine import Report, Study
from atomjax.studies.results import Findings, Point, spread
from atomjax.studies.tables import cost_columns, error_table, heading
from atomjax.studies.transfer import downstream_settings, upstream_settings
from atomjax.training.running.metrics import METRICS
from atomjax.training.settings import FinetuneSettings, RunSettings, TransferSettings

PRETRAINED = "pretrained"
# Folders of a sweep that are no variants.
TAKEN = (PRETRAINED, "plots", "data", "compilation_cache")


@dataclass(frozen=True, kw_only=True)
class VariantSettings(Settings):
    """One variant of the config."""

    name: str
    "Name of the variant and its folder."
    changes: dict[str, Any] = field(default_factory=dict)
    "Dotted key of the config → value."
    start: Literal["pretrained", "scratch"] = "pretrained"
    "Downstream model from pretrained or from random weights."
    line: str = ""
    "Curve that the variant is a point of."
    x: float | None = None
    "Place on that curve, such as the number of training structures."

    def __post_init__(self):
        super().__post_init__()
        check_name(self.name, "variant")
        if self.name in TAKEN:
            raise ConfigError(f"variant name {self.name!r} is a folder of the study; give another")
        if bool(self.line) != (self.x is not None):
            raise ConfigError(
                f'variant "{self.name}": line and x go together, the name of a curve and the '
                "place on it"
            )


@dataclass(frozen=True, kw_only=True)
class SweepSettings(WorkflowSettings):
    """Variants of one config, each trained with several seeds."""

    workflow: Literal["sweep"]
    "Compare variants of one config."
    base: dict[str, Any]
    'Config of workflow "pretrain", "finetune" or "transfer", of the last without scratch twins.'
    variants: tuple[VariantSettings, ...]
    "Variants to compare."
    seeds: tuple[int, ...] = (0, 1, 2)
    "Seeds of every training, pretraining included."
    reference: str | None = None
    "Variant that others are compared with; none: the first."
    x_label: str = "training structures"
    "Meaning of `x` of the variants."

    def __post_init__(self):
        super().__post_init__()
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"variants {names} must be at least one, of different names")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds={list(self.seeds)} must be at least one, all different")
        if self.reference is not None and self.reference not in names:
            raise ConfigError(f'reference "{self.reference}" is none of {", ".join(names)}')
        if len({bool(variant.line) for variant in self.variants}) > 1:
            raise ConfigError("some variants have a line and x, some have not; give all or none")

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored config with the base and the changed keys of now."""
        workflow = previous["base"].get("workflow")
        variants = [
            {**variant, "changes": translated_changes(workflow, variant["changes"])}
            for variant in previous["variants"]
        ]
        return {**previous, "base": translated_config(previous["base"]), "variants": variants}


def sweep_points(settings: SweepSettings, records: Mapping[str, Any]) -> list[Point]:
    """The trainings of every variant, seed by seed, each pretraining once.

    Raises:
        ConfigError: naming the variant and the key that is wrong.
    """
    del records
    points: dict[str, Point] = {}
    folders: dict[str, str] = {}
    for seed in settings.seeds:
        for variant in settings.variants:
            try:
                upstream, downstream = divide(settings, variant, seed)
            except ConfigError as error:
                raise ConfigError(f'variant "{variant.name}": {error}') from error
            name, start = f"{variant.name}/seed_{seed}", None
            if upstream is not None:
                key = json.dumps(upstream.to_dict(), sort_keys=True)
                start = folders.setdefault(key, f"{PRETRAINED}/{name}")
                label = variant.name if downstream is None else f"pretraining of {variant.name}"
                judged = downstream is None
                points.setdefault(start, Point(start, upstream, label, seed, judged=judged))
            if downstream is not None:
                points[name] = Point(name, downstream, variant.name, seed, start)
    return list(points.values())


def divide(
    settings: SweepSettings, variant: VariantSettings, seed: int
) -> tuple[RunSettings | None, RunSettings | None]:
    """The pretraining and the finetuning of one variant and seed, as far as it has them."""
    changed = change(settings.base, {**variant.changes, "seed": seed})
    config = find_workflow(changed).load_settings(changed)
    scratch = variant.start == "scratch"
    if isinstance(config, TransferSettings):
        return None if scratch else upstream_settings(config), downstream_settings(config, seed)
    if not isinstance(config, RunSettings):
        raise ConfigError(f'workflow is "{config.workflow}"; a sweep is of trainings')
    if config.workflow == "pretrain":
        if scratch:
            raise ConfigError('start="scratch" is for a base that finetunes')
        return config, None
    config.head.check_comparable()
    finetuning = config.finetune or FinetuneSettings()
    if finetuning.folds:
        raise ConfigError("finetune.folds is not for a sweep; give one fold in the arguments")
    checkpoint = None if scratch else finetuning.checkpoint
    one = dataclasses.replace(finetuning, seeds=(seed,), checkpoint=checkpoint)
    return None, config.replace(finetune=one)


def report_sweep(findings: Findings) -> Report:
    """Test errors of the variants, and the improvement over the reference, seed by seed.

    That is 1 - error / error of the reference: JMP's relative improvement (table 6).
    """
    settings, results = findings.settings, findings.results
    upstream = _replayed(findings)
    task = None if not upstream else _task(findings)
    judged = results.judged_by(findings.judged, task)
    reference = settings.reference or settings.variants[0].name
    variants = [
        {
            **to_plain(variant),
            "error": spread(results.errors(variant.name, judged, task)),
            "improvement": spread(results.gains(variant.name, reference, judged, task)),
        }
        for variant in settings.variants
    ]
    summary = {
        "judged_by": judged,
        "unit": results.unit(judged, task),
        "reference": reference,
        "x_label": settings.x_label,
        "variants": variants,
    }
    lines = [
        f"Test errors, mean ± standard deviation over the seeds "
        f"{', '.join(map(str, findings.seeds))}; the improvement is relative to {reference} with "
        "the same seed.",
        "",
        *error_table(
            results,
            findings.judged,
            metrics=[(task, judged), *((name, judged) for name in upstream)],
            reference=reference,
            columns=cost_columns(results, findings.judged),
            first="variant",
        ),
    ]
    return Report("Sweep", lines=lines, summary=summary, plots=_curves(findings, judged, task))


def _task(findings: Findings) -> str:
    """The data set that is finetuned on."""
    return next(point.settings.data.train[0].name for point in findings.points if point.judged)


def _replayed(findings: Findings) -> list[str]:
    """Upstream sets that are tested beside the task."""
    starts = [point.settings.finetune for point in findings.points if point.judged]
    return list(dict.fromkeys(s.replay.dataset.name for s in starts if s and s.replay))


def _curves(findings: Findings, judged: str, task: str | None) -> list[Plot]:
    """Errors over x, one curve for each line and seed; none where variants have no x."""
    lines: dict[str, list[VariantSettings]] = {}
    for variant in findings.settings.variants:
        if variant.x is not None:
            lines.setdefault(variant.line, []).append(variant)
    curves = []
    for line, variants in lines.items():
        variants = sorted(variants, key=lambda variant: variant.x or 0)
        values = [findings.results.values(one.name, judged, task) for one in variants]
        steps = [float(variant.x or 0) for variant in variants]
        curves += [
            Curve(
                label=line,
                name=f"seed {seed}",
                steps=steps,
                values=[of_seeds[seed] for of_seeds in values],
            )
            for seed in findings.seeds
        ]
    panel = Panel(
        title=f"{METRICS[judged][0]} on the test set",
        x_label=findings.settings.x_label,
        y_label=heading(findings.results, judged),
        curves=curves,
        log_x=True,
    )
    caption = f"Test errors over {findings.settings.x_label}, a line for each seed."
    return [curve_plot("curves", caption, [panel])] if curves else []


SWEEP = Study(name="sweep", settings=SweepSettings, points=sweep_points, report=report_sweep)
