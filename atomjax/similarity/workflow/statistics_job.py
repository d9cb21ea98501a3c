"""Workflow "statistics", and the same from Python: data sets in, a file of statistics of each out.

statistics/<set>.statistics.npz   see :mod:`atomjax.similarity.statistics`
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import atomjax
from atomjax.data.given import Source
from atomjax.data.settings import STATISTICS
from atomjax.data.sources import describe_origin
from atomjax.reporting.report import Document, write_report
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.execution import call, work_in
from atomjax.runtime.run import Run
from atomjax.similarity.measures.registry import BUILT_IN
from atomjax.similarity.settings import SimilaritySettings
from atomjax.similarity.statistics import (
    SetStatistics,
    check_path,
    elements_of,
    merge_statistics,
    read_statistics,
    recipe_of,
    write_statistics,
)
from atomjax.similarity.workflow.job import check_similarity, given_settings, open_sets


def keep_statistics(config: Mapping[str, Any] | SimilaritySettings, run: Run) -> dict[str, Any]:
    """Writes a file of statistics of every candidate.

    Args:
        config: settings of workflow "statistics", or a config that makes them.
        run: receives features and files.

    Returns:
        "statistics": name → path in the run's directory.

    Raises:
        ConfigError: settings contradict each other or the data.
        CheckpointError: the extractor's checkpoint is missing.
        ReadError: a file cannot be read.
    """
    settings, extractor, sets = open_sets(config, run)
    written, told = {}, []
    for dataset in settings.candidates:
        made = sets.extract(dataset)
        facts = dataset.facts if dataset.kind == "read" else None
        about = {
            "origin": describe_origin(settings.as_read(dataset)),
            "licence": facts.licence if facts else "",
            "citation": facts.citation if facts else "",
            "elements": elements_of(made.features),
            "atomjax": atomjax.__version__,
        }
        written[dataset.name] = f"statistics/{dataset.name}{STATISTICS}"
        if run.primary:
            statistics = SetStatistics(made, recipe_of(settings, extractor), about)
            write_statistics(run.path(written[dataset.name]), statistics)
            text = statistics.describe()
            run.say(text)
            told += [f"## {dataset.name}", "", textwrap.indent(text, " " * 4), ""]
    results = {"statistics": written}
    run.write_json("results.json", results)
    write_report(lambda: Document(title="Statistics of data sets", lines=told), run)
    return results


def statistics(
    source: Source | Mapping[str, Any],
    path: str | Path | None = None,
    *,
    name: str | None = None,
    checkpoint: str | Path | None = None,
    size: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> SetStatistics:
    """Statistics of a data set, whose file :func:`atomjax.csi` takes in place of the set.

    Args:
        source: path, list of `ase.Atoms` or `Structure`, store, or an entry of a config; or files
            of statistics, which are read and merged.
        path: file to write, whose name ends in ".statistics.npz"; None writes nothing.
        name: name of the set; None takes that of the file to write.
        checkpoint: directory of a run or converted checkpoint whose features count; None takes the
            extractor that comes with the package.
        size: structures drawn, or all of a smaller set; None takes the default of configs.
        seed: seed of the sample and the projection; the same for all that is compared.
        settings: dotted key of a config → value: ``{"sampling.strategy": "random"}``.
        progress: show progress.
        **options: units and label keys of files and atoms, as in a config.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: settings contradict each other or the data, or statistics cannot be merged.
        ReadError: a file or a frame cannot be read.

    Example:
        >>> import atomjax
        >>> made = atomjax.statistics("train.xyz", name="mine", progress=False)
        >>> made.describe().splitlines()[0].startswith("mine:")
        True
    """
    keep_freed_memory()
    path = None if path is None else check_path(path)
    name = name or (path and path.name.removesuffix(STATISTICS))
    if files := _files_of_statistics(source):
        made = merge_statistics(files, name)
    else:
        with work_in(None) as folder:
            sides = {"candidates": {name or "set": source}}
            changes = {"measures": [one.name for one in BUILT_IN], **(settings or {})}
            chosen = given_settings(
                "statistics", sides, folder / "data", options, checkpoint, size, seed, changes
            )
            check = check_similarity
            found = call(keep_statistics, chosen, folder, check=check, progress=progress)
            (written,) = found["statistics"].values()
            made = read_statistics(folder / written)
    if path is not None:
        write_statistics(path, made)
    return made


def _files_of_statistics(source: Any) -> list[str]:
    """The files of a source, if it is files of statistics."""
    given = [source] if isinstance(source, str | Path) else source
    if not isinstance(given, Sequence) or not all(isinstance(one, str | Path) for one in given):
        return []
    files = [str(one) for one in given]
    return files if all(file.endswith(STATISTICS) for file in files) else []
