"""Studies: many computations under one question, and one table of their results.

<point>/                      one folder for each computation
results.json, results.csv     every value as a tidy row, written after every computation
report.html, report.json      the answer, for the seeds all of whose points are done; in
                              report.md and plots/ as well
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atomjax.reporting.drawing import Plot
from atomjax.reporting.report import Document, write_report
from atomjax.runtime.config import ConfigError, build, to_plain
from atomjax.runtime.parts import Part, Parts, allowed_jobs
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import WORKFLOWS, Workflow, find_workflow, resolve
from atomjax.studies.figures import parity_plots, training_plots
from atomjax.studies.results import Findings, Point, ReportError, Results, rows_of
from atomjax.studies.tables import error_table, time_table
from atomjax.training.checks import check_part
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import RunSettings

# Workflows of points that write no report of their own.
TRAININGS: dict[str, Any] = {
    "pretrain": pretrain,
    "finetune": finetune,
    "probe": "atomjax.inference.probe:probe",
}
NOUNS = {"pretrain": "pretraining", "finetune": "finetuning", "probe": "linear probe"}


@dataclass(frozen=True)
class Report:
    """Report of a study."""

    title: str
    verdict: str = ""  # the result in one sentence
    lines: Sequence[str] = ()  # tables and text
    summary: dict[str, Any] = field(default_factory=dict)  # joins seeds, errors and time
    plots: Sequence[Plot] = ()  # figures beside those of all trainings


def report_errors(findings: Findings) -> Report:
    """The test errors of all points: the report of a study that has none of its own."""
    return Report("Results", lines=error_table(findings.results, findings.judged))


@dataclass(frozen=True, kw_only=True)
class Study:
    """A workflow of several computations; called, it runs them."""

    name: str  # name of the workflow
    settings: type  # dataclass that is the schema of its config
    # Settings, and the records of the points that are done → all points that can be named by now,
    # in the order in which one process computes them.
    points: Callable[[Any, Mapping[str, Any]], Sequence[Point]]
    report: Callable[[Findings], Report] = report_errors  # findings → report
    # Settings → further notes of ``--validate``; raises ConfigError.
    notes: Callable[[Any], list[str]] | None = None

    def __call__(
        self, config: Any, run: Run, *, jobs: int = 1, report_only: bool = False
    ) -> dict[str, Any]:
        """Runs the study; called again in the same directory, it resumes.

        Args:
            config: settings, or a config that makes them.
            run: receives the points' folders, results and report.
            jobs: points to compute side by side; 0: as many as there are cores.
            report_only: only report what is done.

        Returns:
            The content of ``report.json``.

        Raises:
            ConfigError: settings contradict each other or the data.
            ReportError: nothing is done that could be reported.
            PartError: points failed.
            FloatingPointError: at a loss that is not finite, naming the structures.
            RunInterrupted: after SIGTERM, with the state saved.
        """
        settings = build(self.settings, config)
        reported: list[int] = []

        def plan(records: Mapping[str, Any]) -> list[Part]:
            return [_part(point, run) for point in self.points(settings, records)]

        def finished() -> None:
            findings, missing = self._find(settings, run, parts)
            if findings is not None and missing and findings.seeds != reported:
                reported[:] = findings.seeds
                self._report(findings)

        parts = Parts(plan, run, finished)
        if not report_only:
            parts.compute(compute_point, allowed_jobs(jobs))
        findings, missing = self._find(settings, run, parts)
        if findings is None:
            raise ReportError(f"no seed is complete; not done: {', '.join(missing)}")
        return self._report(findings)

    def _find(self, settings: Any, run: Run, parts: Parts) -> tuple[Findings | None, list[str]]:
        """Writes the results.

        Returns:
            Findings of the complete seeds, None without any, and the points that are not done.
        """
        records = parts.records
        points = self.points(settings, records)
        missing = [point for point in points if point.name not in records]
        unfinished = {point.seed for point in missing}
        done = [point for point in points if point.name in records]
        complete = [point for point in done if point.seed not in unfinished]

        def results(points: Sequence[Point]) -> Results:
            rows = [row for point in points for row in rows_of(point, records[point.name])]
            return Results(rows, self.name, run.starts())

        results(done).write(run)
        names = [point.name for point in missing]
        if None in unfinished or (missing and all(point.seed is None for point in complete)):
            return None, names
        outdated = {p.name: parts.outdated[p.name] for p in complete if p.name in parts.outdated}
        return Findings(settings, run, complete, records, results(complete), outdated), names

    def _report(self, findings: Findings) -> dict[str, Any]:
        """Writes ``report.json`` and the report; returns the first's content."""
        report = self.report(findings)
        run = findings.run
        summary = json.loads(json.dumps({**findings.summary(), **report.summary}))
        run.write_json("report.json", summary)

        def compose() -> Document:
            lines: list[str | Plot] = [f"**{report.verdict}.**", ""] if report.verdict else []
            plots = [*report.plots, *training_plots(findings), *parity_plots(findings)]
            lines += [*report.lines, "", *plots]
            lines += _outdated_lines(findings.outdated)
            lines += ["## Time", "", *time_table(findings.results), ""]
            return Document(title=report.title, lines=lines)

        write_report(compose, run)
        run.say(f"{report.verdict}\nreport: {run.workdir / 'report.html'}".strip())
        return summary

    def check(self, settings: Any) -> list[str]:
        """Check what can be known of settings before reading data; see ``Workflow.check``."""
        points = self.points(settings, {})
        counts = {kind: sum(p.settings.workflow == kind for p in points) for kind in TRAININGS}
        shown = [f"{n} {NOUNS[kind]}{'s' * (n > 1)}" for kind, n in counts.items() if n]
        notes = [", ".join(shown)] if shown else []
        for i, point in enumerate(points):
            if point.label in (before.label for before in points[:i]):
                continue
            try:
                one = point.settings
                if point.start is not None and one.workflow == "probe":
                    # Its weights are not there yet.
                    one = one.replace(workflow="finetune")
                described = find_workflow(to_plain(one)).load_check()(one)
                if point.judged and isinstance(point.settings, RunSettings):
                    check_part(point.settings, "test")
            except ConfigError as error:
                raise ConfigError(f'"{point.label}": {error}') from error
            notes.append(f"{point.label}: {'; '.join(described[1:])}")
        return [*notes, *(self.notes(settings) if self.notes else [])]


