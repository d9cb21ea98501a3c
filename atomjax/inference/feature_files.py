"""Workflow "features": features of whole data sets as arrays on disk.

    <set>/atoms.npy        [ΣN, d] float32, atoms of the first structure first
    <set>/structures.npy   [S, d] float32, means over the atoms of each structure
    <set>/index.npz        n_node [S], atomic_numbers [ΣN], identifier [S], class_key [S]
    report.html            what was written, and a map of the sets
    <set>/done.json        structures that are written, and checksums of what is; a run that was
                           stopped goes on from there, or from the start where it is damaged

Arrays are written as they come, so memory does not grow with the set, on one device.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atomjax.data.fingerprint import fingerprint
from atomjax.data.labels import without_labels
from atomjax.data.settings import DatasetSettings
from atomjax.data.sources import check_source
from atomjax.data.structures import load_structures
from atomjax.inference.embeddings import Embedder
from atomjax.reporting.drawing import Plot
from atomjax.reporting.report import Document, write_report
from atomjax.reporting.tables import markdown_table
from atomjax.runtime.config import ConfigError, WholeNumber
from atomjax.runtime.files import (
    PARSE_ERRORS,
    DamagedFile,
    read_json,
    read_npz,
    write_json,
    write_npz,
)
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.similarity.features.extractor import check_invariants, load_extractor
from atomjax.similarity.settings import ExtractorSettings, Invariance
from atomjax.similarity.workflow.figures import SHOWN_ROWS, map_plot
from atomjax.structures import Structure

# Batches between two records of progress.
CHUNK_BATCHES = 16
DONE = "done.json"
_ROWS = 4096
ARRAYS = "atoms.npy", "structures.npy"
# Structures of each set from which on a map says something.
FEWEST_MAPPED = 10


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(WorkflowSettings):
    """Features of whole data sets as arrays."""

    workflow: Literal["features"]
    "Write features of data sets."
    datasets: tuple[DatasetSettings, ...]
    "Data sets; all structures of each, whatever its split."
    extractor: ExtractorSettings = field(default_factory=ExtractorSettings)
    "Backbone that computes the features."
    invariance: Invariance = "none"
    "Features that are written: all, scalars, or norms."
    cache_dir: str | None = None
    "Directory of generated sets; none: the run directory."
    workers: WholeNumber = 0
    "Processes that label structures; 0: one per core."
    seed: int = 0
    "Written with the run; nothing here is random."

    def __post_init__(self):
        super().__post_init__()
        names = [dataset.name for dataset in self.datasets]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"datasets={names}: give at least one, each with a name of its own")


def check_features(settings: FeatureSettings) -> list[str]:
    """Check what can be known of a config before reading data; see ``Workflow.check``."""
    extractor = load_extractor(settings.extractor)
    check_invariants(extractor, (settings.invariance,))
    for dataset in settings.datasets:
        check_source(without_labels(dataset))
    names = ", ".join(dataset.name for dataset in settings.datasets)
    return [f"workflow features of {names}", f"extractor {extractor.name}"]


def write_feature_files(config: Mapping[str, Any] | FeatureSettings, run: Run) -> dict[str, Any]:
    """Writes the features of every data set; sets that are written already are left alone.

    Args:
        config: settings of workflow "features", or a config that makes them.
        run: receives the arrays and shows progress.

    Returns:
        For each set its structures, atoms and width.

    Raises:
        ConfigError: a data set cannot be read as the config says.
        ReadError: a file cannot be read.
        ValueError: features are not finite.
    """
    settings = FeatureSettings.from_config(config)
    extractor = load_extractor(settings.extractor)
    run.say(f"extractor: {extractor.name}")
    embedder = Embedder(
        extractor, invariance=settings.invariance, batch_size=settings.extractor.batch_size
    )
    summary = {}
    for dataset in settings.datasets:
        structures = load_structures(
            without_labels(dataset),
            cache_dir=Path(settings.cache_dir) if settings.cache_dir else run.root / "data",
            workers=settings.workers,
            run=run,
        )
        if run.primary:
            folder = run.path(dataset.name)
            summary[dataset.name] = write_features(folder, dataset.name, structures, embedder, run)
        run.wait_for_all(f"features of {dataset.name}")
    if run.primary:
        run.write_json("features.json", {"extractor": extractor.name, "sets": summary})
    write_report(lambda: _compose(extractor.name, summary, run), run)
    return summary


def _compose(extractor: str, summary: Mapping[str, Mapping[str, int]], run: Run) -> Document:
    """The report: what was written, and a map of the sets where there is enough to draw."""
    heads = ["set", "structures", "atoms", "features", "folder"]
    rows = [
        [name, *(f"{number:,}" for number in one.values()), f"`{name}/`"]
        for name, one in summary.items()
    ]
    lines: list[str | Plot] = [f"Features: {extractor}.", "", *markdown_table(heads, rows), ""]
    if all(one["structures"] >= FEWEST_MAPPED for one in summary.values()):
        plot = map_plot({name: _some_rows(run.path(name)) for name in summary}, tasks=())
        caption = plot.caption.replace("Features of atoms", "Mean features of structures")
        lines.append(replace(plot, caption=caption))
    return Document(title="Features", lines=lines)


def _some_rows(folder: Path) -> np.ndarray:
    """Mean features of at most `SHOWN_ROWS` structures, evenly from the whole set."""
    means = np.load(folder / "structures.npy", mmap_mode="r", allow_pickle=False)
    return np.array(means[:: -(-len(means) // SHOWN_ROWS)])


def write_features(
    folder: Path, name: str, structures: Sequence[Structure], embedder: Embedder, run: Run
) -> dict[str, int]:
    """Writes the missing features of one set.

    Returns:
        Numbers of "structures", "atoms" and "features".

    Raises:
        ConfigError: the folder holds features of other structures or of another backbone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_node = np.array([len(structure) for structure in structures])
    ends = np.cumsum(n_node)
    counts = int(ends[-1]), len(structures)
    made_of = {"data": fingerprint(structures)["order"], "extractor": embedder.extractor.digest}
    if embedder.invariance != "none":
        made_of["invariance"] = embedder.invariance
    written, sums = _written(folder, ends, made_of, run)
    step = CHUNK_BATCHES * embedder.batch_size
    arrays: list[np.memmap] = []
    with run.progress(len(structures), f"features of {name}", written) as tracker:
        for first in range(written, len(structures), step):
            chunk = [structures[i] for i in range(first, min(first + step, len(structures)))]
            found, last = embedder(chunk), first + len(chunk)
            parts = [np.concatenate(found.atoms), found.structures]
            if not arrays:
                arrays = _open_arrays(folder, counts, parts[0].shape[1], fresh=first == 0)
            begins = int(ends[first] - n_node[first]), first
            for i, (array, begin, part) in enumerate(zip(arrays, begins, parts, strict=True)):
                rows = np.ascontiguousarray(part, np.float32)
                array[begin : begin + len(rows)] = rows
                sums[i] = zlib.crc32(rows.data, sums[i])
                array.flush()
            write_json(folder / DONE, {"structures": last, "crc32": sums, **made_of})
            tracker.advance(len(chunk))
    _write_index(folder / "index.npz", structures)
    width = int(np.load(folder / "structures.npy", mmap_mode="r").shape[1])
    run.say(f"{name}: {len(structures)} structures, {ends[-1]} atoms, {width} features: {folder}")
    return {"structures": len(structures), "atoms": int(ends[-1]), "features": width}


