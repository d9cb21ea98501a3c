"""Files that others wrote: looked at whole, and named where they end a process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atomjax.runtime.lock import deaths, noting
from atomjax.runtime.subprocesses import WorkerError, run_workers
from atomjax.structures.convert import main
from atomjax.structures.readers import ReadError, open_file
from atomjax.structures.readers.checks.lmdb_pages import check_pages
from atomjax.structures.store import write_store
from tests.structures.readers.test_lmdb import graph, write_graphs
from tests.structures.store.test_store import make

PAGE = 4096


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """Two hundred graphs, every fifth with pages of its own."""
    places = np.arange(3600.0).reshape(1200, 3)
    large = {"pos": places, "force": places, "atomic_numbers": np.full(1200, 6.0)}
    large |= {"tags": None, "fixed": None, "natoms": 1200, "cell": np.diag([1e5] * 3)[None]}
    many = [graph(i, **large if i % 5 == 0 else {}) for i in range(200)]
    return write_graphs(tmp_path / "a.lmdb", many)


def test_whole_files_pass_and_damaged_records_are_listed(graphs, tmp_path, capsys):
    store = write_store(tmp_path / "store", make(3))
    main(["--check", str(graphs), str(store.path)])
    printed = capsys.readouterr().out
    assert "a.lmdb: all 200 records can be read" in printed
    assert "store: all 3 records can be read" in printed
    text = tmp_path / "a.xyz"
    text.write_text("1\n\nH 0 0 0\n1\n\nX9 0 0 0\n")
    with pytest.raises(SystemExit, match=r"a.xyz: 1 of 2 records are damaged:\n  a.xyz:1: "):
        main(["--check", str(text), "--option", "energy_key="])
    with pytest.raises(SystemExit):
        main(["--check"])


def test_records_without_atoms_are_counted(cases, tmp_path, capsys):
    text = tmp_path / "a.xyz"
    text.write_text("1\n\nH 0 0 0\n0\n\n")
    main(["--check", str(text), "--option", "energy_key="])
    main(["--check", str(cases / "spice2_empty_molecule.hdf5"), "--source", "spice"])
    printed = capsys.readouterr().out
    assert "a.xyz: all 1 records can be read; 1 records without atoms left out" in printed
    empty = "1 left out by the format: empty molecules, without conformations or atoms"
    assert f"all 5 records can be read; {empty}" in printed
    text.write_text("0\n\n0\n\n")
    with pytest.raises(SystemExit, match=r"a.xyz: holds no readable structure; 2 records without"):
        main(["--check", str(text)])


@pytest.mark.parametrize("kind", ["page number", "length", "node", "entries", "cut"])
def test_pages_that_point_outside_are_found_before_they_are_followed(graphs, kind):
    data = bytearray(graphs.read_bytes())
    pages = np.frombuffer(data, "<u2").reshape(-1, PAGE // 2)
    leaf = int(np.flatnonzero(pages[2:, 5] == 2)[0]) + 2
    start = leaf * PAGE
    nodes = np.frombuffer(data, "<u2", (int(pages[leaf, 6]) - 16) // 2, start + 16).tolist()
    # A record with pages of its own.
    node = start + next(n for n in nodes if data[start + n + 4] & 1)
    del pages
    if kind == "page number":
        data[start] ^= 0x80
    elif kind == "length":
        data[node + 2] ^= 0x40
    elif kind == "node":
        data[start + 17] ^= 0x80
    elif kind == "entries":
        for meta in (0, PAGE):
            data[meta + 16 + 24 + 48 + 32] ^= 1
    else:
        del data[-PAGE:]
    graphs.unlink()
    graphs.write_bytes(data)
    with pytest.raises(ReadError, match=r"a\.lmdb: not a readable LMDB file .*copy it again"):
        check_pages(graphs)
    with pytest.raises(ReadError, match=r"a\.lmdb: not a readable LMDB file .*copy it again"):
        open_file(graphs)


def test_a_worker_that_dies_of_a_fault_says_what_it_read():
    module = "tests.structures.store.dying_worker"
    message = r"died \(Bus error\) while it read /data/b.lmdb: .* --check /data/b.lmdb looks"
    with pytest.raises(WorkerError, match=message):
        run_workers(module, [{"path": "/data/b.lmdb"}], lambda _: None)


def test_nothing_that_a_worker_says_is_lost():
    module, request = "tests.structures.store.printing_worker", {"name": "a"}
    told = []
    run_workers(module, [request], told.append)
    assert [line["shards"] for line in told] == [["a"]]

    def full_disk(_):
        raise OSError("no space left")

    with pytest.raises(WorkerError, match="no space left"):
        run_workers(module, [request, request], full_disk)


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_processes_take_one_request_after_the_other(workers):
    names = ["a", "b", "c", "d"]
    told = []
    module = "tests.structures.store.printing_worker"
    run_workers(module, [{"name": name} for name in names], told.append, workers)
    assert sorted(name for line in told for name in line["shards"]) == names
    assert len({line["process"] for line in told}) <= workers


def test_an_error_is_told_without_what_was_printed_before():
    module = "tests.structures.store.printing_worker"
    with pytest.raises(WorkerError, match=r"^no shard has this name$"):
        run_workers(module, [{"name": "a"}, {"name": None}, {"name": "b"}], lambda _: None, 1)


def test_deaths_are_told_once_and_notes_of_the_dead_go(tmp_path):
    folder = tmp_path / "notes"
    program = [sys.executable, "-m", "tests.structures.store.dying_worker"]
    with noting(folder):
        done = subprocess.run(program, input='{"path": "/data/b.lmdb"}', text=True, check=False)
        assert done.returncode == -signal.SIGBUS
        (folder / f"{os.uname().nodename}-{2**22 + 1}").write_text("/data/c.lmdb\n")
    (told,) = deaths(folder)
    assert "while it read /data/b.lmdb" in told
    assert deaths(folder) == []
    assert list(folder.iterdir()) == []
