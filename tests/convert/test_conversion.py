"""Conversion of the known layouts: every tensor in its place, or a message that names it."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.convert.conversion import convert
from atomjax.convert.errors import ConvertError
from atomjax.convert.family import Choices
from atomjax.convert.gemnet_oc.names import checkpoint_name, to_checkpoint_layout
from atomjax.graphs import GraphConfig, build_interactions
from atomjax.models import ScaleFactorError, backbone_config
from atomjax.structures import References, Structure
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint, read_metadata
from tests.convert.checkpoints import (
    fairchem,
    fairchem_state,
    finetuned_state,
    lightning,
    other_weights,
    share_aliases,
    tiny_state,
    trained_names,
    write,
)

LABELS = ("energy", "forces")


@pytest.fixture(scope="module")
def state(shared) -> dict[str, np.ndarray]:
    return tiny_state(shared / "oracle")


def run(tmp_path: Path, content: Any, **options: Any) -> dict[str, Any]:
    """Metadata of the conversion of a file with this content into tmp_path/converted."""
    source = write(tmp_path / "source.pt", content)
    return convert(source, tmp_path / "converted", say=lambda _: None, **options)


def entries(directory: Path, **options: Any) -> dict[str, np.ndarray]:
    """JMP's pretraining name → array in the original's layout, of a converted checkpoint."""
    from atomjax.models import HeadConfig

    variables, metadata = load_checkpoint(directory, **options)
    heads = tuple(HeadConfig.from_dict(head) for head in metadata["heads"])
    result = {}
    for tree in variables.values():
        for path, leaf in flax.traverse_util.flatten_dict(tree).items():
            name = checkpoint_name(path, heads)
            result[name] = to_checkpoint_layout(name, leaf)
    return result


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_pretrained_by_jmp(state, tmp_path):
    averages = other_weights(state)
    source = write(tmp_path / "jmp-s.pt", lightning(state, averages))
    said: list[str] = []
    metadata = convert(source, tmp_path / "converted", say=said.append)
    assert metadata["model"] == {"name": "gemnet_oc_tiny"}
    assert [head["name"] for head in metadata["heads"]] == ["task0"]
    assert metadata["heads"][0]["forces"] == "direct"
    assert metadata["graphs"]["task0"]["cutoff_molecule"] == 8.0
    raw = entries(tmp_path / "converted", averaged=False)
    assert len(raw) == sum(
        not n.endswith((".offset", ".temps")) and ".layers." not in n.replace("update.layers", "")
        for n in state
    )
    assert_same(raw, state)
    assert_same(entries(tmp_path / "converted"), averages)
    record = metadata["converted"]
    assert record["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record["bytes"] == source.stat().st_size
    assert "CC BY-NC" in record["licence"]
    assert record["averages"] == "of all parameters"
    assert record["names"]["embedding.atom_embedding.weight"] == "embedding.atom_embedding.weight"
    used, ignored = (
        set(record["names"].values()),
        {n for names in record["ignored"].values() for n in names},
    )
    assert used | ignored == set(state)
    assert not used & ignored
    assert set(record["unused_parts"]) == {
        "epoch", "global_step", "pytorch-lightning_version", "loops", "callbacks", "lr_schedulers"
    }  # fmt: skip
    assert read_metadata(tmp_path / "converted") == json.loads(json.dumps(metadata))
    assert any("writing" in line for line in said)


def test_which_averages(state, tmp_path):
    averages = other_weights(state)
    source = write(tmp_path / "source.pt", lightning(state, averages))
    convert(source, tmp_path / "none", averages="none", say=lambda _: None)
    assert_same(entries(tmp_path / "none"), state)
    convert(source, tmp_path / "jmp", averages="jmp", say=lambda _: None)
    loaded_by_jmp = {n: state[n] if ".seq_energy_pre." in n else averages[n] for n in state}
    assert_same(entries(tmp_path / "jmp"), loaded_by_jmp)
    (tmp_path / "file").mkdir()
    run(tmp_path / "file", lightning(state))
    assert_same(entries(tmp_path / "file" / "converted"), state)


@pytest.mark.parametrize(
    ("wrapper", "hydra"), [("module.module.", False), ("", False), ("module.", True)]
)
def test_gemnet_of_fairchem(state, tmp_path, wrapper, hydra):
    theirs = fairchem_state(state, hydra=hydra)
    averages = fairchem_state(other_weights(state), hydra=hydra)
    order = trained_names(theirs)
    ema = {"decay": 0.999, "num_updates": None, "collected_params": [],
           "shadow_params": [averages[name] for name in order]}  # fmt: skip
    metadata = run(tmp_path, fairchem(theirs, wrapper=wrapper, ema=ema))
    assert metadata["model"] == {"name": "gemnet_oc_tiny", "num_elements": 83}
    (head,) = metadata["heads"]
    assert (head["num_layers"], head["forces"], head["pooling"]) == (1, "direct", "sum")
    found = entries(tmp_path / "converted")
    other = other_weights(state)
    wanted = {
        **other,
        "embedding.atom_embedding.weight": other["embedding.atom_embedding.weight"][:83],
    }
    for kind in LABELS:
        wanted[f"output.out_{kind}.0.0.weight"] = other[f"output.out_{kind}.0.8.weight"]
    assert_same(found, wanted)
    references = References.from_dict(metadata["datasets"]["s2ef"]["references"])
    assert references.energy([29, 6, 8], 1.5) == pytest.approx(
        1.5 * 2.887317180633545 - 0.7554450631
    )
    np.testing.assert_allclose(references.forces([1.0]), [2.887317180633545])
    graph = metadata["graphs"]["s2ef"]
    assert (graph["cutoff"], graph["cutoff_molecule"], graph["max_neighbors"]) == (12, 12, 30)
    head_name = "output_heads.energy." if hydra else ""
    names = metadata["converted"]["names"]
    assert names["output.out_energy.0.0.weight"] == f"{wrapper}{head_name}out_energy.linear.weight"


def test_normalisation_that_is_not_whole_is_not_claimed(state, tmp_path):
    content = fairchem(fairchem_state(state))
    content["config"]["dataset"] = [{"src": "oc22", "lin_ref": "oc22_linfit_coeffs.npz"}]
    metadata = run(tmp_path, content)
    assert metadata["datasets"]["s2ef"]["references"] is None
    assert any("oc22_linfit_coeffs.npz" in note for note in metadata["converted"]["notes"])
    labels = metadata["converted"]["normalization"]["s2ef"]
    assert labels["forces"] == {"mean": 0.0, "std": 2.887317180633545}


def test_energies_of_elements_in_the_file(state, tmp_path):
    table = np.linspace(0, -5, 120).astype(np.float32)
    normalizers = {name: {"mean": np.zeros(()), "rmsd": np.ones(())} for name in LABELS}
    content = fairchem(
        fairchem_state(state),
        normalizers=normalizers,
        elementrefs={"energy": {"element_references": table}},
    )
    references = run(tmp_path, content)["datasets"]["s2ef"]["references"]
    assert references["element_energies"]["Cu"] == pytest.approx(float(table[29]))


def test_scale_dictionary_takes_precedence(state, tmp_path):
    name = "int_blocks.0.trip_interaction.scale_rbf"
    run(tmp_path, fairchem(fairchem_state(state), scale_dict={name: np.array(3.25)}))
    found = entries(tmp_path / "converted")
    assert found[f"backbone.{name}.scale_factor"] == 3.25
    assert_same(
        {n: v for n, v in found.items() if n.endswith("scale_factor") and name not in n}, state
    )


def test_finetuned_on_a_property(state, tmp_path):
    theirs = finetuned_state(state, "U_0")
    hyper_parameters = {"graph_scalar_reduction_default": "mean", "normalization": {}}
    content = lightning(theirs, hyper_parameters=hyper_parameters)
    metadata = run(tmp_path, content)
    (head,) = metadata["heads"]
    assert head["kind"] == "scalar"
    assert [(t["name"], t["pooling"]) for t in head["targets"]] == [("U_0", "mean")]
    assert metadata["model"] == {"name": "gemnet_oc_tiny"}
    found = entries(tmp_path / "converted")
    assert not any("out_mlp_F" in name for name in found)
    assert_same(found, state)
    del content["hyper_parameters"]
    (tmp_path / "without").mkdir()
    metadata = run(tmp_path / "without", content)
    assert metadata["heads"][0]["targets"][0]["pooling"] == "sum"
    assert any("'sum', JMP's default, is assumed" in n for n in metadata["converted"]["notes"])


def test_finetuned_on_classes(state, tmp_path):
    """As JMP's code for mp_is_metal: scores of two classes, their sums over the atoms."""
    settings = {"graph_classification_reduction_default": "sum", "normalization": {}}
    theirs = finetuned_state(state, "y", classes=2)
    metadata = run(tmp_path, lightning(theirs, hyper_parameters=settings))
    (head,) = metadata["heads"]
    (target,) = head["targets"]
    assert (target["name"], target["pooling"], target["num_classes"]) == ("y", "sum", 2)
    (labels,) = metadata["datasets"]["y"]["properties"]
    assert (labels["name"], labels["classes"]) == ("y", ["0", "1"])
    variables, _ = load_checkpoint(tmp_path / "converted")
    kernels = variables["params"]["head_y"]["value"]
    last = kernels[max(kernels)]["kernel"]
    np.testing.assert_array_equal(last[:, 1], 2 * last[:, 0])
    (tmp_path / "one").mkdir()
    content = lightning(finetuned_state(state, "y", classes=1), hyper_parameters=settings)
    with pytest.raises(ConvertError, match="head 'y' has one score for two classes"):
        run(tmp_path / "one", content)