def _written(
    folder: Path, ends: np.ndarray, made_of: Mapping[str, str], run: Run
) -> tuple[int, list[int]]:
    """Structures of an earlier start, and CRC-32 of their rows in each array; 0 where damaged.

    Raises:
        ConfigError: the arrays there are of other structures, or of another extractor.
    """
    if not (folder / DONE).exists():
        return 0, [0, 0]
    try:
        done = read_json(folder / DONE, "its features are computed again")
        written = int(done["structures"])
        # Earlier versions did not say.
        changed = [name for name, value in made_of.items() if done.get(name, value) != value]
        if changed:
            raise ConfigError(
                f"{folder} holds features of before the {' and the '.join(changed)} changed; give"
                " another --workdir, or delete the folder"
            )
        arrays = [np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in ARRAYS]
        _compare_shapes(folder, arrays, (int(ends[-1]), len(ends)))
        counts = int(ends[written - 1]), written
        sums = [_sum_of_rows(array[:count]) for array, count in zip(arrays, counts, strict=True)]
        # Earlier versions wrote no checksums.
        if done.get("crc32", sums) != sums:
            raise DamagedFile(f"{folder}: {' or '.join(ARRAYS)} does not match its checksum")
    except ConfigError:
        raise
    except PARSE_ERRORS as error:
        run.say(f"{folder}: what is there is damaged ({error}); it is computed again")
        return 0, [0, 0]
    return written, sums


def _sum_of_rows(array: np.ndarray) -> int:
    """CRC-32 of an array that is mapped, a part at a time."""
    value = 0
    for begin in range(0, len(array), _ROWS):
        value = zlib.crc32(np.ascontiguousarray(array[begin : begin + _ROWS]).data, value)
    return value


def _compare_shapes(folder: Path, arrays: Sequence[np.ndarray], counts: tuple[int, int]) -> None:
    for name, array, count in zip(ARRAYS, arrays, counts, strict=True):
        if array.ndim == 2 and len(array) != count:
            raise ConfigError(
                f"{folder / name} has {len(array)} rows, and the data now make {count}: the data"
                " have changed since; give another --workdir"
            )


def _open_arrays(folder: Path, counts: tuple[int, int], width: int, fresh: bool) -> list[np.memmap]:
    """The float32 arrays on disk, made anew or continued.

    Raises:
        ConfigError: the arrays there have another shape.
    """
    if fresh:
        shapes = zip(ARRAYS, counts, strict=True)
        open_new = np.lib.format.open_memmap
        return [open_new(folder / name, "w+", np.float32, (count, width)) for name, count in shapes]
    return [np.lib.format.open_memmap(folder / name, "r+") for name in ARRAYS]


def _write_index(path: Path, structures: Sequence[Structure]) -> None:
    try:
        read_npz(path, "it is written again")
    except (FileNotFoundError, DamagedFile):
        arrays = {
            "n_node": np.array([len(structure) for structure in structures]),
            "atomic_numbers": np.concatenate([one.atomic_numbers for one in structures]),
            "identifier": np.array([structure.identifier or "" for structure in structures]),
            "class_key": np.array([structure.class_key or "" for structure in structures]),
        }
        write_npz(path, arrays)
