"""The cache of downloads: files that were fetched and checked, each with a record of its hash.

    <cache>/<collection>/<file>                  as the publisher has it
    <cache>/<collection>/<file>.record.json      address, hash, and whether the publisher stated it
    <cache>/<collection>/<file>.part             what came so far
    <cache>/<collection>/<file>.unpacked/        an archive's content

``ATOMJAX_DOWNLOADS`` names another cache, ``ATOMJAX_MIRROR`` an address or a folder that holds
``<collection>/<file>`` and is asked instead of the publishers.
"""

import datetime
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from rich.console import Console

from atomjax.runtime.config import ConfigError, nearest
from atomjax.runtime.downloads.catalogue import CATALOGUE, Entry, Remote
from atomjax.runtime.downloads.transfer import (
    DownloadError,
    Resuming,
    Unreachable,
    describe_bytes,
    megabytes,
)
from atomjax.runtime.files import read_json, replacing_folder, user_cache, write_json
from atomjax.runtime.lock import sole_use
from atomjax.runtime.progress import Display

PREFIX = "download:"
CACHE, MIRROR = "ATOMJAX_DOWNLOADS", "ATOMJAX_MIRROR"
_MEND = "delete it, and the file beside it is checked again"


def is_download(path: str | os.PathLike[str] | None) -> bool:
    """Check whether a path is the name of a download, such as "download:rmd17/aspirin"."""
    return path is not None and os.fspath(path).startswith(PREFIX)


def find_download(path: str | os.PathLike[str]) -> Entry:
    """The entry of the catalogue that a name means, with the prefix or without.

    Raises:
        ConfigError: there is none.
    """
    name = os.fspath(path).removeprefix(PREFIX)
    if name not in CATALOGUE:
        raise ConfigError(f"there is no download '{name}'.{nearest(name, CATALOGUE)}")
    return CATALOGUE[name]


def local_path(path: str | os.PathLike[str], display: Display | None = None) -> Path:
    """The file or folder of a path; that of a download is fetched where it is not there yet.

    Args:
        path: a path, or the name of a download with its prefix.
        display: takes the licence and progress; None for standard error.

    Raises:
        ConfigError: there is no such download.
        DownloadError: it cannot be had, or is not what the publisher, or the first download, had.
    """
    return fetch(find_download(path), display) if is_download(path) else Path(path)


def cache_folder() -> Path:
    """``$ATOMJAX_DOWNLOADS``, by default ``downloads`` in the user's cache."""
    return Path(os.environ.get(CACHE) or user_cache("downloads")).expanduser()


def place_of(entry: Entry, remote: Remote | None = None) -> Path:
    """Path of an entry's file in the cache, or in the mirror where that is a folder."""
    mirror = _mirror_folder()
    folder = cache_folder() if mirror is None else mirror
    return folder / entry.collection.name / (remote or entry.remote).name


def fetch(entry: Entry, display: Display | None = None, *, check: bool = False) -> Path:
    """The file or folder of an entry, fetched, checked and unpacked where it is not yet.

    Args:
        entry: entry of the catalogue.
        display: takes the licence and progress; None for standard error.
        check: compare the hashes of what is there again.

    Raises:
        DownloadError: as :func:`local_path`.
    """
    shown = Display(Console(stderr=True)) if display is None else display
    unpacked = None if entry.inside is None else _unpacked_folder(entry)
    remotes = (entry.remote, *entry.beside)
    if check or not all(_is_checked(place_of(entry, remote), entry) for remote in remotes):
        _announce(entry, shown)
        for remote in remotes:
            with sole_use(_record_path(entry, remote)):
                _obtain(entry, remote, shown, check)
    if unpacked is None:
        return place_of(entry)
    if not unpacked.is_dir():
        with sole_use(unpacked):
            if not unpacked.is_dir():
                _unpack(place_of(entry), unpacked, shown)
    return _find_inside(unpacked, entry)


def _announce(entry: Entry, display: Display) -> None:
    """Say what is about to be fetched, from where, and under which licence."""
    missing = [r for r in (entry.remote, *entry.beside) if not place_of(entry, r).exists()]
    if not missing:
        return
    facts = entry.collection
    sizes = [remote.size for remote in missing]
    known = [size for size in sizes if size is not None]
    size = "size unknown" if len(known) < len(sizes) else describe_bytes(sum(known))
    display.write(f"{facts.title} ({PREFIX}{entry.name}), {size}, into {place_of(entry).parent}")
    display.write(f"licence: {facts.licence}; {facts.page}")


def _obtain(entry: Entry, remote: Remote, display: Display, check: bool) -> None:
    """Fetch a file where it is not there, and compare its hash."""
    place = place_of(entry, remote)
    if not place.exists() and _is_checked(place, entry):
        display.write(f"{place.name} was removed after it was unpacked; it is not compared")
    elif not place.exists():
        _download(entry, remote, place, display)
    elif check or not _is_checked(place, entry):
        _compare(entry, remote, place)


def _download(entry: Entry, remote: Remote, place: Path, display: Display) -> None:
    # pooch and requests take as long to import as all of atomjax.
    import pooch

    if _mirror_folder() is not None:
        raise DownloadError(f"{place} is missing; {MIRROR} names a folder, so put it there")
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    address = f"{mirror}/{entry.collection.name}/{remote.name}" if mirror else remote.address
    expected, part = _expected_hash(entry, remote), place.with_name(f"{place.name}.part")
    # pooch logs each address and, of files without a hash, an invitation to note one.
    pooch.get_logger().setLevel("WARNING")
    with megabytes(display.track, place.name, remote.size, part) as told:
        downloader: Any = Resuming(part=part, told=told)
        try:
            pooch.retrieve(
                address,
                known_hash=expected,
                fname=place.name,
                path=place.parent,
                downloader=downloader,
            )
        except Unreachable as error:
            raise Unreachable(f"{error}. {by_hand(entry, remote)}") from error
        except ValueError as error:
            raise DownloadError(f"{_other_file(entry, remote, address)}; fetch it again") from error
    _record(entry, remote, place, expected or _hash(place, "sha256"), address)