@pytest.mark.parametrize("forces", [False, True])
def test_finetuned_on_energies_and_forces(state, tmp_path, forces):
    metadata = run(tmp_path, lightning(finetuned_state(state, None, forces=forces)))
    (head,) = metadata["heads"]
    assert head["forces"] == ("direct" if forces else "conservative")
    found = entries(tmp_path / "converted")
    zero = [f"output.out_energy.0.{layer}.bias" for layer in (0, 2, 4, 6)]
    assert metadata["converted"]["constants"] == zero
    assert_same(found, {**state, **{name: np.zeros(32) for name in zero}})


def test_finetuned_averages_in_the_order_of_the_optimiser(state, tmp_path):
    theirs, averages = (
        finetuned_state(s, None, forces=True) for s in (state, other_weights(state))
    )
    names = trained_names(theirs)
    blocks = [
        n for n in names if n.startswith(("backbone.int_blocks.0.", "backbone.out_blocks.1."))
    ]
    embedding = ["embedding.weight"]
    rest = [n for n in names if n not in blocks + embedding]
    groups = [
        {"name": "embedding.*", "params": [0]},
        {"name": "backbone.int_blocks.0.*,backbone.out_blocks.1.*",
         "params": list(range(len(blocks)))},
        {"name": "rest", "params": list(range(len(rest)))},
    ]  # fmt: skip
    ema = tuple(averages[name] for name in embedding + blocks + rest)
    states = [{"opt": {"state": {}, "param_groups": groups}, "ema": ema}]
    content = lightning(theirs, optimizer_states=states)
    run(tmp_path, content)
    zero = {f"output.out_energy.0.{layer}.bias": np.zeros(32) for layer in (0, 2, 4, 6)}
    assert_same(entries(tmp_path / "converted"), {**other_weights(state), **zero})
    groups[1]["params"] = [0]
    (tmp_path / "other").mkdir()
    with pytest.raises(ConvertError, match=r"has 1 parameters, .*--averages none"):
        run(tmp_path / "other", content)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: {"backbone": {n.removeprefix("backbone."): v for n, v in s.items()
                                if n.startswith("backbone.")},
                   "embedding": {"weight": s["embedding.atom_embedding.weight"]}},
        lambda s: {n: v for n, v in s.items() if not n.startswith("output.")},
        lambda s: lightning(s),
        lambda s: lightning({**s, "graph_classification_outputs.x.weight": np.ones((2, 2))}),
    ],
    ids=["nested", "bare", "with heads", "with an unknown head"],
)  # fmt: skip
def test_backbone_alone(state, tmp_path, make):
    metadata = run(tmp_path, make(state), choices=Choices(backbone_only=True))
    assert metadata["heads"] == []
    assert metadata["model"] == {"name": "gemnet_oc_tiny", "edge_output": True}
    variables, _ = load_checkpoint(tmp_path / "converted")
    assert set(variables["params"]) == {"backbone"}
    assert_same(entries(tmp_path / "converted"), state)


