"""EquiformerV2: its layouts, its references, and back to a complete state_dict."""

import dataclasses
import json
from typing import Any

import flax.traverse_util
import numpy as np
import pytest

from atomjax.convert.conversion import convert, variables_template
from atomjax.convert.equiformer_v2.convert import EquiformerV2Family
from atomjax.convert.equiformer_v2.export import (
    buffers,
    export_equiformer,
    grid_tables,
    order_tables,
)
from atomjax.convert.equiformer_v2.names import checkpoint_name, to_checkpoint_layout
from atomjax.convert.errors import ConvertError
from atomjax.convert.export import export
from atomjax.convert.family import Choices
from atomjax.convert.nesting import Contents
from atomjax.convert.torch_file import TorchFile
from atomjax.models import HeadConfig, TargetConfig
from atomjax.models.equiformer_v2 import EQUIFORMER_V2, EquiformerV2Config
from atomjax.models.equiformer_v2.grid import feature_grid
from atomjax.structures import References
from atomjax.training.checks import check_settings
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint
from atomjax.training.settings import RunSettings
from tests.convert.checkpoints import equiformer_state, fairchem, lightning, write
from tests.training.test_workflows import finetune_config
from tests.training.workflow import write_structures

SETTINGS = {"name": "equiformer_v2", "max_neighbors": 20, "max_radius": 12.0, "lmax_list": [3],
            "norm_type": "layer_norm_sh", "use_gate_act": False, "use_grid_mlp": True}  # fmt: skip


@pytest.fixture(scope="module")
def config() -> EquiformerV2Config:
    size = EQUIFORMER_V2.sizes["equiformer_v2_tiny"]
    assert isinstance(size, EquiformerV2Config)
    return size


@pytest.fixture(scope="module")
def parameters(shared) -> dict[str, np.ndarray]:
    return equiformer_state(shared / "oracle", "tiny")


@pytest.fixture(scope="module")
def state(parameters, config) -> dict[str, np.ndarray]:
    """The whole state_dict: buffers among the parameters, as in the original."""
    return dict(buffers(config, energy=True, forces=True)) | parameters


def quiet(_: str) -> None:
    pass


def run(tmp_path, content: Any, **options: Any) -> dict[str, Any]:
    source = write(tmp_path / "eq2_31M_ec4_allmd.pt", content)
    return convert(source, tmp_path / "converted", say=quiet, **options)