def _outdated_lines(outdated: Mapping[str, Sequence[str]]) -> list[str]:
    """The part of a report that names points whose settings have changed since."""
    if not outdated:
        return []
    return [
        "## Done before with other settings",
        "",
        "The configuration was changed after these were done, and they were kept.",
        "",
        *(f"- {name}: `{'`, `'.join(changed)}`" for name, changed in outdated.items()),
        "",
    ]


def compute_point(settings: Any, run: Run) -> dict[str, Any]:
    """The results of one point."""
    if settings.workflow in TRAININGS:
        return resolve(TRAININGS[settings.workflow])(settings, run)
    return find_workflow(to_plain(settings)).load_function()(settings, run)


def _part(point: Point, run: Run) -> Part:
    """A point with the folder of the weights that it starts from."""
    settings = point.settings
    if point.start is not None:
        checkpoint = str((run.workdir / point.start).resolve())
        finetuning = dataclasses.replace(settings.finetune, checkpoint=checkpoint)
        settings = dataclasses.replace(settings, finetune=finetuning)
    return Part(name=point.name, settings=settings, after=point.start)


def register(study: Study) -> Study:
    """Makes a study known to ``python -m atomjax.launch`` by its name; returns it.

    Raises:
        ValueError: a workflow that comes with atomjax has the name.
    """
    known = WORKFLOWS.get(study.name)
    if known is not None and isinstance(known.function, str):
        raise ValueError(f'workflow "{study.name}" comes with atomjax; give another name')
    WORKFLOWS[study.name] = Workflow(
        settings=study.settings, check=study.check, function=study, several=True
    )
    return study
