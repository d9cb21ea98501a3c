"""The reverse direction: our models under the names of the original codes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from atomjax.convert.conversion import convert
from atomjax.convert.errors import ConvertError
from atomjax.convert.export import export
from atomjax.convert.gemnet_oc.export import choose_layout
from atomjax.convert.gemnet_oc.layouts import Layout
from atomjax.convert.torch_file import TorchFile
from atomjax.models import HeadConfig, TargetConfig
from atomjax.structures import References
from atomjax.training.running.checkpoint import load_checkpoint, save_converted
from tests.convert.checkpoints import (
    fairchem,
    fairchem_state,
    finetuned_state,
    lightning,
    other_weights,
    tiny_state,
    trained_names,
    write,
)


@pytest.fixture(scope="module")
def state(shared) -> dict[str, np.ndarray]:
    return tiny_state(shared / "oracle")


def quiet(_: str) -> None:
    pass


def round_trip(tmp_path: Path, content: dict, **options) -> dict:
    """What is exported from the conversion of a file with this content."""
    source = write(tmp_path / "source.pt", content)
    convert(source, tmp_path / "converted", say=quiet)
    export(tmp_path / "converted", tmp_path / "back.pt", say=quiet, **options)
    return TorchFile(tmp_path / "back.pt").load()


def assert_same_state(found: dict, wanted: dict) -> None:
    """Names and values, whatever the order, as a strict load in the original needs them."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert found[name].dtype == np.float32


def test_pretrained_model_comes_back_whole(state, tmp_path):
    averages = other_weights(state)
    back = round_trip(tmp_path, lightning(state, averages))
    assert_same_state(back["state_dict"], averages)
    # JMP's loader takes the averages in the order of the state_dict's trained parameters.
    (ema,) = (s["ema"] for s in back["optimizer_states"])
    names = trained_names(back["state_dict"])
    assert len(ema) == len(names)
    for name, value in zip(names, ema, strict=True):
        np.testing.assert_array_equal(value, averages[name], err_msg=name)
    weight = "backbone.out_blocks.0.{}.0.linear.weight"
    assert np.shares_memory(
        back["state_dict"][weight.format("layers")],
        back["state_dict"][weight.format("seq_energy_pre")],
    )


def test_raw_weights(state, tmp_path):
    back = round_trip(tmp_path, lightning(state, other_weights(state)), averaged=False)
    assert_same_state(back["state_dict"], state)


def test_backbone_alone(state, tmp_path):
    back = round_trip(tmp_path, lightning(state), backbone_only=True)
    wanted = {n: v for n, v in state.items() if not n.startswith("output.")}
    assert_same_state(back["state_dict"], wanted)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: finetuned_state(s, "U_0"),
        lambda s: finetuned_state(s, "y", classes=3),
        lambda s: finetuned_state(s, None),
    ],
    ids=["property", "classes", "conservative"],
)
def test_finetuned_models_come_back_whole(state, tmp_path, make):
    theirs = make(state)
    assert_same_state(round_trip(tmp_path, lightning(theirs))["state_dict"], theirs)


def test_fairchem_model_comes_back_whole(state, tmp_path):
    theirs = fairchem_state(state)
    back = round_trip(tmp_path, fairchem(theirs))
    assert_same_state(back["state_dict"], theirs)
    energy = back["normalizers"]["energy"]
    assert (float(energy["mean"]), float(energy["rmsd"])) == (
        pytest.approx(-0.7554450631),
        pytest.approx(2.8873171806),
    )
    settings = back["config"]["model"]
    assert settings["direct_forces"] is True
    assert settings["activation"] == "silu"
    # What fairchem builds the network from, with defaults of its own for what is not there.
    assert (settings["num_elements"], settings["emb_size_edge"]) == (83, 48)


def trained_with_references(state: dict, tmp_path: Path, content: dict) -> Path:
    """A checkpoint whose heads have energies of elements, as trainings have."""
    source = write(tmp_path / "source.pt", content)
    convert(source, tmp_path / "converted", say=quiet)
    variables, metadata = load_checkpoint(tmp_path / "converted")
    table = np.zeros(119)
    table[[1, 6]] = -13.6, -1027.6
    references = References(table, 0.25, 2.0, 0.5, table != 0).to_dict()
    named = {head["name"]: {"references": references} for head in metadata["heads"]}
    save_converted(
        tmp_path / "trained", variables["params"], variables["params"],
        variables["scale_factors"], {**metadata, "datasets": named},
    )  # fmt: skip
    return tmp_path / "trained"


def test_references_go_where_the_original_reads_them(state, tmp_path):
    run = trained_with_references(state, tmp_path, fairchem(fairchem_state(state)))
    export(run, tmp_path / "back.pt", say=quiet)
    back = TorchFile(tmp_path / "back.pt").load()
    assert float(back["normalizers"]["forces"]["rmsd"]) == 0.5
    convert(tmp_path / "back.pt", tmp_path / "again", say=quiet)
    _, metadata = load_checkpoint(tmp_path / "again")
    (head,) = metadata["heads"]
    again = References.from_dict(metadata["datasets"][head["name"]]["references"])
    assert again.reference_energy([6, 1, 1]) == pytest.approx(0.25 - 1027.6 - 27.2, abs=1e-3)
    assert (again.energy_mean, again.energy_scale, again.force_scale) == (0.25, 2.0, 0.5)


