"""Conversions: shares of machines, what was killed, what was left out."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import numpy as np
import pytest

from atomjax.structures.convert import describe, main, parse_option, parse_shard
from atomjax.structures.readers import read
from atomjax.structures.store import Conversion, Store, StoreError, convert
from atomjax.structures.store.cluster import convert_on_cluster
from atomjax.structures.store.conversion import work
from atomjax.structures.store.plan import merge

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """An extended XYZ file of 20 molecules, number 13 damaged."""
    path = tmp_path / "frames.extxyz"
    head = "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-{}.5\nH 0 0 0 0 0 1\n"
    bond = ["0.74" if i != 13 else "nan" for i in range(20)]
    path.write_text("".join(head.format(i) + f"H 0 0 {bond[i]} 0 0 -1\n" for i in range(20)))
    return path


@pytest.fixture
def trajectory(tmp_path: Path) -> Path:
    """A file of 60 frames, read in any order."""
    path = tmp_path / "rmd17_water.npz"
    rng = np.random.default_rng(0)
    positions = np.diag([1.0, 2.0, 3.0]) + rng.normal(scale=0.05, size=(60, 3, 3))
    np.savez(
        path,
        nuclear_charges=[8, 1, 1],
        coords=positions,
        energies=rng.normal(size=60),
        forces=rng.normal(size=(60, 3, 3)),
    )
    return path


def plan(path: Path, **fields) -> Conversion:
    units = {"options": {"energy_unit": "eV", "length_unit": "Å"}, "energy_kind": "total"}
    source: dict = {"source": "rmd17"} if path.suffix == ".npz" else units
    return Conversion(paths=(str(path),), shard_size=7, **{**source, **fields})


@pytest.fixture
def here(monkeypatch) -> None:
    """Workers as calls in this process, which is faster and can be interrupted."""

    def run(module, requests, told):
        monkeypatch.setattr("atomjax.structures.store.conversion.tell", lambda **f: told(f))
        for request in requests:
            work(dict(request))

    monkeypatch.setattr("atomjax.structures.store.conversion.run_workers", run)


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_a_file_becomes_a_store(trajectory, tmp_path):
    store = convert(plan(trajectory), tmp_path / "s", workers=2)
    assert store is not None
    given = read(trajectory, "rmd17")
    assert len(store) == 60
    assert len(store.manifest["shards"]) == 9
    for a, b in zip(given, store, strict=True):
        np.testing.assert_array_equal(b.positions, a.positions.astype(np.float32))
        assert (a.energy, a.identifier, a.class_key) == (b.energy, b.identifier, b.class_key)
    store.verify()
    assert not [
        path for path in store.path.rglob("*") if path.name.startswith((".", "done", "plan"))
    ]


@pytest.mark.parametrize("fixture", ["trajectory", "frames"])
def test_shares_of_machines_make_the_same_bytes(fixture, request, tmp_path, here):
    conversion = plan(request.getfixturevalue(fixture), on_error="skip")
    convert(conversion, tmp_path / "one", workers=1)
    for part in (2, 0):
        assert convert(conversion, tmp_path / "three", shard=(part, 3), workers=2) is None
    with pytest.raises(StoreError, match=r"shares are missing: run --shard 1/3"):
        merge(tmp_path / "three")
    convert(conversion, tmp_path / "three", shard=(1, 3))
    merge(tmp_path / "three")
    assert files(tmp_path / "one") == files(tmp_path / "three")


def test_damaged_records_are_counted_or_stop(frames, tmp_path, here, capsys):
    with pytest.raises(ValueError, match=r"frames.extxyz:13: .*not finite"):
        convert(plan(frames), tmp_path / "stopped")
    arguments = ["--path", str(frames), "--out", str(tmp_path / "s"), "--shard-size", "7"]
    declared = ["--option", "energy_unit=eV", "--option", "length_unit=Å", "--energy-kind", "total"]
    main([*arguments, "--on-error", "skip", *declared])
    store = Store(tmp_path / "s")
    assert [round(-(s.energy or 0.0)) for s in store] == [
        round(i + 0.5) for i in range(20) if i != 13
    ]
    assert store.manifest["skipped"]["count"] == 1
    assert store.manifest["skipped"]["first"][0][0] == "frames.extxyz:13"
    said = capsys.readouterr().out
    assert "1 damaged records were left out" in said
    assert "19 structures" in said


def test_units_are_asked_for_as_in_a_config(frames: Path, tmp_path: Path) -> None:
    missing = r"length_unit and energy_unit and energy_kind; declare: --option length_unit=Å"
    with pytest.raises(StoreError, match=missing):
        convert(Conversion(paths=(str(frames),)), tmp_path / "s")
    options = {"length_unit": "Å", "energy_key": ""}
    declined = Conversion(paths=(str(frames),), options=options, on_error="skip")
    store = convert(declined, tmp_path / "s")
    assert store is not None
    assert store.manifest["origin"]["energy_kind"] == "none"
    with pytest.raises(StoreError, match="energy_kind is 'atomic'"):
        Conversion(paths=("a.xyz",), energy_kind="atomic")
    with pytest.raises(StoreError, match="the format 'no_reader:MINE' cannot be imported"):
        convert(Conversion(paths=(str(frames),), source="no_reader:MINE"), tmp_path / "t")


def test_the_kind_of_energy_is_asked_for_and_passed_on(shared: Path, tmp_path: Path, here) -> None:
    path = str(shared / "data" / "oc20_pyg2.lmdb")
    with pytest.raises(StoreError, match=r"says its energy_kind; declare: --energy-kind"):
        convert(Conversion(paths=(path,)), tmp_path / "s")
    with pytest.raises(StoreError, match="energy_kind='total' for OC20 needs reference_energies"):
        convert(Conversion(paths=(path,), energy_kind="total"), tmp_path / "s")
    for _ in range(2):
        store = convert(Conversion(paths=(path,), energy_kind="adsorption"), tmp_path / "s")
        assert store is not None
    assert store.manifest["origin"]["energy_kind"] == "adsorption"


def test_units_that_a_file_states_are_kept_in_the_manifest(
    cases: Path, tmp_path: Path, here: None
) -> None:
    path = str(cases / "schnetpack_layout.db")
    with pytest.raises(StoreError, match=r"states energy_unit='kcal/mol', but energy_unit='eV'"):
        convert(Conversion(paths=(path,), options={"energy_unit": "eV"}), tmp_path / "s")
    asked = Conversion(paths=(path,), energy_kind="total")
    for _ in range(2):  # the second finds the store finished
        store = convert(asked, tmp_path / "s")
        assert store is not None
    assert store.manifest["origin"]["options"] == {
        "energy_unit": "kcal/mol",
        "length_unit": "Å",
        "force_unit": "kcal/mol/Å",
    }
    assert store[0].energy == pytest.approx(-97000 * 0.0433641042, rel=1e-8)


def test_keys_that_are_not_read_are_listed_in_the_manifest(
    cases: Path, tmp_path: Path, here: None
) -> None:
    store = convert(plan(cases / "energy_capital.xyz"), tmp_path / "s")
    assert store is not None
    assert ["energy", "Energy", 24] in store.manifest["notes"]["unused"]
    assert "24 records hold 'Energy'" in describe(store)


def test_a_worker_that_fails_says_why(frames, tmp_path):
    with pytest.raises(StoreError, match=r"frames.extxyz:13: .*not finite"):
        convert(plan(frames), tmp_path / "s")


def test_what_disagrees_is_refused(trajectory, tmp_path, here):
    convert(plan(trajectory), tmp_path / "s")
    before = files(tmp_path / "s")
    convert(plan(trajectory), tmp_path / "s")
    assert files(tmp_path / "s") == before
    with pytest.raises(
        StoreError, match="another conversion: precision was 'float32', is 'float64'"
    ):
        convert(plan(trajectory, precision="float64"), tmp_path / "s")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="not empty and holds no conversion"):
        convert(plan(trajectory), tmp_path / "full")
    with pytest.raises(StoreError, match="no such file"):
        convert(plan(tmp_path / "rmd17_absent.npz"), tmp_path / "t")


def test_what_was_interrupted_goes_on(trajectory, tmp_path, monkeypatch, here):
    made = convert(plan(trajectory), tmp_path / "whole")
    from atomjax.structures.store import conversion

    write, count = conversion.write_shard, iter(range(100))

    def fail_at_the_fifth(*arguments):
        if next(count) == 4:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(conversion, "write_shard", fail_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        convert(plan(trajectory), tmp_path / "s")
    assert len(list((tmp_path / "s" / "parts").glob("*.npz"))) == 4
    convert(plan(trajectory), tmp_path / "s")
    assert next(count) == 10  # five more calls: the four shards that were there are kept
    assert files(tmp_path / "s") == files(made.path)


def test_a_file_that_changes_is_not_mixed_with_what_it_was(trajectory, tmp_path, monkeypatch, here):
    from atomjax.structures.store import conversion

    write, out = conversion.write_shard, tmp_path / "s"

    def change_at_the_third(target, name, *arguments):
        if name.endswith("2"):
            os.utime(trajectory, ns=(0, 10**18))
        return write(target, name, *arguments)

    monkeypatch.setattr(conversion, "write_shard", change_at_the_third)
    changed = r"rmd17_water\.npz (was written to|had [\d,]+ bytes and has [\d,]+) since"
    with pytest.raises(StoreError, match=changed):
        convert(plan(trajectory), out)
    assert not (out / "manifest.json").exists()
    monkeypatch.setattr(conversion, "write_shard", write)
    # Nor does the same command go on with what is there now.
    with pytest.raises(StoreError, match=f"{changed} it was converted to .*; delete that folder"):
        convert(plan(trajectory), out)
    shutil.rmtree(out)
    store = convert(plan(trajectory), out)
    assert store is not None
    assert store.manifest["origin"]["sizes"] == {str(trajectory): trajectory.stat().st_size}
    # A finished store is not taken for one of other data either.
    with trajectory.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(StoreError, match=changed):
        convert(plan(trajectory), out)
    trajectory.unlink()
    assert convert(plan(trajectory), out) is not None


def test_a_killed_conversion_resumes_to_the_same_bytes(tmp_path, here):
    path = tmp_path / "rmd17_long.npz"
    rng = np.random.default_rng(0)
    positions = np.diag([1.0, 2.0, 3.0]) + rng.normal(scale=0.05, size=(6000, 3, 3))
    labels = {"energies": rng.normal(size=6000), "forces": rng.normal(size=(6000, 3, 3))}
    np.savez(path, nuclear_charges=[8, 1, 1], coords=positions, **labels)
    out = tmp_path / "s"
    arguments = ["--source", "rmd17", "--path", str(path), "--out", str(out), "--shard-size", "250"]
    command = [sys.executable, "-m", "atomjax.structures.convert", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("parts/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(list(out.glob("parts/*.npz")))
    assert 0 < kept < 24
    main(arguments)
    whole = Conversion(paths=(str(path),), source="rmd17", shard_size=250)
    convert(whole, tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")


def test_arguments():
    assert parse_shard("1/4") == (1, 4)
    assert parse_option('targets=["gap"]') == ("targets", ["gap"])
    assert parse_option("energy_unit=eV") == ("energy_unit", "eV")
    with pytest.raises(StoreError, match="write NAME=VALUE"):
        parse_option("energy_unit")
    with pytest.raises(SystemExit):
        main(["--out", "x", "--shard", "4/4", "--path", "y"])


@pytest.fixture
def cluster():
    """Dask's local cluster, its two workers in threads of this process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(processes=False, **options) as made:
        yield made


def test_a_cluster_makes_the_same_store(cluster, trajectory, frames, tmp_path, here):
    for path, options in ((trajectory, {}), (frames, {"on_error": "skip"})):
        asked = plan(path, **options)
        alone = convert(asked, tmp_path / path.stem / "alone")
        together = convert_on_cluster(asked, tmp_path / path.stem / "together", cluster)
        assert files(alone.path) == files(together.path)
        assert len(convert_on_cluster(asked, together.path, cluster)) == len(alone)


def test_a_cluster_says_which_record_is_damaged(cluster, frames, tmp_path):
    with pytest.raises(StoreError, match=r"frames\.extxyz"):
        convert_on_cluster(plan(frames), tmp_path / "store", cluster)
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_without_dask_it_says_what_to_install(monkeypatch, trajectory, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(StoreError, match=r"pip install 'atomjax\[cluster\]'"):
        convert_on_cluster(plan(trajectory), tmp_path / "store", "tcp://127.0.0.1:1")