def without(state, part):
    return {name: value for name, value in state.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: without(s, "quad_interaction.dense_db"), ConvertError,
         r"2 tensors do not fit:\n  backbone\.int_blocks\.0\.quad_interaction\.dense_db.* missing"),
        (lambda s: without(s, "bases.edge_emb"), ConvertError, r"lacks backbone\.bases\.edge_emb"),
        (lambda s: without(s, "output."), ConvertError, "no heads; .*--backbone-only"),
        (lambda s: {**s, "teacher.weight": np.ones(1)}, ConvertError,
         r"1 tensors belong to no part .*teacher\.weight.*--backbone-only"),
        (lambda s: {**s, "backbone.extra.weight": np.ones(1)}, ConvertError,
         r"backbone\.extra\.weight has no place"),
        (lambda s: {**s, "output.out_energy.0.0.bias": np.ones(31)}, ConvertError,
         r"out_energy\.0\.0\.bias has shape \[31\], the model needs \[32\]"),
        (lambda s: {**s, "backbone.bases.radial_basis.rbf.offset": np.linspace(0, 2, 16)},
         ConvertError, "centres are not linspace"),
        (lambda s: {**s, "backbone.bases.radial_basis.rbf.temps": np.ones(16)},
         ConvertError, "not as wide"),
        (lambda s: {**s, "backbone.out_blocks.0.layers.0.linear.weight":
                    np.zeros((32, 48), np.float32)}, ConvertError, "one tensor but differ"),
        (lambda s: {**s, "backbone.int_blocks.1.trip_interaction.scale_rbf.scale_factor":
                    np.zeros((), np.float32)}, ScaleFactorError, "1 of .* not fitted"),
        (lambda s: {"atom_emb.weight": np.ones(2)}, ConvertError,
         r"of no known model; known are gemnet_oc, equiformer_v2"),
        (lambda s: {**s, "backbone.note": "text"}, ConvertError, "in place of a tensor"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_and_nothing_is_written(state, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path, {"state_dict": change(dict(state))})
    assert [path.name for path in tmp_path.iterdir()] == ["source.pt"]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("sbf", {"name": "spherical_harmonics"}, "built with sbf=.*would compute something else"),
        ("forces_coupled", True, "forces_coupled=True"),
        ("envelope", {"name": "exponential"}, "envelope"),
    ],
)
def test_other_variants_of_the_original_are_refused(state, tmp_path, setting, value, message):
    content = fairchem(fairchem_state(state))
    content["config"]["model_attributes"][setting] = value
    with pytest.raises(ConvertError, match=message):
        run(tmp_path, content)


