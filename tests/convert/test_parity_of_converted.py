"""Converted checkpoints compute what the originals computed with the same weights."""

from pathlib import Path

import jax
import pytest

from atomjax.convert.conversion import convert
from atomjax.convert.equiformer_v2.export import buffers
from atomjax.models import backbone_config
from atomjax.parity import equiformer_v2, gemnet_oc
from atomjax.parity.__main__ import main
from atomjax.training.running.checkpoint import load_checkpoint
from tests.convert.checkpoints import (
    equiformer_state,
    fairchem,
    lightning,
    manifest_state,
    other_weights,
    tiny_state,
    write,
)

CHANGED = ("jax_enable_x64", "jax_default_matmul_precision")


@pytest.fixture(autouse=True)
def precision():
    """Gives back the settings that the command changes."""
    before = {name: getattr(jax.config, name) for name in CHANGED}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def use_converted(monkeypatch, directory: Path) -> None:
    """The parity command takes these weights instead of those that the rule makes."""
    variables, metadata = load_checkpoint(directory)
    first = f"head_{metadata['heads'][0]['name']}"
    params = {"backbone": variables["params"]["backbone"], "head_task0": variables["params"][first]}
    converted = {"params": params, "scale_factors": variables["scale_factors"]}
    monkeypatch.setattr(gemnet_oc, "rule_variables", lambda *_: converted)
    monkeypatch.setattr(equiformer_v2, "fill", lambda *_: converted)


@pytest.mark.parametrize(
    "size",
    ["tiny", *(pytest.param(size, marks=pytest.mark.slow) for size in ("small", "large"))],
)
def test_gemnet_oc_of_jmp(shared, tmp_path, monkeypatch, capsys, size):
    oracle = shared / "oracle"
    state = tiny_state(oracle) if size == "tiny" else manifest_state(oracle, size)
    # The weights that the reference was computed with are the averages; the rest is other weights.
    source = write(tmp_path / f"jmp-{size[0]}.pt", lightning(other_weights(state), state))
    metadata = convert(source, tmp_path / "converted", say=lambda _: None)
    assert metadata["model"] == {"name": f"gemnet_oc_{size}"}
    assert len(metadata["heads"]) == (1 if size == "tiny" else 4)
    use_converted(monkeypatch, tmp_path / "converted")
    model = f"gemnet_oc_{size}"
    assert main(["--oracle", str(oracle), "--model", model]) == 0, capsys.readouterr().out
    assert "conservative_forces" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["tiny", pytest.param("31M", marks=pytest.mark.slow)])
def test_equiformer_v2_of_fairchem(shared, tmp_path, monkeypatch, capsys, size):
    oracle, model = shared / "oracle", f"equiformer_v2_{size}"
    parameters = equiformer_state(oracle, size)
    config = backbone_config({"name": model})
    state = dict(buffers(config, energy=True, forces=True)) | parameters
    source = write(tmp_path / "eq2.pt", fairchem(state, config={"model": {"max_neighbors": 20}}))
    metadata = convert(source, tmp_path / "converted", say=lambda _: None)
    assert metadata["model"] == {"name": model}
    use_converted(monkeypatch, tmp_path / "converted")
    # How far rotations change the outputs is the model's own error, whatever its weights.
    monkeypatch.setattr(equiformer_v2, "compare_rotated", lambda *_: [])
    status = main(["--oracle", str(oracle), "--model", f"eqv2_{size}"])
    lines = capsys.readouterr().out.splitlines()
    compared = [line for line in lines if line.startswith("eqv2_")]
    assert [line for line in compared if not line.endswith("ok")] == []
    assert status == 0
    for quantity in ("node_embedding", "energy", "forces"):
        assert sum(f" {quantity} " in line for line in compared) >= 5


def test_other_weights_do_not_agree(shared, tmp_path, monkeypatch, capsys):
    state = tiny_state(shared / "oracle")
    convert(write(tmp_path / "a.pt", other_weights(state)), tmp_path / "a", say=lambda _: None)
    use_converted(monkeypatch, tmp_path / "a")
    assert main(["--oracle", str(shared / "oracle"), "--model", "gemnet_oc_tiny"]) == 1
    assert "FAILED" in capsys.readouterr().out
