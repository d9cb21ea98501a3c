"""Commands that call a function of `atomjax` and write or print what it returns."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

import atomjax
from atomjax.command.labels import add_labels, given_labels
from atomjax.data.given import structures_of
from atomjax.data.settings import STATISTICS
from atomjax.reporting.tables import markdown_table, table_text
from atomjax.runtime.compile_cache import keep_compiled_programs
from atomjax.runtime.config import Argument, ConfigError
from atomjax.runtime.files import write_npz
from atomjax.runtime.workflows import resolve
from atomjax.structures import save_archive
from atomjax.structures.generate import GenerateSpec
from atomjax.structures.generate import generate as make_structures
from atomjax.structures.generate.kinds import KINDS
from atomjax.structures.readers import to_atoms

XYZ = (".xyz", ".extxyz")
# Rows of a table on the terminal.
SHOWN = 20


def add_csi_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax csi``."""
    add = parser.add_argument
    about = "files or stores to choose from (default: the families of the atlas)"
    add("candidates", nargs="*", metavar="NAME=FILE", help=about)
    add("--task", required=True, metavar="[NAME=]FILE", help="file or store of the task")
    add("--checkpoint", metavar="DIR", help="run or converted checkpoint whose features count")
    add("--size", type=int, metavar="N", help="structures drawn from each set")
    add("--seed", type=int, default=0, help="seed of samples and resampling (default: 0)")
    add("--workdir", metavar="DIR", help="takes features, report and figures; without, nothing is")
    add_labels(parser)


def csi(options: argparse.Namespace) -> int:
    """Prints the table of distances."""
    keep_compiled_programs()
    named: dict[str, Any] = {}
    for name, path in map(_named, options.candidates):
        if name in named:
            raise ConfigError(
                f"{named[name]} and {path} are both named {name!r}; give one another name: "
                f"NAME={path}"
            )
        named[name] = path
    labels: dict[str, Any] = given_labels(options)
    table = atomjax.csi(
        named or atomjax.atlas(),
        dict([_named(options.task)]),
        checkpoint=options.checkpoint,
        size=options.size,
        seed=options.seed,
        workdir=options.workdir,
        **labels,
    )
    print(table)
    return 0


def add_statistics_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax statistics``."""
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a data set; or statistics, to show or to merge")
    add("--output", type=Path, metavar=f"FILE{STATISTICS}", help="file to write")
    add("--checkpoint", metavar="DIR", help="run or checkpoint (default: the package's extractor)")
    add("--size", type=int, metavar="N", help="structures drawn, or all of a smaller set")
    add("--seed", type=int, default=0, help="seed of sample and projection (default: 0)")
    add("--sampling", metavar="STRATEGY", default="balanced", help="default: balanced")
    add_labels(parser)


def statistics(options: argparse.Namespace) -> int:
    """Writes the statistics of a data set, or of several together; prints what they hold."""
    keep_compiled_programs()
    output, files = options.output, options.files
    if output is None and not all(file.endswith(STATISTICS) for file in files):
        raise ConfigError(f"give --output FILE{STATISTICS}; without it, statistics are shown alone")
    if output is not None:
        _keep_inputs(output, files)
    held = atomjax.statistics(
        files if len(files) > 1 else files[0],
        output,
        checkpoint=options.checkpoint,
        size=options.size,
        seed=options.seed,
        settings={"sampling.strategy": options.sampling},
        **given_labels(options),
    )
    print(held.describe())
    return 0


def add_predict_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax predict``."""
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="run or checkpoint")
    add("files", nargs="+", metavar="FILE", help="files or stores")
    add("--output", type=Path, metavar="FILE", help=".xyz, .extxyz, .csv, .json or .npz to write")
    add("--dataset", metavar="NAME", help="data set whose head predicts, where there are several")
    add("--ensemble", nargs="+", default=[], metavar="DIR", help="further runs to average with")
    add("--which", choices=("best", "latest"), default="best", help="weights (default: best)")
    add("--batch-size", type=int, default=16, metavar="N", help="structures at once (default: 16)")
    add_labels(parser)


