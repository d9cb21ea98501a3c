"""Downloads by name, from a publisher on this machine whose transfers go wrong."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console

import atomjax
from atomjax.command.__main__ import main
from atomjax.convert.__main__ import main as convert
from atomjax.data.given import structures_of
from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.data.sources import check_source
from atomjax.data.structures import read_dataset
from atomjax.recipes.own_data import own_config
from atomjax.recipes.own_sets import csi_config
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.downloads import (
    CATALOGUE,
    Collection,
    DownloadError,
    Entry,
    Remote,
    cache,
    cache_folder,
    fetch,
    licence_note,
    local_path,
    transfer,
)
from atomjax.runtime.downloads.transfer import megabytes
from atomjax.runtime.progress import Display
from atomjax.structures.readers import FORMATS, guess_format, read
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint
from tests.convert.checkpoints import lightning, tiny_state, write
from tests.download_server import Publisher, publisher
from tests.test_full_disk import disk  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[1]
FRAMES = "".join(
    f"2\nProperties=species:S:1:pos:R:3 energy=-1.{i}\nH 0 0 0\nH 0 0 0.7{i}\n" for i in range(40)
).encode()
TOY = Collection(
    name="toy", title="toys", licence="CC0, a toy", page="http://toys", format="extxyz"
)
CONFIG = {"name": "toys", "kind": "read", "energy_unit": "eV", "length_unit": "Å"}


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Publisher]:
    """A publisher, an empty cache, and a catalogue with the toys of this publisher."""
    monkeypatch.setenv("ATOMJAX_DOWNLOADS", str(tmp_path / "cache"))
    monkeypatch.delenv("ATOMJAX_MIRROR", raising=False)
    monkeypatch.setattr(cache, "Resuming", partial(transfer.Resuming, timeout=0.3, pause=0.0))
    with publisher({"frames.xyz": FRAMES}) as state:
        remote = Remote(address=f"{state.address}/frames.xyz", name="frames.xyz")
        add(monkeypatch, "toy/frames", remote)
        yield state


def add(monkeypatch, name: str, remote: Remote, **fields) -> Entry:
    entry = Entry(name=name, collection=TOY, remote=remote, **fields)
    monkeypatch.setitem(CATALOGUE, name, entry)
    return entry


def stated(server: Publisher, monkeypatch, content: bytes = FRAMES) -> Entry:
    """The toy with the hash that its publisher states."""
    address = f"{server.address}/frames.xyz"
    size = 1_234_000
    remote = Remote(address=address, name="frames.xyz", size=size, hash=md5(content))
    return add(monkeypatch, "toy/frames", remote)


def record() -> dict:
    return json.loads((cache_folder() / "toy" / "frames.xyz.record.json").read_text())


def test_a_file_is_fetched_once_and_its_licence_shown_before(server, monkeypatch):
    entry = stated(server, monkeypatch)
    said = io.StringIO()
    display = Display(Console(file=said, width=500))
    place = fetch(entry, display)
    assert place == cache_folder() / "toy" / "frames.xyz"
    assert place.read_bytes() == FRAMES
    first, second = said.getvalue().splitlines()[:2]
    assert "toys (download:toy/frames), 1.23 MB" in first
    assert second == "licence: CC0, a toy; http://toys"
    assert (record()["hash"], record()["stated"]) == (md5(FRAMES), True)
    said.truncate(0)
    assert fetch(entry, display) == place
    assert said.getvalue() == ""
    assert len(server.asked) == 1
    # What was changed since is noticed, without being asked for.
    place.write_bytes(FRAMES[:-1])
    with pytest.raises(DownloadError, match=r"is not the file that http://toys states.*Delete it"):
        fetch(entry, display)


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_transfer_goes_on_where_it_stopped(server, monkeypatch, fault: str):
    server.faults = [fault, 503, fault]
    assert fetch(stated(server, monkeypatch)).read_bytes() == FRAMES
    half, rest = len(FRAMES) // 2, len(FRAMES) - len(FRAMES) // 2
    starts = [start for _, start in server.asked]
    assert starts == [0, half, half, half + rest // 2]


def test_the_next_command_goes_on_where_the_last_one_gave_up(server, monkeypatch):
    entry = stated(server, monkeypatch)
    server.faults, server.always = ["cut"], 503
    with pytest.raises(DownloadError, match=rf"5 times in a row, at {len(FRAMES) // 2:,} of") as at:
        fetch(entry)
    assert "goes on from there" in str(at.value)
    server.always, server.asked[:] = None, []
    assert fetch(entry).read_bytes() == FRAMES
    assert server.asked == [("frames.xyz", len(FRAMES) // 2)]
    left = sorted(path.name for path in (cache_folder() / "toy").iterdir())
    assert left == ["frames.xyz", "frames.xyz.record.json"]


def test_progress_begins_with_what_is_there(tmp_path):
    part, begun, advanced = tmp_path / "frames.xyz.part", [], []
    part.write_bytes(bytes(3_000_000))

    @contextlib.contextmanager
    def track(*given):
        begun.append(given)
        yield SimpleNamespace(advance=advanced.append)

    with megabytes(track, "frames.xyz", 9_000_000, part) as told:
        for held in (3_000_000, 5_500_000, 0):
            told(held, None)
    assert begun == [(9, "frames.xyz (MB)", 3)]
    assert advanced == [2, -5], "a server that sends all again takes it back"


def test_a_server_without_ranges_sends_all_again(server, monkeypatch):
    server.ranges, server.faults = False, ["cut", "cut"]
    assert fetch(stated(server, monkeypatch)).read_bytes() == FRAMES
    server.always = "cut"
    (cache_folder() / "toy" / "frames.xyz").unlink()
    with pytest.raises(DownloadError, match="broke off"):
        fetch(stated(server, monkeypatch))


def test_a_part_of_another_version_is_not_continued(server, monkeypatch):
    server.faults, server.always = ["cut"], 503
    with pytest.raises(DownloadError):
        fetch(stated(server, monkeypatch))
    new = FRAMES.replace(b"H", b"F")
    server.always, server.files["frames.xyz"] = None, new
    assert fetch(stated(server, monkeypatch, new)).read_bytes() == new


def test_a_part_that_is_complete_or_too_long_is_told_from_others(server, monkeypatch):
    part = cache_folder() / "toy" / "frames.xyz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(FRAMES)
    assert fetch(stated(server, monkeypatch)).read_bytes() == FRAMES
    (cache_folder() / "toy" / "frames.xyz").unlink()
    part.write_bytes(FRAMES + b"more")
    assert fetch(stated(server, monkeypatch)).read_bytes() == FRAMES


def test_another_file_than_the_publisher_states_is_refused(server, monkeypatch):
    entry = stated(server, monkeypatch, FRAMES + b" ")
    with pytest.raises(DownloadError, match=r"is not the file that http://toys states, md5"):
        fetch(entry)
    assert not (cache_folder() / "toy" / "frames.xyz").exists()


def test_without_a_stated_hash_the_first_download_is_trusted(server):
    entry = CATALOGUE["toy/frames"]
    place = fetch(entry)
    assert record()["hash"] == f"sha256:{hashlib.sha256(FRAMES).hexdigest()}"
    assert record()["stated"] is False
    place.unlink()
    server.files["frames.xyz"] = FRAMES.replace(b"H", b"F")
    with pytest.raises(DownloadError, match="not the file of the first download") as caught:
        fetch(entry)
    # The message says what trusts the new one.
    (named,) = re.findall(r"delete (\S+\.json)", str(caught.value))
    Path(named).unlink()
    assert fetch(entry).read_bytes() == server.files["frames.xyz"]


def test_a_full_disk_is_named(server, disk, monkeypatch):  # noqa: F811 - the fixture
    entry = CATALOGUE["toy/frames"]
    server.files["frames.xyz"] = bytes(100_000)
    monkeypatch.setenv("ATOMJAX_DOWNLOADS", str(disk))
    with pytest.raises(DownloadError, match=rf"no space left in {disk}.*of 100 kB; free some"):
        fetch(entry)
    assert not (disk / "toy" / "frames.xyz.part").exists()
    # Where others fill the disk meanwhile, what came is kept.
    room = SimpleNamespace(free=1 << 40)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: room)
    with pytest.raises(DownloadError, match="no space left"):
        fetch(entry)
    assert (disk / "toy" / "frames.xyz.part").stat().st_size > 0


def test_without_network_the_message_says_which_file_to_put_where(server, monkeypatch, tmp_path):
    remote = Remote(address="http://127.0.0.1:1/frames.xyz", name="frames.xyz", hash=md5(FRAMES))
    entry = add(monkeypatch, "toy/frames", remote)
    with pytest.raises(DownloadError, match="cannot be reached") as caught:
        fetch(entry)
    message, place = str(caught.value), tmp_path / "cache" / "toy" / "frames.xyz"
    assert f"Fetch {remote.address}" in message
    assert f"put it here as {place}" in message
    assert "set ATOMJAX_MIRROR to a folder or an address that holds toy/frames.xyz" in message
    # Done as told, it is checked and taken.
    place.write_bytes(b"something else")
    with pytest.raises(DownloadError, match="is not the file"):
        fetch(entry)
    place.write_bytes(FRAMES)
    assert fetch(entry) == place
    assert record()["address"] == "by hand"


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_names_the_page_and_is_not_repeated(server, monkeypatch, status: int):
    server.always = status
    with pytest.raises(DownloadError, match=rf"answers {status} .*\(see http://toys\)"):
        fetch(stated(server, monkeypatch))
    assert len(server.asked) == 1


def test_a_mirror_is_asked_instead(server, monkeypatch, tmp_path):
    remote = Remote(address="http://127.0.0.1:1/frames.xyz", name="frames.xyz", hash=md5(FRAMES))
    entry = add(monkeypatch, "toy/frames", remote)
    server.files["mirror/toy/frames.xyz"] = FRAMES
    monkeypatch.setenv("ATOMJAX_MIRROR", f"{server.address}/mirror/")
    place = fetch(entry)
    assert place.read_bytes() == FRAMES
    place.unlink()
    folder = tmp_path / "shared"
    monkeypatch.setenv("ATOMJAX_MIRROR", str(folder))
    with pytest.raises(DownloadError, match=r"shared/toy/frames\.xyz is missing.*put it there"):
        fetch(entry)
    (folder / "toy").mkdir(parents=True)
    (folder / "toy" / "frames.xyz").write_bytes(FRAMES)
    assert fetch(entry) == folder / "toy" / "frames.xyz", "it is used where it lies"
    (folder / "toy" / "frames.xyz").write_bytes(b"else")
    with pytest.raises(DownloadError, match="is not the file"):
        fetch(entry)


def test_processes_that_want_the_same_file_fetch_it_once(server, monkeypatch):
    entry = stated(server, monkeypatch)
    threads = [threading.Thread(target=fetch, args=(entry,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert fetch(entry).read_bytes() == FRAMES


def tar_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:bz2") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return packed.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"), [("toys.tar.bz2", tar_of), ("toys.zip", zip_of)], ids=["tar", "zip"]
)
def test_archives_are_unpacked(server, monkeypatch, name: str, pack):
    files = {"toys/a/one.xyz": FRAMES, "toys/a/two.xyz": FRAMES, "toys/b/three.txt": b"3"}
    server.files |= {name: pack(files), "list.txt": b"left out"}
    remote = Remote(address=f"{server.address}/{name}", name=name)
    beside = (Remote(address=f"{server.address}/list.txt", name="list.txt"),)
    patterns = {"one": "toys/a/one.xyz", "folder": "**/b", "a": "**/*.xyz", "all": "."}
    for key, inside in patterns.items():
        add(monkeypatch, f"toy/{key}", remote, inside=inside, beside=beside)
    unpacked = cache_folder() / "toy" / f"{name}.unpacked"
    assert local_path("download:toy/one") == unpacked / "toys/a/one.xyz"
    assert local_path("download:toy/folder") == unpacked / "toys" / "b"
    assert local_path("download:toy/a") == unpacked / "toys" / "a"
    assert local_path("download:toy/all") == unpacked
    assert (unpacked.parent / "list.txt").read_bytes() == b"left out"
    assert sorted(path for path, _ in server.asked) == sorted([name, "list.txt"])
    # The archive may go.
    (unpacked.parent / name).unlink()
    assert len(read("download:toy/one")) == 40
    entry = CATALOGUE["toy/one"]
    assert fetch(entry, check=True) == unpacked / "toys/a/one.xyz"
    (unpacked.parent / "list.txt").touch()
    fetch(entry)
    assert len(server.asked) == 2
    add(monkeypatch, "toy/none", remote, inside="**/c")
    with pytest.raises(DownloadError, match=r"has 0 places like \*\*/c, not one.*holds toys"):
        local_path("download:toy/none")


def test_an_archive_that_was_replaced_is_unpacked_anew(server, monkeypatch):
    remote = Remote(address=f"{server.address}/toys.zip", name="toys.zip")
    entry = add(monkeypatch, "toy/packed", remote, inside="a.txt")
    server.files["toys.zip"] = zip_of({"a.txt": b"old"})
    assert fetch(entry).read_bytes() == b"old"
    server.files["toys.zip"] = zip_of({"a.txt": b"new"})
    place = cache_folder() / "toy" / "toys.zip"
    place.write_bytes(server.files["toys.zip"])
    with pytest.raises(DownloadError, match="not the file of the first download") as caught:
        fetch(entry, check=True)
    assert f"Delete it and {place}.unpacked" in str(caught.value)
    place.with_name("toys.zip.record.json").unlink()
    assert fetch(entry).read_bytes() == b"new"


@pytest.mark.parametrize(
    "content",
    [tar_of({"../escaped": b"x"}), tar_of({"a": bytes(99_999)})[:60], b"no archive"],
    ids=["leads elsewhere", "cut short", "something else"],
)
def test_a_bad_archive_leaves_nothing(server, monkeypatch, content: bytes):
    server.files["bad.tar.bz2"] = content
    remote = Remote(address=f"{server.address}/bad.tar.bz2", name="bad.tar.bz2")
    entry = add(monkeypatch, "toy/bad", remote, inside=".")
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        fetch(entry)
    left = {path.name for path in cache_folder().rglob("*") if path.is_file()}
    assert left == {"bad.tar.bz2", "bad.tar.bz2.record.json"}


def test_names_are_taken_where_paths_are(server, tmp_path):
    assert guess_format(Path("download:toy/frames")) == "extxyz"
    fields = {**CONFIG, "energy_kind": "total", "path": "download:toy/frames"}
    data = build(DataSettings, {"train": [fields], "root": str(tmp_path)})
    (dataset,) = data.train
    assert dataset.path == "download:toy/frames", "no root goes before it"
    check_source(dataset)
    assert server.asked == [], "a check fetches nothing"
    assert len(read_dataset(dataset)) == 40
    assert len(server.asked) == 1
    with pytest.raises(ConfigError, match="Did you mean 'toy/frames'"):
        build(DatasetSettings, {**fields, "path": "download:toy/frame"})
    compared = partial(csi_config, measures=["csi"])
    for recipe, argument in ((own_config, "{}"), (compared, "{0},task={0}")):
        recipe(argument.format("download:toy/frames"))
        with pytest.raises(ConfigError, match="Did you mean 'toy/frames'"):
            recipe(argument.format("download:toy/frame"))
    assert len(structures_of("download:toy/frames")) == 40
    assert len(server.asked) == 1


def test_a_published_checkpoint_is_loaded_by_name(server, shared, tmp_path, monkeypatch, capfd):
    file = write(tmp_path / "toy.pt", lightning(tiny_state(shared / "oracle")))
    server.files["toy.pt"] = file.read_bytes()
    remote = Remote(address=f"{server.address}/toy.pt", name="toy.pt")
    models = dataclasses.replace(TOY, format=None)
    entry = Entry(name="toy/model", collection=models, remote=remote)
    monkeypatch.setitem(CATALOGUE, "toy/model", entry)
    variables, metadata = load_checkpoint("download:toy/model")
    assert metadata["model"]["name"] == "gemnet_oc_tiny"
    assert "writing" in capfd.readouterr().err
    asked = len(server.asked)
    again, _ = load_checkpoint("download:toy/model")
    assert len(server.asked) == asked
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again))
    assert atomjax.load("download:toy/model").datasets == ("task0",)
    with pytest.raises(CheckpointError, match="a data set, not a checkpoint"):
        load_checkpoint("download:toy/frames")
    with pytest.raises(ConfigError, match="toy/mode"):
        load_checkpoint("download:toy/mode")
    with pytest.raises(CheckpointError, match=f"atomjax convert {file} --to checkpoints/toy"):
        load_checkpoint(file)


def test_the_command_fetches_checks_and_lists(server, capsys, tmp_path):
    assert main(["download", "toy/frames"]) == 0
    place = Path(capsys.readouterr().out.strip())
    assert place.read_bytes() == FRAMES
    state = place.stat()
    place.write_bytes(FRAMES.replace(b"H", b"F"))
    os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
    # A change that leaves size and time as they were is found by reading alone.
    assert main(["download", "toy/frames"]) == 0
    assert main(["download", "toy/frames", "--check"]) == 1
    assert "not the file of the first download" in capsys.readouterr().err
    assert main(["download"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert "| toy/frames |  |  | CC0 | yes |" in rows
    assert "| rmd17/aspirin | 1.07 GB | md5 | CC0 |  |" in rows
    assert main(["download", "rmd17/asprin"]) == 2
    assert "Did you mean 'rmd17/aspirin'" in capsys.readouterr().err
    assert convert(["download:jmp-x", "--to", str(tmp_path / "new")]) == 1
    assert "Did you mean 'jmp-" in capsys.readouterr().err


def test_the_catalogue_is_whole():
    digits = {"md5": 32, "sha256": 64}
    remotes = {}
    for name, entry in CATALOGUE.items():
        assert entry.name == name == name.strip("/ ")
        assert entry.collection.format in {None, *FORMATS}
        assert entry.collection.licence
        assert entry.collection.page.startswith("http")
        for remote in (entry.remote, *entry.beside):
            place = entry.collection.name, remote.name
            assert remotes.setdefault(place, remote) == remote, "two files of one place"
            # One publisher has no other address than this.
            plain = remote.address.startswith("http://www.quantum-machine.org/")
            assert plain or remote.address.startswith("https://")
            if remote.hash is not None:
                kind, _, value = remote.hash.partition(":")
                assert re.fullmatch(rf"[0-9a-f]{{{digits[kind]}}}", value)
    sets = {"rmd17", "qm9", "md22", "spice", "ani1x", "transition1x", "matbench", "qmof", "oc20"}
    assert {*sets, "oc22", "omat24", "jmp"} <= {e.collection.name for e in CATALOGUE.values()}


def test_checkpoints_are_documented_by_their_names():
    text = (ROOT / "docs" / "checkpoints.md").read_text()
    for entry in CATALOGUE.values():
        if entry.remote.name.endswith(".pt") and entry.collection.name != "fairchem_omat24":
            assert f"| `download:{entry.name}` | `{entry.remote.name}` |" in text
    assert licence_note("jmp-l.pt").startswith("CC BY-NC 4.0")
    assert "code MIT" in licence_note("eq2_31M_ec4_allmd.pt")
    assert "whatever its publisher says" in licence_note("weights.pt")