def test_graphs_are_cut_as_in_the_original(state, tmp_path):
    content = fairchem(fairchem_state(state))
    content["config"]["model_attributes"] |= {"cutoff_qint": 6.0, "cutoff_aint": 15.0}
    metadata = run(tmp_path, content)
    graph = GraphConfig.from_dict(metadata["graphs"]["s2ef"])
    assert graph.cutoffs(True) == {"main": 12.0, "a2ee2a": 12.0, "qint": 6.0, "a2a": 15.0}
    assert (graph.symmetrization, graph.shells) == ("index", "cut")
    model = backbone_config(metadata["model"])
    assert [model.basis_cutoff(name) for name in graph.cutoffs(True)] == [12.0, 12.0, 6.0, 15.0]


def test_limits_that_are_not_strict_let_a_whole_shell_in(state, tmp_path):
    content = fairchem(fairchem_state(state))
    content["config"]["model_attributes"] |= {
        "enforce_max_neighbors_strictly": False,
        "max_neighbors": 14,
        "cutoff": 5.0,
        "cutoff_qint": 5.0,
    }
    graph = GraphConfig.from_dict(run(tmp_path, content)["graphs"]["s2ef"])
    # fairchem takes all that are no farther than the neighbour after the last: here the second
    # shell of a fcc crystal, neighbours 13 to 18.
    cell = 1.8 * (np.ones((3, 3)) - np.eye(3))
    copper = Structure(atomic_numbers=[29], positions=np.zeros((1, 3)), cell=cell, pbc=True)
    assert len(build_interactions(copper, graph).main_directed) == 18
    twelve = dataclasses.replace(graph, max_neighbors=13)  # 12 in the words of the file
    assert len(build_interactions(copper, twelve).main_directed) == 18
    eleven = dataclasses.replace(graph, max_neighbors=12)
    assert len(build_interactions(copper, eleven).main_directed) == 12


