"""Converts data sets to stores.

python -m atomjax.structures.convert --source oc20 --path s2ef/all/train --out stores/oc20

A run that was killed goes on where it was when started again with the same arguments. With
``--shard i/n`` machine i of n makes its share of the same folder; ``--merge`` puts them together.
``--scheduler`` has the workers of a Dask cluster make it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.files import DamagedFile
from atomjax.runtime.progress import Display
from atomjax.structures.readers import RecordNotes
from atomjax.structures.store.check import check
from atomjax.structures.store.cluster import convert_on_cluster
from atomjax.structures.store.conversion import convert
from atomjax.structures.store.merge import StoreError
from atomjax.structures.store.plan import ENERGY_KINDS, Conversion, merge
from atomjax.structures.store.store import Store
from atomjax.structures.store.writing import SHARD_SIZE

_NOTES = 3


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m atomjax.structures.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", help="folder of the store")
    parser.add_argument("--path", nargs="+", default=[], help="files or folders to convert")
    parser.add_argument("--source", help="format of the files (docs/data.md); default: by name")
    parser.add_argument("--split", help="official split of the data set")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the reader, such as energy_unit=eV; the value may be JSON",
    )
    parser.add_argument(
        "--energy-kind",
        choices=ENERGY_KINDS,
        help="kind of the energies, where the format leaves it open (docs/units.md)",
    )
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise")
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--shard-size", type=int, default=SHARD_SIZE, help="records of a file")
    parser.add_argument("--shard", type=parse_shard, default=(0, 1), metavar="I/N")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, whose workers convert")
    parser.add_argument("--merge", action="store_true", help="join the parts of --shard")
    parser.add_argument("--verify", action="store_true", help="compare a store with its checksums")
    parser.add_argument(
        "--check", nargs="+", metavar="FILE", help="read files or stores whole, each in a process"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    keep_freed_memory()
    parser = make_parser()
    given = parser.parse_args(arguments)
    console = Console()
    try:
        options = dict(map(parse_option, given.option))
        if given.check:
            for path in given.check:
                print(check(path, given.source, options))
            return
        if given.out is None:
            parser.error("give --out, or --check")
        if given.verify:
            Store(given.out).verify()
            console.print(f"{given.out}: every file matches its checksum", highlight=False)
            return
        if given.merge:
            store = merge(given.out)
        elif not given.path:
            parser.error("give --path, or --merge or --verify")
        else:
            if given.split is not None:
                options["split"] = given.split
            conversion = Conversion(
                paths=tuple(given.path),
                source=given.source,
                options=options,
                energy_kind=given.energy_kind,
                on_error=given.on_error,
                precision=given.precision,
                shard_size=given.shard_size,
            )
            display = Display(console)
            if given.scheduler is not None:
                store = convert_on_cluster(conversion, given.out, given.scheduler, display=display)
            else:
                options = {"shard": given.shard, "workers": given.workers, "display": display}
                store = convert(conversion, given.out, **options)
    except (StoreError, DamagedFile, OSError) as error:
        sys.exit(str(error))
    if store is None:
        part, parts = given.shard
        print(f"share {part} of {parts} is done; --merge puts all of them together")
    else:
        print(describe(store))


def parse_shard(text: str) -> tuple[int, int]:
    """``i/n`` as two numbers.

    Raises:
        argparse.ArgumentTypeError: it is not of this form.
    """
    first, slash, second = text.partition("/")
    if not (slash and first.isdigit() and second.isdigit() and int(first) < int(second)):
        raise argparse.ArgumentTypeError(f"{text!r}: write I/N with 0 <= I < N, such as 0/4")
    return int(first), int(second)


def parse_option(text: str) -> tuple[str, Any]:
    """``name=value``; a value that is no JSON is text.

    Raises:
        StoreError: there is no equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise StoreError(f"--option {text}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def describe(store: Store) -> str:
    """A few lines about a store."""
    statistics, skipped = store.manifest["statistics"], store.manifest["skipped"]
    lines = [
        f"{store.path}: {len(store):,} structures, {statistics['atoms']:,} atoms"
        f" ({statistics['mean_atoms']:.1f} each), {len(store.class_keys):,} classes,"
        f" {store.nbytes / len(store):.0f} bytes a structure"
    ]
    if skipped["count"]:
        lines.append(f"  {skipped['count']:,} damaged records were left out, the first:")
        lines += [f"    {who}: {why}" for who, why in skipped["first"][:_NOTES]]
    notes = RecordNotes()
    notes.merge(store.manifest.get("notes", notes.to_dict()))
    lines += [f"  {line}" for line in notes.lines()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