def entries(directory, **options: Any) -> dict[str, np.ndarray]:
    """The original's name → array in its layout, of a converted checkpoint."""
    variables, metadata = load_checkpoint(directory, **options)
    heads = tuple(HeadConfig.from_dict(head) for head in metadata["heads"])
    heads = heads or (HeadConfig(name="none"),)
    leaves = flax.traverse_util.flatten_dict(variables["params"])
    names = {path: checkpoint_name(path, heads) for path in leaves}
    return {names[path]: to_checkpoint_layout(names[path], leaf) for path, leaf in leaves.items()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_published_layout(state, parameters, tmp_path):
    averages = {name: (0.5 * value + 0.01).astype(np.float32) for name, value in parameters.items()}
    ema = {"decay": 0.999, "shadow_params": list(averages.values()), "collected_params": []}
    metadata = run(tmp_path, fairchem(state, ema=ema, config={"model": SETTINGS}))
    assert metadata["model"] == {"name": "equiformer_v2_tiny"}
    (head,) = metadata["heads"]
    assert (head["kind"], head["forces"], head["pooling"]) == ("energy_forces", "direct", "sum")
    graph = metadata["graphs"]["s2ef"]
    assert (graph["kind"], graph["cutoff_molecule"], graph["max_neighbors"]) == ("nearest", 12, 20)
    assert_same(entries(tmp_path / "converted", averaged=False), parameters)
    assert_same(entries(tmp_path / "converted"), averages)
    references = References.from_dict(metadata["datasets"]["s2ef"]["references"])
    assert references.energy([8], 2.0) == pytest.approx(2 * 2.887317180633545 - 0.7554450631141663)
    record = metadata["converted"]
    ignored = record["ignored"]["buffer, computed anew"]
    assert set(record["names"].values()) | set(ignored) == {f"module.module.{n}" for n in state}
    assert "code MIT" in record["licence"]


def test_a_limit_that_is_not_strict_lets_a_whole_shell_in(state, tmp_path):
    settings = {**SETTINGS, "enforce_max_neighbors_strictly": False}
    metadata = run(tmp_path, fairchem(state, config={"model": settings}))
    graph = metadata["graphs"]["s2ef"]
    assert (graph["max_neighbors"], graph["shells"]) == (21, "keep")
    assert "limit of neighbours not strict" in metadata["converted"]["notes"][0]


def test_there_and_back(state, tmp_path):
    run(tmp_path, fairchem(state, config={"model": SETTINGS}))
    export(tmp_path / "converted", tmp_path / "back.pt", say=quiet)
    back = TorchFile(tmp_path / "back.pt").load()
    assert_same(back["state_dict"], state)
    assert back["normalizers"]["forces"]["rmsd"] == np.float32(2.887317180633545)
    # A table that thousands of names share is in the file once.
    assert (tmp_path / "back.pt").stat().st_size < 3e6


@pytest.mark.parametrize(
    "override", [{"num_gaussians": 300}, {"edge_direction": "target_minus_source"}]
)
def test_networks_that_fairchem_lacks_are_refused(override):
    (field,) = override
    with pytest.raises(ConvertError, match=f"{field}=.*built in"):
        export_equiformer({"name": "equiformer_v2_tiny", **override}, (), {})


def test_tables_are_those_of_the_original(shared):
    folder = shared / "oracle" / "equiformer_v2"
    manifest = json.loads((folder / "manifest_eqv2_31M.json").read_text())
    wanted = {n: (v["shape"], v["dtype"]) for n, v in manifest.items() if v["is_buffer"]}
    found = dict(buffers(EquiformerV2Config(), energy=True, forces=True))
    assert {n: (list(v.shape), v.dtype.name) for n, v in found.items()} == wanted
    with np.load(folder / "so3_grid.npz") as arrays:
        for model, lmax, mmax, resolution in (
            ("31M", 4, 2, 18),
            ("31M", 4, 4, 18),
            ("tiny", 3, 2, 14),
        ):
            tables = grid_tables(lmax, mmax, resolution)
            for way in ("to", "from"):
                expected = arrays[f"{model}/{way}_grid_mat_{lmax}_{mmax}_f64"]
                np.testing.assert_allclose(tables[f"{way}_grid_mat"], expected, atol=3e-8)
        for name in ("to_m", "l_harmonic", "m_complex", "m_size"):
            np.testing.assert_array_equal(order_tables(4, 2)[name], arrays[f"31M/{name}"])


def test_grids_are_those_that_the_model_computes_with(config):
    """To the last bit with exact_grid=False, else rounded to the file's float32."""
    for exact in (True, False):
        given = dataclasses.replace(config, exact_grid=exact)
        found = dict(buffers(given, energy=True, forces=True))
        to_grid, from_grid = feature_grid(given)
        lmax = given.lmax
        name = f"SO3_grid.{lmax}.{lmax}"
        exported = found[f"{name}.to_grid_mat"].reshape(to_grid.shape)
        np.testing.assert_array_equal(exported, to_grid.astype(np.float32))
        exported = found[f"{name}.from_grid_mat"].reshape(from_grid.T.shape)
        np.testing.assert_array_equal(exported, from_grid.T.astype(np.float32))


def renamed(state, heads):
    """The state_dict of other codes: the backbone one level down, the heads under other names."""
    result = {}
    for name, value in state.items():
        block = name.split("_block.")[0]
        is_head = name.startswith(("energy_block.", "force_block."))
        result[f"{heads[block]}.{name}" if is_head else f"backbone.{name}"] = value
    return result


EFFICIENT_ATOM = {"energy": "output.energy_heads.0", "force": "output.force_heads.0"}
HYDRA = {"energy": "output_heads.energy", "force": "output_heads.forces"}
FINETUNED = {"energy": "out_energy", "force": "out_forces"}
FINETUNED_PROPERTY = {"energy": "graph_outputs._module_dict.ft_mlp_y.out_scalar"}


@pytest.mark.parametrize(("heads", "pooling"), [(EFFICIENT_ATOM, "mean"), (HYDRA, "sum")])
def test_other_layouts(state, parameters, tmp_path, heads, pooling):
    metadata = run(tmp_path, lightning(renamed(state, heads)))
    assert metadata["heads"][0]["pooling"] == pooling
    # efficient-atom turns the edges round, and trains on graphs of its own.
    own = heads is EFFICIENT_ATOM
    assert metadata["model"].get("edge_direction") == ("target_minus_source" if own else None)
    assert metadata["graphs"]["s2ef"]["max_neighbors"] == (30 if own else 20)
    assert_same(entries(tmp_path / "converted"), parameters)


@pytest.mark.parametrize("backbone_only", [False, True])
def test_models_that_learnt_to_denoise(state, parameters, config, tmp_path, backbone_only):
    """Forces and noise of zero leave a bias of every atom; the rest is left out."""
    channels, rng = config.channels, np.random.default_rng(0)
    bias, sigma = (rng.normal(size=channels).astype(np.float32) for _ in range(2))
    further = {
        "force_embedding.weight": np.ones((config.lmax + 1, channels, 1), np.float32),
        "force_embedding.bias": bias,
        "force_embedding.expand_index": np.zeros((config.lmax + 1) ** 2, int),
        "noise_schedule_sigma_embedding.weight": np.ones((channels, 1), np.float32),
        "noise_schedule_sigma_embedding.bias": sigma,
        "denoising_pos_block.proj.weight": np.ones((3, 2, 2), np.float32),
        "denoising_pos_block.SO3_grid.0.0.to_grid_mat": np.ones((14, 2, 1), np.float32),
    }
    trained = {n: v for n, v in further.items() if not n.endswith(("index", "grid_mat"))}
    theirs = {**parameters, **trained}
    averages = {name: (0.5 * value).astype(np.float32) for name, value in theirs.items()}
    ema = {"decay": 0.999, "shadow_params": list(averages.values()), "collected_params": []}
    content = fairchem({**state, **further}, ema=ema, config={"model": SETTINGS})
    metadata = run(tmp_path, content, choices=Choices(backbone_only=backbone_only))
    ignored = metadata["converted"]["ignored"]
    assert len(ignored["of training on noise (DeNS), without a part in predictions"]) == 3
    embedding = "sphere_embedding.weight"
    for averaged, weight in ((False, 1.0), (True, 0.5)):
        found = entries(tmp_path / "converted", averaged=averaged)
        expected = weight * (parameters[embedding] + bias + sigma)
        np.testing.assert_allclose(found[embedding], expected, rtol=1e-6, atol=1e-7)
        others = [name for name in found if name != embedding]
        assert_same(
            {name: found[name] for name in others},
            {name: (weight * parameters[name]).astype(np.float32) for name in others},
        )


@pytest.mark.parametrize("target", [None, "y"])
def test_finetuned_heads_are_wider(tmp_path, target):
    """Of energies and forces, or of a property, whose sum efficient-atom does not divide."""
    targets = () if target is None else (TargetConfig(name=target),)
    kind = "scalar" if target else "energy_forces"
    head = HeadConfig(name="s2ef", kind=kind, targets=targets, hidden_channels=24)
    if target is None:
        head = dataclasses.replace(head, force_hidden_channels=12, pooling="mean")
    template = variables_template({"name": "equiformer_v2_tiny"}, (head,), EQUIFORMER_V2.graph)
    rng, family = np.random.default_rng(0), EquiformerV2Family()
    wanted = {entry: rng.normal(size=shape).astype(np.float32)
              for _, _, entry, shape in family.entries(template, (head,))}  # fmt: skip
    theirs = renamed(wanted, FINETUNED_PROPERTY if target else FINETUNED)
    metadata = run(tmp_path, lightning(theirs))
    assert HeadConfig.from_dict(metadata["heads"][0]) == head
    assert metadata["model"].get("avg_num_nodes") == (1.0 if target else None)
    assert_same(entries(tmp_path / "converted"), wanted)
    with pytest.raises(ConvertError, match="as wide as its backbone"):
        export_equiformer({"name": "equiformer_v2_tiny"}, (head,), wanted)


def test_backbone_of_a_finetuned_model(state, parameters, tmp_path):
    theirs = renamed(state, FINETUNED_PROPERTY | {"force": "graph_outputs._module_dict.other"})
    with pytest.raises(ConvertError, match=r"belong to no part .*--backbone-only"):
        run(tmp_path, lightning(theirs))
    metadata = run(tmp_path, lightning(theirs), choices=Choices(backbone_only=True))
    assert metadata["heads"] == []
    backbone = {n: v for n, v in parameters.items() if not n.startswith(("energy_b", "force_b"))}
    assert_same(entries(tmp_path / "converted"), backbone)


def test_energies_of_elements_among_the_weights(state, tmp_path):
    table = np.linspace(0, -1, 90).astype(np.float32)
    metadata = run(
        tmp_path, fairchem({**state, "energy_lin_ref": table}, config={"model": SETTINGS})
    )
    references = References.from_dict(metadata["datasets"]["s2ef"]["references"])
    assert references.element_energies[8] == pytest.approx(2.887317180633545 * float(table[8]))
    (names,) = (n for r, n in metadata["converted"]["ignored"].items() if "references" in r)
    assert names == ["module.module.energy_lin_ref"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda s: fairchem(s, config={"model": {**SETTINGS, "norm_type": "rms_norm_sh"}}),
         "norm_type='rms_norm_sh'.*something else"),
        (lambda s: fairchem(s, config={"model": {**SETTINGS, "max_radius": 8.0}}),
         "centres are not linspace"),
        (lambda s: fairchem({**s, "SO3_rotation.1.mapping.to_m": np.ones(1)}, config={}),
         "several resolutions"),
        (lambda s: fairchem({**s, "rank2_block.x": np.ones(1)}, config={}),
         r"rank2_block\.x has no place"),
        (lambda s: {n: v for n, v in s.items() if n != "blocks.0.ga.alpha_dot"},
         r"lacks blocks\.0\.ga\.alpha_dot"),
        (lambda s: {n: v for n, v in s.items() if not n.startswith("energy_block")},
         "no energy head"),
        (lambda s: fairchem({n: v for n, v in s.items() if "to_grid_mat" not in n},
                            config={"model": {**SETTINGS, "grid_resolution": 7}}),
         "no equiformer_v2 that can be built: grid_resolution is 7"),
        (lambda s: fairchem(s, config={"model": {**SETTINGS, "max_neighbors": "many"}}),
         "can be built: .*many"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named(state, tmp_path, content, message):
    with pytest.raises(ConvertError, match=message):
        run(tmp_path, content(state))


def test_finetuning_is_checked_against_the_converted_model(state, tmp_path):
    metadata = run(tmp_path, fairchem(state, config={"model": SETTINGS}))
    structures = write_structures(tmp_path / "chains.xyz")
    config = finetune_config(structures, tmp_path / "converted", {})
    config["model"] = {"name": metadata["model"]["name"], "overrides": {}}
    assert any("step 0" in note for note in check_settings(RunSettings.from_config(config)))
    config["model"]["overrides"] = {"num_heads": 4}
    with pytest.raises(CheckpointError, match=r"model\.num_heads: 2 -> 4"):
        check_settings(RunSettings.from_config(config))


@pytest.mark.parametrize("size", sorted(EQUIFORMER_V2.sizes))
def test_every_size_is_recognised_from_its_shapes(size):
    """Inference of the config, from names and shapes alone."""
    family, heads = EquiformerV2Family(), (HeadConfig(name="s2ef"),)
    wanted = EQUIFORMER_V2.sizes[size]
    assert isinstance(wanted, EquiformerV2Config)
    small = dataclasses.replace(wanted, num_blocks=2)
    template = variables_template({"name": size, "num_blocks": 2}, heads, EQUIFORMER_V2.graph)
    tensors = {entry: np.broadcast_to(np.float32(0), shape)
               for _, _, entry, shape in family.entries(template, heads)}  # fmt: skip
    found = family.recognise(Contents(tensors), Choices())
    inferred = {**dataclasses.asdict(small), **found.model}
    del inferred["name"]
    free = {"drop_path", "num_blocks"}
    for field, value in dataclasses.asdict(small).items():
        assert field in free or inferred[field] == value, field