def test_references_without_a_place_are_said(state, tmp_path):
    run, said = trained_with_references(state, tmp_path, lightning(state)), []
    export(run, tmp_path / "back.pt", say=said.append)
    (note, *_) = [line for line in said if line.startswith("head ")]
    assert "2 times the output, plus 0.25 and the energies of its elements" in note
    assert "forces in eV/Å are 0.5 times" in note


def test_heads_without_counterpart_are_refused(state, tmp_path):
    source = write(tmp_path / "source.pt", lightning(finetuned_state(state, None)))
    convert(source, tmp_path / "converted", say=quiet)
    variables, metadata = load_checkpoint(tmp_path / "converted")
    bias = variables["params"]["head_energy_forces"]["energy"]["dense_0"]["bias"]
    bias += 1
    save_converted(
        tmp_path / "trained", variables["params"], variables["params"],
        variables["scale_factors"], metadata,
    )  # fmt: skip
    with pytest.raises(ConvertError, match=r"bias is not zero.*--backbone-only"):
        export(tmp_path / "trained", tmp_path / "back.pt", say=quiet)
    assert not (tmp_path / "back.pt").exists()
    (tmp_path / "mine.pt").write_text("precious")
    with pytest.raises(ConvertError, match="exists"):
        export(tmp_path / "trained", tmp_path / "mine.pt", say=quiet)


@pytest.mark.parametrize(
    ("heads", "layout"),
    [
        ([], "jmp"),
        ([{"kind": "energy_forces"}, {"kind": "energy_forces"}], "jmp"),
        ([{"kind": "scalar", "targets": (TargetConfig(name="gap"),)}], "jmp_finetuned"),
        ([{"kind": "energy_forces", "forces": "conservative"}], "jmp_finetuned"),
        ([{"kind": "energy_forces", "num_layers": 1}], "fairchem"),
    ],
)
def test_layout_follows_from_the_heads(heads, layout):
    configs = tuple(HeadConfig(name=f"h{i}", **head) for i, head in enumerate(heads))
    assert choose_layout(configs).name == layout


def test_mixed_heads_have_no_layout():
    gap = TargetConfig(name="gap")
    heads = (HeadConfig(name="a"), HeadConfig(name="b", kind="scalar", targets=(gap,)))
    with pytest.raises(ConvertError, match=r"a: energy_forces direct sum, b: scalar.*--backbone-o"):
        choose_layout(heads)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([{"num_layers": 1, "pooling": "max"}], "h0: energy_forces direct max"),
        ([{"forces": "conservative", "pooling": "mean"}], "h0: energy_forces conservative mean"),
        ([{"num_layers": 5}, {"num_layers": 3}], "h0: 5 layers, h1: 3 layers"),
    ],
)
def test_heads_that_the_originals_would_compute_otherwise_are_refused(heads, message):
    configs = tuple(HeadConfig(name=f"h{i}", **head) for i, head in enumerate(heads))
    with pytest.raises(ConvertError, match=f"{message}.*--backbone-only"):
        choose_layout(configs)


@pytest.mark.parametrize(
    ("layout", "theirs", "ours"),
    [
        ("fairchem", "atom_emb.embeddings.weight", "embedding.atom_embedding.weight"),
        ("fairchem", "mlp_rbf_aint.weight", "backbone.bases.mlp_rbf_aint.weight"),
        ("fairchem", "edge_emb.dense.linear.weight", "backbone.bases.edge_emb.dense.linear.weight"),
        ("fairchem", "out_mlp_E.1.dense_mlp.0.linear.weight",
         "backbone.out_mlp_E.out_mlp.1.dense_mlp.0.linear.weight"),
        ("fairchem", "out_forces.linear.weight", "output.out_forces.0.0.weight"),
        ("fairchem", "int_blocks.3.trip_interaction.scale_rbf.scale_factor",
         "backbone.int_blocks.3.trip_interaction.scale_rbf.scale_factor"),
        ("fairchem", "sbf_basis_qint.radial_basis.rbf.offset",
         "backbone.bases.sbf_basis_qint.radial_basis.rbf.offset"),
        ("jmp_finetuned", "embedding.weight", "embedding.atom_embedding.weight"),
        ("jmp_finetuned", "out_energy.8.weight", "output.out_energy.0.8.weight"),
        ("jmp_finetuned", "graph_outputs._module_dict.ft_mlp_gap.out_mlp.0.bias",
         "output.out_energy.0.0.bias"),
    ],
)  # fmt: skip
def test_names(layout, theirs, ours):
    targets = ("gap",) if "ft_mlp" in theirs else ()
    naming = Layout(layout, targets)
    assert naming.entry(theirs) == ours
    assert naming.name_of(ours) == theirs


def test_official_names_are_complete(shared, state):
    """The tiny model's names are those of the official JMP-S, but for the number of layers."""

    def shape(names) -> set[str]:
        return {re.sub(r"\d+", "N", name) for name in names}

    official = json.loads((shared / "oracle" / "manifest_small.json").read_text())
    assert shape(official) == shape(state)