def by_hand(entry: Entry, remote: Remote) -> str:
    """Instructions for those who fetch a file by other means."""
    size = "" if remote.size is None else f" ({describe_bytes(remote.size)})"
    below = f"{entry.collection.name}/{remote.name}"
    return (
        f"Fetch {remote.address}{size} where it can be had (see {entry.collection.page}) and put "
        f"it here as {cache_folder() / below}, or set {MIRROR} to a folder or an address that "
        f"holds {below}"
    )


def _compare(entry: Entry, remote: Remote, place: Path) -> None:
    """Compare a file that is there with the hash that it has to have, and note it."""
    expected = _expected_hash(entry, remote)
    kind = "sha256" if expected is None else expected.partition(":")[0]
    found = _hash(place, kind)
    if expected not in (None, found):
        reason = _other_file(entry, remote, str(place))
        unpacked = _unpacked_folder(entry)
        archive = _is_archive(entry, remote.name) and unpacked.is_dir()
        those = f"it and {unpacked}" if archive else "it"
        raise DownloadError(f"{reason}; it has {found}. Delete {those} to fetch it again")
    _record(entry, remote, place, found, _read_record(entry, remote).get("address", "by hand"))


def _other_file(entry: Entry, remote: Remote, source: str) -> str:
    """Words on a file whose hash is another one."""
    if remote.hash is not None:
        return (
            f"{source} is not the file that {entry.collection.page} states, {remote.hash}: it was "
            "damaged on the way, or replaced"
        )
    record = _read_record(entry, remote)
    return (
        f"{source} is not the file of the first download, {record['hash']} on {record['date']}: it "
        f"was damaged or replaced (if its publisher says so, delete {_record_path(entry, remote)})"
    )


def _expected_hash(entry: Entry, remote: Remote) -> str | None:
    """The publisher's hash, else that of the first download; None before that."""
    return remote.hash or _read_record(entry, remote).get("hash")


def _hash(place: Path, kind: str) -> str:
    import pooch

    return f"{kind}:{pooch.file_hash(os.fspath(place), alg=kind)}"


def _mirror_folder() -> Path | None:
    """The mirror where it is a folder, None where it is an address or there is none."""
    mirror = os.environ.get(MIRROR, "")
    return Path(mirror).expanduser() if mirror and "://" not in mirror else None


def _record_path(entry: Entry, remote: Remote) -> Path:
    return cache_folder() / entry.collection.name / f"{remote.name}.record.json"


def _read_record(entry: Entry, remote: Remote) -> dict[str, Any]:
    path = _record_path(entry, remote)
    return read_json(path, _MEND) if path.exists() else {}


def _record(entry: Entry, remote: Remote, place: Path, found: str, address: str) -> None:
    """Note the hash of a checked file, with what tells a changed file without reading it."""
    state = place.stat()
    fields = {
        "address": address,
        "hash": found,
        "stated": remote.hash is not None,
        "bytes": state.st_size,
        "modified": state.st_mtime_ns,
        "licence": entry.collection.licence,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    old = _read_record(entry, remote)
    if old.get("hash") == found:
        fields["date"] = old["date"]
    elif _is_archive(entry, remote.name):
        # What another archive held.
        unpacked = _unpacked_folder(entry)
        with sole_use(unpacked):
            shutil.rmtree(unpacked, ignore_errors=True)
    write_json(_record_path(entry, remote), fields)


def _is_checked(place: Path, entry: Entry) -> bool:
    """Check whether a file is there as it was when its hash was compared.

    An archive that is unpacked may be deleted.
    """
    if not place.exists():
        return _is_archive(entry, place.name) and _unpacked_folder(entry).is_dir()
    remote = next(r for r in (entry.remote, *entry.beside) if r.name == place.name)
    record, state = _read_record(entry, remote), place.stat()
    return (record.get("bytes"), record.get("modified")) == (state.st_size, state.st_mtime_ns)


def _is_archive(entry: Entry, name: str) -> bool:
    """Check whether the entry's file of this name is unpacked, and not one beside it."""
    return entry.inside is not None and name == entry.remote.name


def _unpacked_folder(entry: Entry) -> Path:
    return cache_folder() / entry.collection.name / f"{entry.remote.name}.unpacked"


def _unpack(archive: Path, folder: Path, display: Display) -> None:
    """Unpack an archive, all of it or nothing.

    Raises:
        DownloadError: it is damaged, or holds paths that lead elsewhere.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError(
            f"{archive} is not unpacked: Python before 3.11.4 lets archives write anywhere; take a "
            f"later one, or unpack it yourself into {folder}"
        )
    display.write(f"unpacking {archive.name}")
    try:
        with replacing_folder(folder) as new:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(new)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(new, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise DownloadError(
            f"{archive} cannot be unpacked ({error}); delete it, and it is fetched again"
        ) from error


def _find_inside(folder: Path, entry: Entry) -> Path:
    """The file or folder of an unpacked archive that an entry means."""
    if entry.inside == ".":
        return folder
    found = sorted(folder.glob(entry.inside or ""))
    if len(found) == 1:
        return found[0]
    folders = {path.parent for path in found}
    if len(folders) == 1 and all(path.is_file() for path in found):
        return folders.pop()
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:10])
    raise DownloadError(
        f"{folder} has {len(found)} places like {entry.inside}, not one, so {PREFIX}{entry.name} "
        f"does not say which; give the path of one. It holds {names}"
    )
