"""Structures of one data set: generated or read, divided, limited.

All are in eV and Å; those of a store stay on disk.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.data.labels import without_labels
from atomjax.data.settings import SPLITS, DatasetSettings, DataSettings, SplitSettings
from atomjax.data.sources import (
    believe_units,
    describe_skipped,
    find_file,
    generate_spec,
    no_structures,
)
from atomjax.data.store_view import open_store, select
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.structures import Structure
from atomjax.structures.generate import generate_with_report
from atomjax.structures.readers import RecordNotes, SkippedRecord, read
from atomjax.structures.splits import SplitError, split_indices

# Apart from every other use of a split's seed.
SUBSET_STREAM = 0x5AB5
NOTHING: Mapping[str, str] = {}


def load_structures(
    dataset: DatasetSettings,
    *,
    cache_dir: Path,
    workers: int,
    run: Run,
    split: str | None = None,
    skipped: list[SkippedRecord] | None = None,
    notes: RecordNotes | None = None,
    unwanted: Mapping[str, Any] = NOTHING,
) -> Sequence[Structure]:
    """All structures of one data set, or of one of its own splits, in eV and Å.

    Those of a store are left on disk.

    Args:
        dataset: data set to make or read.
        cache_dir: directory of generated sets.
        workers: processes that label; 0 means one for each core.
        run: shows progress.
        split: a split that the data set itself defines.
        skipped: takes records left out by arguments.on_error="skip"; the run reports their number.
        notes: takes the contents of the records beside the labels read.
        unwanted: arguments of the reader that decline labels (`unwanted_labels`), or name classes,
            unless the data set gives them.

    Raises:
        ConfigError: the generator or its arguments are wrong, or the file does not exist.
        GenerateError: a package is missing, or labelling fails too often.
        ReadError: the file cannot be read.
    """
    if dataset.kind == "generate":
        # One process makes the set; the others find it made.
        with run.primary_first(f"generate {dataset.name}"):
            return generate_with_report(generate_spec(dataset), cache_dir, workers, run.display)[0]
    if dataset.kind == "store":
        return open_store(dataset.name, dataset.path, notes)
    if dataset.kind == "statistics":
        raise no_structures(dataset)
    left_out = [] if skipped is None else skipped
    before = len(left_out)
    structures = read_dataset(dataset, split, skipped=left_out, notes=notes, unwanted=unwanted)
    if left_out[before:]:
        run.say(f"{dataset.name}: {describe_skipped(left_out[before:])}")
    return structures


def read_dataset(
    dataset: DatasetSettings,
    split: str | None = None,
    *,
    skipped: list[SkippedRecord] | None = None,
    notes: RecordNotes | None = None,
    unwanted: Mapping[str, Any] = NOTHING,
) -> list[Structure]:
    """All structures of a data set of kind "read"; see :func:`load_structures`."""
    file, dataset = find_file(dataset), believe_units(dataset)
    arguments = {**unwanted, **dataset.arguments}
    if dataset.energy_kind == "none":
        arguments["energy_key"] = ""
    else:
        arguments["energy_unit"] = dataset.energy_unit
        if len(dataset.facts.energy_kinds) > 1:
            arguments["energy_kind"] = dataset.energy_kind
    arguments |= {} if split is None else {"split": split}
    return read(
        file,
        dataset.format,
        length_unit=dataset.length_unit,
        force_unit=dataset.force_unit,
        source=dataset.name,
        skipped=skipped,
        notes=notes,
        **arguments,
    )


def divide(
    structures: Sequence[Structure], split: SplitSettings | None, name: str
) -> dict[str, Sequence[Structure]]:
    """Divides structures into training, validation and test parts.

    Raises:
        ConfigError: the parts ask for more than there is.
    """
    if split is None:
        return {"train": structures, "validation": [], "test": []}
    # The held-out parts come first, so that a larger training part keeps the same test set.
    sizes = {"test": split.test, "validation": split.validation, "train": split.train}
    if split.by == "official":
        raise ConfigError(f"dataset '{name}': split by=\"official\" is read, not divided")
    try:
        indices = split_indices(structures, sizes, by=split.by, seed=split.seed)
    except SplitError as error:
        raise ConfigError(f"dataset '{name}': split: {error}") from error
    return {part: select(structures, indices[part]) for part in SPLITS}


def fixed_subset(
    structures: Sequence[Structure], count: int, dataset: DatasetSettings, what: str
) -> Sequence[Structure]:
    """A random subset that the split's seed fixes; a smaller one lies within a larger one."""
    if count > len(structures):
        raise ConfigError(f"{what} is more than the {len(structures)} structures there are")
    seed = dataset.split.seed if dataset.split else 0
    rng = np.random.default_rng([seed, SUBSET_STREAM])
    chosen = np.sort(rng.permutation(len(structures))[:count])
    return select(structures, chosen)


def load_training_part(
    dataset: DatasetSettings, *, cache_dir: str | None, workers: int, run: Run
) -> Sequence[Structure]:
    """The structures of one data set that a training on it takes; see :func:`load_structures`."""
    official = dataset.split is not None and dataset.split.by == "official"
    structures = load_structures(
        dataset,
        cache_dir=Path(cache_dir) if cache_dir else run.root / "data",
        workers=workers,
        run=run,
        split="train" if official else None,
    )
    if not official:
        structures = divide(structures, dataset.split, dataset.name)["train"]
    if dataset.max_structures is None:
        return structures
    what = f"dataset '{dataset.name}': max_structures={dataset.max_structures}"
    return fixed_subset(structures, dataset.max_structures, dataset, what)


def seen_formulas(settings: DataSettings, run: Run) -> dict[str, frozenset[str]]:
    """Name of each data set of ``data.seen`` → formulas of its training part.

    Raises:
        ConfigError: a data set cannot be read as the config says.
        ReadError: a file cannot be read.
    """
    found = {}
    for dataset in settings.seen:
        structures = load_training_part(
            without_labels(dataset),
            cache_dir=settings.cache_dir,
            workers=settings.workers,
            run=run,
        )
        with run.progress(len(structures), f"formulas of {dataset.name}") as tracker:
            formulas = set()
            for structure in structures:
                formulas.add(structure.formula)
                tracker.advance(1)
        found[dataset.name] = frozenset(formulas)
    return found
