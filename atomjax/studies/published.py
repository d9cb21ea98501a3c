"""The papers' tables of results, with the published numbers beside those of finished finetunings.

    python -m atomjax.studies.published runs/aspirin runs/qm9_gap --out results.md

Runs are finetunings, or studies that hold some. Every cell of ours names its seeds. Without runs
the published tables are printed. The published numbers are data, in ``published_results/``: table n
of JMP (Shoghi et al., ICLR 2024) and of the study of upstream data under a budget (Ghunaim et al.,
2025); ``*`` marks JMP's models as the second paper reproduced them.
"""

import argparse
import functools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.reporting.tables import markdown_table, mean_and_std, with_unit
from atomjax.runtime.earlier import read_config
from atomjax.runtime.files import read_json
from atomjax.runtime.parts import DONE

PUBLISHED = Path(__file__).with_name("published_results")
_MEND = "copy the run again, or run it again"
EMPTY = "–"
FEW = 50
FORCE_MAE, VALUE_MAE = "force_mae_mev_per_angstrom", "value_mae"
FORCE_BENCHMARKS = ("rmd17", "md22", "spice")
# Config, results and place of a finetuning.
Finished = tuple[Mapping[str, Any], Mapping[str, Any], str]


class RunError(ValueError):
    """A directory that holds no finished finetuning on a benchmark."""


@dataclass(frozen=True)
class Table:
    """A published table."""

    # Content, and place of publication.
    title: str
    source: str
    tasks_are: str  # "rows" or "columns"
    # For each "key" (see :func:`task_key`), "name", "unit" and "factor", which turns our unit into
    # the table's.
    tasks: Sequence[Mapping[str, Any]]
    # Name → values in the order of the tasks, None where there is none.
    models: Mapping[str, Sequence[float | None]]

    def render(self, ours: Mapping[str, Mapping[str, str]]) -> str:
        """The table as Markdown.

        Args:
            ours: model → key of the task → cell; models without a task of the table are left out.
        """
        cells = {
            model: [EMPTY if value is None else f"{value:g}" for value in values]
            for model, values in self.models.items()
        }
        for model, own in ours.items():
            if any(task["key"] in own for task in self.tasks):
                cells[f"**{model}**"] = [own.get(task["key"], EMPTY) for task in self.tasks]
        names = [with_unit(task["name"], task["unit"]) for task in self.tasks]
        if self.tasks_are == "columns":
            head, rows = ["pretraining", *names], [[model, *own] for model, own in cells.items()]
        else:
            head = ["task", *cells]
            rows = [[name, *(own[i] for own in cells.values())] for i, name in enumerate(names)]
        title = [f"## {self.title}", "", f"Published: {self.source}.", ""]
        return "\n".join([*title, *markdown_table(head, rows), ""])


@functools.cache
def published_tables() -> dict[str, Table]:
    """All published tables by name, such as "jmp_table2"."""
    tables = {}
    for path in sorted(PUBLISHED.glob("*.json"), key=lambda path: (len(path.stem), path.stem)):
        content = json.loads(path.read_text(encoding="utf-8"))
        models = {model["name"]: model["values"] for model in content.pop("models")}
        tables[path.stem] = Table(models=models, **content)
    return tables


def task_key(config: Mapping[str, Any]) -> str | None:
    """The papers' benchmark that a finetuning is on, such as "rmd17/aspirin"; None for others.

    Args:
        config: config of workflow "finetune", as ``config.json`` holds it.
    """
    (dataset, *_) = config["data"]["train"]
    kind, name, arguments = dataset["format"], dataset["name"], dataset["arguments"]
    if kind == "rmd17":
        return f"rmd17{'_50' if arguments.get('train_size') == FEW else ''}/{name}"
    if kind == "md22":
        return f"md22/{arguments.get('molecule', name)}"
    if kind == "spice" and "subset" in arguments:
        return f"spice/{arguments['subset']}"
    if kind in ("qm9", "qmof"):
        targets = [target["name"] for target in config["head"]["targets"]]
        # The tables are of models with one property.
        return f"{kind}/{targets[0]}" if len(targets) == 1 else None
    # The tables have no task of classes.
    keys = [task["key"] for table in published_tables().values() for task in table.tasks]
    if kind == "matbench" and f"matbench/{name}/mean" in keys:
        return f"matbench/{name}"
    return None


def read_runs(directories: Sequence[Path]) -> list[Finished]:
    """Config, results and place of the finetunings in directories of runs and studies.

    Raises:
        RunError: a directory holds none that is finished.
    """
    found: list[Finished] = []
    for directory in directories:
        inner = sorted(path.parent for path in directory.rglob(DONE))
        before = len(found)
        for place in inner or [directory]:
            if not (place / "results.json").is_file() or not (place / "config.json").is_file():
                continue
            config = read_config(place / "config.json")
            results = read_json(place / "results.json", _MEND)
            if config.get("workflow") == "finetune" and "seed" in results:
                found.append((config, results, str(place)))
        if len(found) == before:
            raise RunError(f"{directory}: holds no finished run of workflow 'finetune'")
    return found


