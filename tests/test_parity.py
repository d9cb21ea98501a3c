"""The parity command: agreement with the originals, and that it can fail.

In float32 it is test_user_programs.py that runs it.
"""

import shutil

import numpy as np
import pytest
from ase.build import bulk

from atomjax.graphs import build_interactions
from atomjax.parity import gemnet_oc
from atomjax.parity.__main__ import main
from atomjax.parity.oracle import GRAPHS, Case, EdgeSet
from atomjax.structures import Structure

CHANGED = ("jax_enable_x64", "jax_default_matmul_precision")


@pytest.fixture(autouse=True)
def precision():
    """Gives back the settings that the command changes."""
    import jax

    before = {name: getattr(jax.config, name) for name in CHANGED}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("gemnet_oc_tiny", "float64"),
        pytest.param("gemnet_oc_small", "float64", marks=pytest.mark.slow),
    ],
)
def test_agrees_with_the_original(shared, capsys, model, dtype):
    code = main(["--oracle", str(shared / "oracle"), "--model", model, "--dtype", dtype])
    printed = capsys.readouterr().out
    assert code == 0, printed
    for quantity in ("main edges", "node", "e_atom", "energy", "forces", "conservative_forces",
                     "forces vs alone"):  # fmt: skip
        assert f" {quantity} " in printed
    assert "FAILED" not in printed


def test_csi_agrees_with_the_original(shared, capsys):
    code = main(["--oracle", str(shared / "oracle"), "--model", "csi", "--dtype", "float64"])
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("csi ")]
    assert code == 0, printed
    assert len(printed) == 3 * 4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_agrees_with_the_original(shared, capsys, dtype):
    code = main(["--oracle", str(shared / "oracle"), "--model", "gemnet_oc_large",
                 "--dtype", dtype])  # fmt: skip
    assert code == 0, capsys.readouterr().out


def check_equiformer(shared, capsys, model: str, dtype: str):
    code = main(["--oracle", str(shared / "oracle"), "--model", model, "--dtype", dtype])
    printed = capsys.readouterr().out
    assert code == 0, printed
    for quantity in ("edges", "edge_degree", "block1", "node_embedding", "energy", "forces",
                     "forces own", "forces rotated", "forces vs alone"):  # fmt: skip
        assert f" {quantity} " in printed
    assert "FAILED" not in printed


def test_equiformer_agrees_with_the_original(shared, capsys):
    check_equiformer(shared, capsys, "eqv2_tiny", "float64")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dtype"),
    [("eqv2_tiny", "float32"), ("eqv2_31M", "float64"), ("eqv2_31M", "float32")],
)
def test_full_size_equiformer_agrees_with_the_original(shared, capsys, model, dtype):
    check_equiformer(shared, capsys, model, dtype)


def test_ties_at_a_limit_are_told_from_differences():
    crystal = bulk("Cu", cubic=True)
    order = [2, 0, 3, 1]
    structure, other = (
        Structure(atomic_numbers=c.numbers, positions=c.positions, cell=c.cell.array, pbc=True)
        for c in (crystal, crystal[order])
    )
    graphs = build_interactions(other, gemnet_oc.CONFIG)
    edges = {}
    for name in GRAPHS:
        ours = graphs.main_directed if name == "main" else getattr(graphs, name)
        senders, receivers = np.array(order)[ours.senders], np.array(order)[ours.receivers]
        units = ours.vectors / ours.distances[:, None]
        edges[name] = EdgeSet(np.stack([senders, receivers]), ours.offsets, ours.distances, units)
    case = Case("crystal", structure, edges)
    own = build_interactions(structure, gemnet_oc.CONFIG)
    results = list(gemnet_oc.compare_edges(case, own, 1e-9))
    assert all(result.passed for result in results)
    assert any("main edges, " in result.quantity for result in results)
    given = gemnet_oc.given_graphs(case)
    assert set(gemnet_oc.symmetrised_keys(case)) == set(gemnet_oc.edge_keys(given.main))
    # An edge less is a difference.
    full = edges["qint"]
    fewer = EdgeSet(full.edge_index[:, 1:], full.offsets[1:], full.distances[1:], full.vectors[1:])
    damaged = Case("crystal", structure, {**edges, "qint": fewer})
    failed = [r for r in gemnet_oc.compare_edges(damaged, own, 1e-9) if not r.passed]
    assert [(r.quantity.split()[0], r.error) for r in failed] == [("qint", 1.0)]


def test_fails_where_the_numbers_differ(shared, tmp_path, capsys):
    folder = tmp_path / "oracle"
    folder.mkdir()
    for name in ("structures.npz", "gemnet_oc_tiny.json", "gemnet_oc_tiny.npz"):
        shutil.copy(shared / "oracle" / name, folder / name)
    with np.load(folder / "gemnet_oc_tiny.npz") as archive:
        arrays = dict(archive)
    arrays["ethanol/forces"] = arrays["ethanol/forces"] * (1 + 1e-8)
    np.savez(folder / "gemnet_oc_tiny.npz", **arrays)
    with np.load(folder / "structures.npz") as archive:
        arrays = dict(archive)
    arrays["methanol/qint/edge_index"] = arrays["methanol/qint/edge_index"][::-1, :-1]
    arrays["methanol/qint/cell_offset"] = arrays["methanol/qint/cell_offset"][:-1]
    np.savez(folder / "structures.npz", **arrays)
    code = main(["--oracle", str(folder), "--model", "gemnet_oc_tiny"])
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert code == 1
    assert len(failed) == 2
    assert "qint edges" in failed[0]
    assert "ethanol" in failed[1]


def test_names_what_is_missing(shared, tmp_path, capsys):
    assert main(["--oracle", str(tmp_path)]) == 2
    assert "structures.npz is missing" in capsys.readouterr().err
    assert main(["--oracle", str(shared / "oracle"), "--model", "gemnet_oc_tny"]) == 2
    assert "gemnet_oc_tiny" in capsys.readouterr().err