def test_averages_that_do_not_fit_are_refused(state, tmp_path):
    content = lightning(state, state)
    for change, message in (
        (lambda ema: ema[:-1], r"averages of \d+ parameters, .*--averages none"),
        (lambda ema: ema[1:] + ema[:1], "unknown order; .*--averages none"),
    ):
        first = dict(content["optimizer_states"][0])
        first["ema"] = change(first["ema"])
        with pytest.raises(ConvertError, match=message):
            run(tmp_path, {**content, "optimizer_states": [first]})


def test_several_tasks_and_their_names(state, tmp_path):
    tasks = dict(state)
    for name, value in state.items():
        if name.startswith("output."):
            kind, rest = name.split(".0.", 1)
            for task in (1, 2, 3):
                tasks[f"{kind}.{task}.{rest}"] = value + np.float32(task)
    metadata = run(tmp_path, lightning(tasks))
    assert [h["name"] for h in metadata["heads"]] == ["oc20", "oc22", "ani1x", "transition1x"]
    assert metadata["converted"]["normalization"]["ani1x"]["energy"]["std"] == 2.8700712783472118
    assert_same(entries(tmp_path / "converted"), share_aliases(tasks))
    source = tmp_path / "source.pt"
    with pytest.raises(ConvertError, match="2 names for 4 heads"):
        convert(source, tmp_path / "x", choices=Choices(head_names=("a", "b")), say=lambda _: None)
    choices = Choices(head_names=("a", "b", "c", "d"))
    metadata = convert(source, tmp_path / "named", choices=choices, say=lambda _: None)
    assert [h["name"] for h in metadata["heads"]] == ["a", "b", "c", "d"]


def test_half_precision_becomes_float32(state, tmp_path):
    half = {n: v.astype(np.float16) if n.endswith(".weight") else v for n, v in state.items()}
    run(tmp_path, {"state_dict": half})
    variables, _ = load_checkpoint(tmp_path / "converted")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_a_directory_that_holds_something_is_left_alone(state, tmp_path):
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "mine").write_text("precious")
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        run(tmp_path, {"state_dict": state})
    assert [p.name for p in (tmp_path / "converted").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("value", "dtype"), [(np.nan, "f4"), (np.inf, "f4"), (1e39, "f8"), (np.nan, jnp.bfloat16)]
)
def test_weights_that_are_not_finite_are_refused(state, tmp_path, value, dtype):
    name = "embedding.atom_embedding.weight"
    damaged = np.array(state[name]).astype(dtype)
    damaged[1, 2] = value
    content = fairchem(fairchem_state({**state, name: damaged}))
    with pytest.raises(ConvertError, match=rf"{name}: 1 of its .* numbers are NaN or infinite"):
        run(tmp_path, content)


def test_settings_that_are_not_read_are_named(state, tmp_path):
    content = fairchem(fairchem_state(state))
    content["config"]["model_attributes"] |= {"num_blocks": 1, "otf_graph": True, "wave": "long"}
    source, said = write(tmp_path / "a.pt", content), []
    metadata = convert(source, tmp_path / "converted", say=said.append)
    unread = metadata["converted"]["unread_settings"]
    assert {"otf_graph=True", "wave='long'"} <= set(unread)
    assert not {text.partition("=")[0] for text in unread} & {"num_blocks", "cutoff", "rbf"}
    assert any("wave='long'" in line and "reads" in line for line in said)
