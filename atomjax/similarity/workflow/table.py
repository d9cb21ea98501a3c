"""The CSI from Python: data sets in, a table out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomjax.data.given import Source
from atomjax.reporting.drawing import make_figure, save_figure
from atomjax.reporting.tables import data_frame, markdown_table
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.execution import call, work_in
from atomjax.similarity.workflow.figures import draw_heat
from atomjax.similarity.workflow.job import check_similarity, given_settings, similarity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class CsiTable:
    """Distances of candidates from tasks, and which candidate to pretrain on.

    Attributes:
        candidates: [K] names.
        tasks: [M] names.
        measure: label of the measure that decides, such as "CSI".
        nearer_is_smaller: whether small values mean near.
        values: [K, M] values of that measure.
        lower: [K, M] lower ends of the intervals for infinitely many structures; NaN if not known.
        upper: [K, M] upper ends, likewise.
        noise_floor: [K, M] value that two sets of one distribution reach by chance.
        unseen: [K, M] fraction of a task's atoms whose element the candidate lacks.
        nearest: task → name of the nearest candidate.
        clear: task → whether every other candidate is farther at the level of confidence.
        advice: task → the recommendation in words.
        pairs: one mapping for each pair with every number, the rows of ``csi.csv``.

    Example:
        >>> table = atomjax.csi({"a": "train.xyz", "b": "test.xyz"}, task="frames.xyz")
        >>> table.values.shape, table.nearest["frames"] in table.candidates
        ((2, 1), True)
    """

    candidates: tuple[str, ...]
    tasks: tuple[str, ...]
    measure: str
    nearer_is_smaller: bool
    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    noise_floor: np.ndarray
    unseen: np.ndarray
    nearest: Mapping[str, str]
    clear: Mapping[str, bool]
    advice: Mapping[str, str]
    pairs: tuple[Mapping[str, Any], ...]

    def __str__(self) -> str:
        heads = [self.measure, *(f"to {task}" for task in self.tasks)]
        rows = [
            [name, *(f"{value:.4g}" for value in values)]
            for name, values in zip(self.candidates, self.values, strict=True)
        ]
        return "\n".join([*markdown_table(heads, rows), "", *self.advice.values()])

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each pair and a column for each number.

        Raises:
            ImportError: pandas is missing.
        """
        return data_frame({key: [pair[key] for pair in self.pairs] for key in self.pairs[0]})

    def plot(self, path: str | Path | None = None) -> "Figure":
        """The values as colours, each relative to the nearest candidate of its task.

        Args:
            path: PNG to write; None writes nothing.

        Returns:
            The figure, which a notebook shows.
        """
        figure, (ax,) = make_figure(1, 3 + len(self.tasks))
        sign = 1 if self.nearer_is_smaller else -1
        draw_heat(ax, self.values, self.candidates, self.tasks, self.measure, sign)
        return save_figure(figure, None if path is None else Path(path))


def csi(
    candidates: Mapping[str, Source | Mapping[str, Any]],
    task: Source | Mapping[str, Any],
    *,
    checkpoint: str | Path | None = None,
    size: int | None = None,
    seed: int = 0,
    workdir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> CsiTable:
    """Distances of data sets from a task, and which of them to pretrain on.

    The same as workflow "csi" of a config.

    Args:
        candidates: name → path, list of `ase.Atoms` or `Structure`, store, or an entry of a config
            such as ``{"kind": "generate", "generator": "slabs", "arguments": {"count": 500}}``.
        task: the task, likewise, or several of them as name → source.
        checkpoint: directory of a run or converted checkpoint whose features count; None takes the
            extractor that comes with the package.
        size: structures drawn from each set; None takes the default of configs.
        seed: seed of samples, resampling and projection.
        workdir: directory for features, report and figures; None writes nothing.
        settings: dotted key of a config → value: ``{"sampling.strategy": "random"}``.
        progress: show progress.
        **options: units and label keys of files and atoms, as in a config.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: settings contradict each other or the data.
        ReadError: a file or a frame cannot be read.

    Example:
        >>> import atomjax
        >>> from ase.io import read
        >>> sets = {"mine": read("train.xyz", ":"), "other": "test.xyz"}
        >>> table = atomjax.csi(sets, task="frames.xyz", progress=False)
        >>> table.candidates, table.tasks
        (('mine', 'other'), ('frames',))
    """
    keep_freed_memory()
    with work_in(workdir) as folder:
        sides = {"candidates": candidates, "downstream": _named_tasks(task)}
        chosen = given_settings(
            "csi", sides, folder / "data", options, checkpoint, size, seed, settings or {}
        )
        # Figures of a folder that is removed would be seen by nobody.
        told: dict[str, Any] = {"progress": progress, "figures": workdir is not None}
        found = call(similarity, chosen, folder, check=check_similarity, **told)
    return _table(found)


def _named_tasks(task: Source | Mapping[str, Any]) -> Mapping[str, Any]:
    """Name → source of the tasks; a single file gives its name."""
    if isinstance(task, Mapping) and "kind" not in task:
        return task
    named = isinstance(task, str | os.PathLike)
    return {Path(task).name.partition(".")[0] if named else "task": task}


def _table(found: Mapping[str, Any]) -> CsiTable:
    """The table of what ``csi.json`` holds."""
    pairs, first = found["pairs"], found["measures"][0]
    candidates = tuple(dict.fromkeys(pair["upstream"] for pair in pairs))
    tasks = tuple(dict.fromkeys(pair["downstream"] for pair in pairs))

    def array(key: str) -> np.ndarray:
        by_pair = {(pair["upstream"], pair["downstream"]): pair.get(key) for pair in pairs}
        rows = [[by_pair[name, task] for task in tasks] for name in candidates]
        return np.array(rows, dtype=np.float64)

    chosen = {choice["task"]: choice for choice in found["recommendations"]}
    return CsiTable(
        candidates=candidates,
        tasks=tasks,
        measure=first["label"],
        nearer_is_smaller=first["near"] == "small",
        values=array(first["column"]),
        lower=array("lower"),
        upper=array("upper"),
        noise_floor=array("noise_floor"),
        unseen=array("unseen_share"),
        nearest={task: choice["ranking"][0] for task, choice in chosen.items()},
        clear={task: choice["clear"] for task, choice in chosen.items()},
        advice={task: choice["words"] for task, choice in chosen.items()},
        pairs=tuple(pairs),
    )