def predict(options: argparse.Namespace) -> int:
    """Writes predictions to a file, or prints the first of them."""
    keep_compiled_programs()
    write = None
    if options.output is not None:
        _keep_inputs(options.output, options.files)
        write = _writer(options.output)
    runs = [options.checkpoint, *options.ensemble]
    model = atomjax.load(runs if options.ensemble else options.checkpoint, options.which)
    labels: dict[str, Any] = given_labels(options)
    if classes := model.classes(options.dataset):
        labels["classes"] = list(classes)
    structures = structures_of(options.files, outdated="drop", **labels)
    results = model.predict(structures, options.dataset, batch_size=options.batch_size)
    if write is None:
        _print_table(results.columns())
    else:
        write(options.output, structures, results)
        print(f"{len(results)} structures: {options.output}")
    for name, value in results.errors().items():
        print(f"{name}: {value:.4g}")
    for target, errors in results.errors_by_target().items() if len(results.targets) > 1 else ():
        print(f"{target}: " + ", ".join(f"{name} {value:.4g}" for name, value in errors.items()))
    return 0


def add_features_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax features``."""
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="files or stores")
    add("--output", type=Path, required=True, metavar="FILE.npz", help="arrays to write")
    add("--checkpoint", metavar="DIR", help="run or checkpoint (default: the package's extractor)")
    add("--invariant-only", action="store_true", help="leave out what turns with the structure")
    add_labels(parser)


def features(options: argparse.Namespace) -> int:
    """Writes features: "atoms" [ΣN, d], "n_atoms" [S], "structures" [S, d], "identifier" [S]."""
    keep_compiled_programs()
    _keep_inputs(options.output, options.files)
    invariant = options.invariant_only
    given: dict[str, Any] = {"invariant_only": invariant, **given_labels(options)}
    found = atomjax.features(options.files, options.checkpoint, **given)
    arrays = {
        "atoms": np.concatenate(found.atoms),
        "n_atoms": np.array([len(rows) for rows in found.atoms]),
        "structures": found.structures,
        "identifier": found.identifiers,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_npz(options.output, arrays)
    print(f"{len(found.atoms)} structures, {arrays['atoms'].shape[1]} features: {options.output}")
    return 0


def add_generate_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax generate``."""
    add = parser.add_argument
    add("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    add("options", nargs="*", metavar="NAME=VALUE", help="options of the kind: docs/data.md")
    add("--count", type=int, required=True, metavar="N", help="number of structures")
    add("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    add("--workers", type=int, default=0, help="processes (default: one per core)")
    add("--output", type=Path, required=True, metavar="FILE", help=".xyz, .extxyz or .archive.npz")


def generate(options: argparse.Namespace) -> int:
    """Writes labelled structures."""
    archive = options.output.name.endswith(".archive.npz")
    if not archive and options.output.suffix not in XYZ:
        raise ConfigError(f"--output {options.output}: write .xyz, .extxyz or .archive.npz")
    pairs = [text.partition("=") for text in options.options]
    wrong = [name for name, separator, _ in pairs if not separator]
    if wrong:
        raise ConfigError(f"option '{wrong[0]}' has no value; write {wrong[0]}=VALUE")
    given = {name: Argument(value) for name, _, value in pairs}
    spec = GenerateSpec(options.kind, options.count, options.seed, given)
    structures = make_structures(spec, workers=options.workers)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if archive:
        save_archive(options.output, structures, {"spec": spec.resolve(), "labels": spec.labels})
    else:
        ase.io.write(options.output, [to_atoms(one) for one in structures], format="extxyz")
    print(f"{len(structures)} structures, labels by {spec.labels}: {options.output}")
    return 0


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax report``."""
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="workdir of a run that has ended")
    add(
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="page to write (default: report.html in the current folder)",
    )


def report(options: argparse.Namespace) -> int:
    """Writes a page that needs neither a network nor the runs to be read."""
    if options.output.suffix != ".html":
        raise ConfigError(f"--output {options.output}: the name ends in .html")
    resolve("atomjax.studies.joined:join_reports")(options.runs, options.output)
    print(f"{len(options.runs)} run{'s' if len(options.runs) > 1 else ''}: {options.output}")
    return 0


def _keep_inputs(output: Path, files: Sequence[str]) -> None:
    """Raise ConfigError where a file would be written in place of one that is read."""
    if output.exists() and any(Path(f).exists() and output.samefile(f) for f in files):
        raise ConfigError(f"--output {output} is one of the files to read; give another name")


def _writer(path: Path) -> Any:
    """The function that writes predictions to a file of such a name."""
    writers: dict[str, Any] = dict.fromkeys(XYZ, _write_xyz)
    writers |= {".csv": _write_csv, ".json": _write_json, ".npz": _write_arrays}
    if path.suffix not in writers:
        raise ConfigError(f"--output {path}: the name ends in one of {', '.join(writers)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return writers[path.suffix]


def _write_arrays(path: Path, structures: Any, results: atomjax.Predictions) -> None:
    results.write(path)


def _write_csv(path: Path, structures: Any, results: atomjax.Predictions) -> None:
    columns = results.columns()
    rows = zip(*columns.values(), strict=True)
    path.write_text(table_text([dict(zip(columns, row, strict=True)) for row in rows]))


def _write_json(path: Path, structures: Any, results: atomjax.Predictions) -> None:
    """A record for each structure: its row of the table, and forces and stress; null for none."""
    columns = results.columns()
    columns |= {"forces": results.forces, "stress": results.stresses}
    given = {name: column for name, column in columns.items() if column is not None}
    records = [
        {name: _plain(column[i]) for name, column in given.items()} for i in range(len(results))
    ]
    path.write_text(json.dumps(records, ensure_ascii=False, indent=1))


def _plain(value: Any) -> Any:
    """Lists and numbers for JSON, which has no NaN."""
    array = np.asarray(value)
    if array.ndim:
        return [_plain(one) for one in array]
    return None if array.dtype.kind == "f" and not np.isfinite(array) else array.item()


def _write_xyz(path: Path, structures: Any, results: atomjax.Predictions) -> None:
    frames = []
    columns = results.columns()
    properties = {
        name: column
        for name, column in columns.items()
        if name.startswith("value") and not name.endswith("_true")
    }
    # Of an ensemble; of forces the largest of each structure.
    deviations = {name: column for name, column in columns.items() if "_deviation" in name}
    for i, structure in enumerate(structures):
        given = {
            "energy": None if results.energies is None else results.energies[i],
            "forces": None if results.forces is None else results.forces[i],
            "stress": None if results.stresses is None else results.stresses[i],
        }
        if given["stress"] is not None and not np.isfinite(given["stress"]).all():
            given["stress"] = None
        atoms = to_atoms(structure, **given)
        own = {**properties, **deviations}
        atoms.info |= {name: _plain(column[i]) for name, column in own.items()}
        if results.marks[i]:
            atoms.info["marks"] = ",".join(sorted(results.marks[i]))
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


def _print_table(columns: dict[str, Any]) -> None:
    rows = list(zip(*columns.values(), strict=True))
    shown = [[f"{x:.10g}" if isinstance(x, float) else str(x) for x in row] for row in rows[:SHOWN]]
    print("\n".join(markdown_table(list(columns), shown, left=2)))
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN} more; --output writes all")


def _named(text: str) -> tuple[str, str]:
    """Name and path of "NAME=FILE"; a file alone gives its name."""
    name, separator, path = text.partition("=")
    # A folder may be called "lr=0.1".
    given = separator and "/" not in name
    return (name, path) if given else (Path(text).name.partition(".")[0], text)