def measure(runs: Iterable[Finished]) -> dict[str, dict[str, tuple[list[int], list[float], int]]]:
    """The errors of finetunings by model and task.

    Returns:
        Model, by its size and what it started from → key of the task, such as "qm9/gap", and for
        tasks with folds "matbench/phonons/fold0" and "matbench/phonons/mean" → seeds, their errors
        in our unit, and the number of folds that each is a mean of (1: of none).

    Raises:
        RunError: a run is on no benchmark of the papers, or there a second time.
    """
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for config, results, place in runs:
        model, task = model_name(config), task_key(config)
        if task is None:
            raise RunError(f"{place}: its data set is no benchmark of the papers")
        metric = FORCE_MAE if task.startswith(FORCE_BENCHMARKS) else VALUE_MAE
        measured = [errors[metric] for errors in results["test"].values() if metric in errors]
        if not measured:
            raise RunError(f"{place}: its test errors have no {metric}")
        fold = config["data"]["train"][0]["arguments"].get("fold", 0)
        folds = found.setdefault((model, task), {}).setdefault(results["seed"], {})
        if fold in folds:
            seed = results["seed"]
            raise RunError(f"{place}: {model} on {task} has seed {seed} twice; leave one run out")
        folds[fold] = measured[0]
    models: dict[str, dict[str, tuple[list[int], list[float], int]]] = {}
    for (model, task), seeds in found.items():
        own = models.setdefault(model, {})
        # Of seeds that are not through, means of other folds would look like scatter.
        shared = set.intersection(*map(set, seeds.values()))
        count = len(shared)
        kept = {seed: [folds[f] for f in shared or folds] for seed, folds in seeds.items()}
        means = list(seeds), [float(np.mean(errors)) for errors in kept.values()], count
        if not task.startswith("matbench"):
            own[task] = means
            continue
        first = {seed: folds[0] for seed, folds in seeds.items() if 0 in folds}
        if first:
            own[f"{task}/fold0"] = list(first), list(first.values()), 1
        if count > 1:
            own[f"{task}/mean"] = means
    return models


def model_name(config: Mapping[str, Any]) -> str:
    """The backbone of a run and what it started from."""
    name, checkpoint = config["model"]["name"], config["finetune"]["checkpoint"]
    if checkpoint is None:
        return f"{name} from scratch"
    path = Path(checkpoint)
    if not (path / "config.json").is_file():
        return f"{name} from {path.name}"
    pretraining = read_config(path / "config.json")
    data, train = pretraining["data"], pretraining["train"]
    upstream = ", ".join(dataset["name"] for dataset in data["train"])
    if len(data["train"]) > 1:
        upstream = f"{upstream} ({data['mixture']['kind']})"
    structures = train["max_structures"]
    size = f", {structures:,} × {train['epochs']}" if structures else ""
    return f"{name} from {path.name}: {upstream}{size}"


def fill_tables(runs: Iterable[Finished], names: Sequence[str] = ()) -> list[str]:
    """The published tables that runs belong to, or those that are named, as Markdown."""
    models = measure(runs)
    keys = {key for own in models.values() for key in own}

    def cells(table: Table) -> dict[str, dict[str, str]]:
        factors = {task["key"]: task["factor"] for task in table.tasks}
        return {
            model: {key: _cell(*own[key], factors[key]) for key in own if key in factors}
            for model, own in models.items()
        }

    return [
        table.render(cells(table))
        for name, table in published_tables().items()
        if (not names or name in names)
        and (not keys or any(task["key"] in keys for task in table.tasks))
    ]


def _cell(seeds: Sequence[int], errors: Sequence[float], folds: int, factor: float) -> str:
    text = mean_and_std([factor * error for error in errors], 3)
    several = f"; {folds} folds" if folds > 1 else ""
    names = ", ".join(map(str, seeds))
    return f"{text} (seed{'s' if len(seeds) > 1 else ''} {names}{several})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables that runs belong to, all without runs; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m atomjax.studies.published",
        description="Results of finetuning runs beside the published ones.",
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="directory of finetunings")
    names = list(published_tables())
    add("--table", action="append", default=[], choices=names, help="only this; may be repeated")
    add("--out", type=Path, metavar="FILE", help="write here instead of to the terminal")
    given = parser.parse_args(arguments)
    try:
        text = "\n".join(fill_tables(read_runs(given.runs), given.table))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
