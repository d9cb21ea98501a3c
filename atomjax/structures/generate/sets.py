"""Sets of labelled structures: specified, made in parallel, kept on disk."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from atomjax.runtime.code import code_digest
from atomjax.runtime.files import temporary_folder, user_cache
from atomjax.runtime.lock import sole_use
from atomjax.runtime.progress import Display
from atomjax.runtime.subprocesses import WorkerError, available_cores, run_workers
from atomjax.structures.archive import ArchiveError, load_archive, save_archive
from atomjax.structures.generate.errors import GenerateError, missing_package
from atomjax.structures.generate.kinds import find_kind
from atomjax.structures.generate.pool.tasks import make_tasks, options_from
from atomjax.structures.structure import Structure

WORKER_MODULE = "atomjax.structures.generate.pool.worker"
# What makes the set of a spec: a change to it leaves the sets made before alone.
CODE = "atomjax.structures.generate"


@dataclass(frozen=True)
class GenerateSpec:
    """A set to make: the same spec gives the same structures on the same machine.

    Attributes:
        kind: "conformers", "dimers", "reactions", "dynamics", "properties", "slabs", "oxides" or
            "crystals".
        count: number of structures.
        seed: seed of all random numbers.
        options: fields of the kind's ``Options``; those left out have their defaults.
    """

    kind: str
    count: int
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> str:
        """Origin of the labels, in words.

        Raises:
            GenerateError: an unknown kind or option, or a wrong value.
        """
        kind = find_kind(self.kind)
        options = options_from(kind.Options, self.options, self.kind)
        return kind.LABELS.format(**dataclasses.asdict(options))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """A spec from one flat mapping: keys other than kind, count and seed are options.

        Raises:
            GenerateError: kind or count is missing.
        """
        missing = [name for name in ("kind", "count") if name not in values]
        if missing:
            raise GenerateError(
                f"a generated set needs {' and '.join(missing)}; got {sorted(values)}"
            )
        rest = {k: v for k, v in values.items() if k not in ("kind", "count", "seed", "options")}
        options = {**values.get("options", {}), **rest}
        return cls(values["kind"], values["count"], values.get("seed", 0), options)

    def resolve(self) -> dict[str, Any]:
        """All settings that determine the set, defaults filled in, as JSON.

        Raises:
            GenerateError: an unknown kind or option, a wrong value, or a missing package.
        """
        kind = find_kind(self.kind)
        for name, lowest in (("count", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise GenerateError(f"{name} must be an integer from {lowest} on, got {value!r}")
        options = options_from(kind.Options, self.options, self.kind)
        return {
            "kind": self.kind,
            "count": self.count,
            "seed": self.seed,
            "options": dataclasses.asdict(options),
            "versions": {name: _version(name) for name in (*kind.PACKAGES, "numpy")},
            "code": code_digest(CODE),
        }


@dataclass(frozen=True)
class GenerateReport:
    """Outcome of making or reading a set.

    Attributes:
        kept: structures in the set.
        dropped: attempts that gave none, by reason.
        path: the archive that holds the set.
        cached: whether it was there already.
    """

    kept: int
    dropped: Mapping[str, int]
    path: Path
    cached: bool

    def __str__(self) -> str:
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.dropped.items())
        source = f"read from {self.path}" if self.cached else f"kept in {self.path}"
        return f"{self.kept} structures ({source}); dropped: {reasons or 'none'}"


def default_cache_dir() -> Path:
    """``$ATOMJAX_CACHE_DIR``, or ``atomjax`` in the user's cache folder."""
    if "ATOMJAX_CACHE_DIR" in os.environ:
        return Path(os.environ["ATOMJAX_CACHE_DIR"])
    return user_cache()


def cache_path(spec: GenerateSpec, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Cache file of a set, named by a hash of the spec and of the packages' versions."""
    text = json.dumps(spec.resolve(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    return folder / f"{spec.kind}-{spec.count}-{digest}.npz"


def generate(
    spec: GenerateSpec | Mapping[str, Any],
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool | Display = True,
) -> list[Structure]:
    """Make a set of labelled structures, or read it where it was made before.

    Args:
        spec: set to make.
        cache_dir: directory of sets; None means `default_cache_dir`.
        workers: processes; None or 0 means one per core. Their number changes nothing but time.
        progress: whether to show progress, or where.

    Returns:
        The structures, named ``kind:index``, with energies (eV) and forces (eV/Å).

    Raises:
        GenerateError: the spec is wrong, a package is missing, or labelling fails too often.
    """
    return generate_with_report(spec, cache_dir, workers, progress)[0]


def generate_with_report(
    spec: GenerateSpec | Mapping[str, Any],
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool | Display = True,
) -> tuple[list[Structure], GenerateReport]:
    """As `generate`, with the number of dropped attempts by reason."""
    if not isinstance(spec, GenerateSpec):
        spec = GenerateSpec.from_mapping(spec)
    path = cache_path(spec, cache_dir)
    display = progress if isinstance(progress, Display) else _display(progress)
    found = _read(path, display)
    if found is None:
        # Trainings that run side by side may want the same set at once: one makes it.
        with sole_use(path):
            found = _read(path, display)
            if found is None:
                structures, dropped = _make(spec, workers or available_cores(), display)
                about = {"spec": spec.resolve(), "labels": spec.labels, "dropped": dropped}
                save_archive(path, structures, about)
                report = GenerateReport(len(structures), dropped, path, cached=False)
                display.write(f"{spec.kind}: {report}")
                return structures, report
    structures, metadata = found
    return structures, GenerateReport(len(structures), metadata["dropped"], path, cached=True)


def _read(path: Path, display: Display) -> tuple[list[Structure], dict[str, Any]] | None:
    """A set that was made before; None where it has to be made, as where it is damaged."""
    try:
        return load_archive(path)
    except FileNotFoundError:
        return None
    except ArchiveError as error:
        display.write(f"{error}: this is done now")
        return None


def _display(shown: bool) -> Display:
    return Display(Console(stderr=True) if shown else None)


def _make(
    spec: GenerateSpec, workers: int, display: Display
) -> tuple[list[Structure], dict[str, int]]:
    resolved = spec.resolve()
    kind = find_kind(spec.kind)
    options = options_from(kind.Options, spec.options, spec.kind)
    tasks = make_tasks(kind.plan(options, spec.count, spec.seed))
    with temporary_folder() as folder:
        paths = [folder / f"{task.index}.npz" for task in tasks]
        requests = [
            {
                "kind": spec.kind,
                "options": resolved["options"],
                "seed": spec.seed,
                "task": dataclasses.asdict(task),
                "path": str(path),
            }
            for task, path in zip(tasks, paths, strict=True)
        ]
        with display.track(spec.count, f"labelling {spec.kind}") as tracker:

            def told(report: Mapping[str, Any]) -> None:
                tracker.advance(report["made"])

            try:
                run_workers(WORKER_MODULE, requests, told, workers)
            except WorkerError as error:
                raise GenerateError(f"labelling {spec.kind}: {error}") from error
        parts = [load_archive(path) for path in paths]
    dropped: Counter[str] = Counter()
    for _, metadata in parts:
        dropped.update(metadata["dropped"])
    return [s for structures, _ in parts for s in structures], dict(sorted(dropped.items()))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise missing_package(package) from error
