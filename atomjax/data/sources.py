"""Sources of data sets: generators, files and stores, checked and described without structures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from atomjax.data.settings import DECLARED, DatasetSettings
from atomjax.data.store_view import describe_store, open_store
from atomjax.runtime.config import ConfigError
from atomjax.runtime.downloads import is_download, local_path
from atomjax.structures.generate import GenerateError, GenerateSpec
from atomjax.structures.generate.kinds import find_kind
from atomjax.structures.generate.pool.tasks import options_from
from atomjax.structures.readers import ReadError, RecordNotes, SkippedRecord, open_records


def check_source(dataset: DatasetSettings) -> None:
    """Check everything about a data set that can be known before its structures are read.

    Raises:
        ConfigError: naming the key and how to mend it.
    """
    if dataset.kind == "generate":
        generate_spec(dataset)
    elif dataset.kind == "store":
        open_store(dataset.name, dataset.path)
    elif dataset.kind == "statistics":
        raise no_structures(dataset)
    else:
        believe_units(dataset)


def no_structures(dataset: DatasetSettings) -> ConfigError:
    """Error for statistics where structures are wanted."""
    return ConfigError(
        f"dataset '{dataset.name}': {dataset.path} holds statistics, which can be compared and "
        "nothing else; give the structures themselves"
    )


def generate_spec(dataset: DatasetSettings) -> GenerateSpec:
    """Specification of the set that a data set of kind "generate" asks for.

    Raises:
        ConfigError: an unknown generator or argument, or one of a wrong type.
    """
    try:
        spec = GenerateSpec.from_mapping({**dataset.arguments, "kind": dataset.generator})
        find_kind(spec.kind)
        options_from(find_kind(spec.kind).Options, spec.options, spec.kind)
    except GenerateError as error:
        raise ConfigError(f"dataset '{dataset.name}': {error}") from error
    return spec


def find_file(dataset: DatasetSettings) -> Path:
    """The file or folder of a data set of kind "read"; a download is fetched.

    Raises:
        ConfigError: it does not exist.
        DownloadError: it cannot be fetched.
    """
    path = local_path(dataset.path or "").expanduser()
    is_folder = dataset.facts.is_folder
    if not (path.is_file() or (is_folder and path.is_dir())):
        kind = "a file or folder" if is_folder else "a file"
        raise ConfigError(
            f"dataset '{dataset.name}': path '{path}' is not {kind}; set the path in the config "
            "or on the command line"
        )
    return path


def believe_units(dataset: DatasetSettings) -> DatasetSettings:
    """A data set with the units that its file states, where its config leaves them open.

    Raises:
        ConfigError: the file does not state them either, or cannot be read.
    """
    if dataset.kind != "read":
        return dataset
    missing = undeclared(dataset)
    # A check of a config fetches nothing.
    if is_download(dataset.path) and not missing:
        return dataset
    path = find_file(dataset)
    if not missing:
        return dataset
    notes = RecordNotes()
    options = {name: value for name, value in dataset.arguments.items() if name != "on_error"}
    try:
        open_records(path, dataset.format, notes=notes, **options)
    except ReadError as error:
        raise ConfigError(f"dataset '{dataset.name}': {error}") from error
    if unknown := [name for name in missing if name not in notes.units]:
        kinds = ' ("total", "referenced", "adsorption" or "none")'
        raise ConfigError(
            f"dataset '{dataset.name}': neither the config nor the file {path} says its "
            f"{' and '.join(unknown)}; add {'=..., '.join(unknown)}=..."
            + (kinds if "energy_kind" in unknown else "")
        )
    return with_units(dataset, notes.units)


def undeclared(dataset: DatasetSettings) -> list[str]:
    """Fields that a data set of kind "read" needs for its labels and does not declare."""
    declared = {name: getattr(dataset, name) for name in DECLARED}
    return dataset.facts.undeclared(declared, guessed=dataset.format is None)


def with_units(dataset: DatasetSettings, units: Mapping[str, str]) -> DatasetSettings:
    """A data set with the given units, where its config leaves them open."""
    return replace(dataset, **{n: u for n, u in units.items() if getattr(dataset, n) is None})


def describe_origin(
    dataset: DatasetSettings,
    skipped: Sequence[SkippedRecord] = (),
    notes: RecordNotes | None = None,
) -> str:
    """Origin of the labels of a data set, in words for the data card."""
    said = [describe_skipped(skipped)] if skipped else []
    if notes is not None:
        said += notes.lines()
        dataset = with_units(dataset, notes.units)
    return "; ".join([_origin(dataset), *said])


def describe_skipped(skipped: Sequence[SkippedRecord]) -> str:
    """Number of records left out, and the reason for the first one, in words."""
    first = skipped[0]
    return f"{len(skipped)} damaged records left out, the first {first.identifier}: {first.reason}"


def _origin(dataset: DatasetSettings) -> str:
    if dataset.kind == "generate":
        labels = generate_spec(dataset).labels
        return f"generated by '{dataset.generator}', labels by {labels}; eV, Å; total energies"
    path = dataset.path or ""
    name = path if is_download(path) else Path(path).name
    if dataset.kind == "store":
        return describe_store(open_store(dataset.name, dataset.path))
    if dataset.energy_kind == "none":
        return f"{name}; no energies; lengths in {dataset.length_unit}"
    units = f"{dataset.energy_unit} and {dataset.length_unit}"
    forces = f", forces in {dataset.force_unit}" if dataset.force_unit else ""
    return f"{name}, in {units}{forces}; {dataset.energy_kind} energies"
