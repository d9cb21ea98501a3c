"""The command ``atomjax download``: published data sets and checkpoints by name."""

import argparse

from atomjax.reporting.tables import markdown_table
from atomjax.runtime.downloads import (
    CATALOGUE,
    PREFIX,
    Entry,
    cache_folder,
    describe_bytes,
    fetch,
    find_download,
    place_of,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax download``."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="downloads; without any, lists what there is")
    add("--check", action="store_true", help="compare the hashes of files that are there again")
    parser.description = (
        f"{parser.description} The same names, with {PREFIX} before them, are taken wherever a path"
        " is: atomjax train download:rmd17/aspirin. Files are kept in $ATOMJAX_DOWNLOADS, by"
        " default in the user's cache; $ATOMJAX_MIRROR is an address or a folder to take them from."
    )


def download(options: argparse.Namespace) -> int:
    """Fetches downloads and prints where they are, or lists all."""
    entries = [find_download(name) for name in options.names]
    for entry in entries:
        print(fetch(entry, check=options.check))
    if not entries:
        heads = ["name", "size", "hash", "licence", "here"]
        print("\n".join(markdown_table(heads, _rows(), left=len(heads))))
        print(f"\nkept in {cache_folder()}")
    return 0


def _rows() -> list[list[str]]:
    return [[*describe(e), "yes" if place_of(e).exists() else ""] for e in CATALOGUE.values()]


def describe(entry: Entry) -> list[str]:
    """Name, size, kind of hash and licence of an entry, for tables."""
    remote = entry.remote
    return [
        entry.name,
        "" if remote.size is None else describe_bytes(remote.size),
        "" if remote.hash is None else remote.hash.partition(":")[0],
        entry.collection.licence.partition(",")[0].partition(";")[0],
    ]
