"""Workflow "features": features of whole data sets as arrays on disk.

    <set>/atoms.npy        [ΣN, d] float32, atoms of the first structure first
    <set>/structures.npy   [S, d] float32, means over the atoms of each structure
    <set>/index.npz        n_node [S], atomic_numbers [ΣN], identifier [S], class_key [S]
    <set>/done.json        structures that are written; a run that was stopped goes on from there

Arrays are written as they come, so memory does not grow with the set, on one device.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atomjax.data.load import find_file, generate_spec, load_structures
from atomjax.data.settings import DatasetSettings
from atomjax.inference.embeddings import Embedder
from atomjax.runtime.config import ConfigError
from atomjax.runtime.files import replacing
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.similarity.features.extractor import check_invariants, load_extractor
from atomjax.similarity.settings import ExtractorSettings, Invariance
from atomjax.structures import Structure

# Structures between two notes of what is written.
CHUNK_BATCHES = 16
DONE = "done.json"


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(WorkflowSettings):
    """A whole config of workflow "features".

    Attributes:
        workflow: "features".
        datasets: whose structures; all of a set, whatever its split.
        extractor: the backbone; its ``batch_size`` structures are computed at once.
        invariance: "none", "scalars" or "norms".
        cache_dir: where generated sets are kept; None keeps them in the run directory.
        workers: processes that label structures; 0 means one per core.
        seed: written with the run; nothing here is random.
    """

    workflow: Literal["features"]
    datasets: tuple[DatasetSettings, ...]
    extractor: ExtractorSettings = field(default_factory=ExtractorSettings)
    invariance: Invariance = "none"
    cache_dir: str | None = None
    workers: int = 0
    seed: int = 0

    def __post_init__(self):
        names = [dataset.name for dataset in self.datasets]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"datasets={names}: give at least one, each with a name of its own")


def check_features(settings: FeatureSettings) -> list[str]:
    """Checks everything about a config that can be known before reading data.

    Raises:
        ConfigError: naming the key and how to mend it.
        CheckpointError: the extractor's checkpoint is missing.
    """
    extractor = load_extractor(settings.extractor)
    check_invariants(extractor, (settings.invariance,))
    for dataset in settings.datasets:
        find_file(dataset) if dataset.kind != "generate" else generate_spec(dataset)
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
            dataset,
            cache_dir=Path(settings.cache_dir) if settings.cache_dir else run.root / "data",
            workers=settings.workers,
            run=run,
        )
        if run.primary:
            summary[dataset.name] = _write_set(dataset.name, structures, embedder, run)
        run.wait_for_all(f"features of {dataset.name}")
    if run.primary:
        run.write_json("features.json", {"extractor": extractor.name, "sets": summary})
    return summary


def _write_set(
    name: str, structures: Sequence[Structure], embedder: Embedder, run: Run
) -> dict[str, int]:
    """Writes what is missing of one set."""
    folder = run.path(name)
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / DONE
    written = json.loads(done.read_text())["structures"] if done.exists() else 0
    n_node = np.array([len(structure) for structure in structures])
    ends = np.cumsum(n_node)
    step = CHUNK_BATCHES * embedder.batch_size
    shape = None
    with run.progress(len(structures), f"features of {name}") as tracker:
        tracker.advance(written)
        for first in range(written, len(structures), step):
            chunk = [structures[i] for i in range(first, min(first + step, len(structures)))]
            found = embedder(chunk)
            if shape is None:
                width = found.atoms[0].shape[1]
                shape = (int(ends[-1]), width)
                atoms = _array(folder / "atoms.npy", shape, fresh=first == 0)
                means = _array(folder / "structures.npy", (len(structures), width), first == 0)
            last = first + len(chunk)
            atoms[ends[first] - n_node[first] : ends[last - 1]] = np.concatenate(found.atoms)
            means[first:last] = found.structures
            atoms.flush()
            means.flush()
            run.write_json(f"{name}/{DONE}", {"structures": last})
            tracker.advance(len(chunk))
    if not (folder / "index.npz").exists():
        _write_index(folder / "index.npz", structures)
    width = int(np.load(folder / "structures.npy", mmap_mode="r").shape[1])
    run.say(f"{name}: {len(structures)} structures, {ends[-1]} atoms, {width} features: {folder}")
    return {"structures": len(structures), "atoms": int(ends[-1]), "features": width}


def _array(path: Path, shape: tuple[int, int], fresh: bool) -> np.memmap:
    """A float32 array on disk, made anew or continued.

    Raises:
        ConfigError: the array there has another shape.
    """
    if fresh:
        return np.lib.format.open_memmap(path, "w+", np.float32, shape)
    there = np.lib.format.open_memmap(path, "r+")
    if there.shape != shape:
        raise ConfigError(
            f"{path} holds an array {there.shape}, and the data now make {shape}: the data have "
            "changed since; give another --workdir"
        )
    return there


def _write_index(path: Path, structures: Sequence[Structure]) -> None:
    with replacing(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            n_node=np.array([len(structure) for structure in structures]),
            atomic_numbers=np.concatenate([structure.atomic_numbers for structure in structures]),
            identifier=np.array([structure.identifier or "" for structure in structures]),
            class_key=np.array([structure.class_key or "" for structure in structures]),
        )
