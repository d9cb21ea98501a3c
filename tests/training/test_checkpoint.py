import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.training.running.checkpoint import (
    CheckpointError,
    Checkpoints,
    load_backbone,
    load_checkpoint,
)
from atomjax.training.settings import GroupSettings
from atomjax.training.update.optimizer import make_optimizer
from atomjax.training.update.state import TrainState, create_state, data_mesh, place
from tests.processes import with_devices
from tests.training.sections import train_settings

METADATA = {"model": {"name": "standin"}, "references": {"a": {"energy_scale": 1 / 3}}}


def model_variables(blocks: int = 2, width: int = 3, head: str = "a") -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(blocks), blocks)
    backbone = {
        f"block_{i}": {"kernel": jax.random.normal(k, (width, 2))} for i, k in enumerate(keys)
    }
    factors = {f"block_{i}": {"scale_factor": jnp.float32(i + 1.5)} for i in range(blocks)}
    return {
        "params": {"backbone": backbone, f"head_{head}": {"kernel": jnp.ones(2)}},
        "scale_factors": {"backbone": factors},
    }


def make_state(**model: Any) -> TrainState:
    variables = model_variables(**model)
    frozen = (GroupSettings(pattern="block_0", multiplier=0),)
    settings = train_settings(batch_size=1, epochs=1)
    optimizer = make_optimizer(settings, variables["params"], 10, frozen)
    return place(create_state(variables, optimizer, seed=7), data_mesh())


def shifted(state: TrainState) -> TrainState:
    """Another value in every floating leaf, so that nothing is equal by accident."""
    return jax.tree.map(lambda x: x + 0.1 if jnp.issubdtype(x.dtype, jnp.floating) else x, state)


def test_latest_state_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None
    state = shifted(make_state())
    checkpoints.save_latest(make_state(), {**METADATA, "step": 3})
    checkpoints.save_latest(state, {**METADATA, "step": 8})
    checkpoints.close()
    reopened = Checkpoints(tmp_path)
    assert reopened.latest_step == 8
    restored, metadata = reopened.restore(make_state())
    assert metadata == {**METADATA, "step": 8}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert [p.name for p in (tmp_path / "latest").iterdir() if p.is_dir()] == ["8"]


def test_best_weights_load_without_the_run(tmp_path):
    state = make_state()
    state = state.replace(ema_params=shifted(state).ema_params)  # type: ignore
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save_best(state, {**METADATA, "step": 5})
    variables, metadata = load_checkpoint(tmp_path)
    assert metadata["references"] == METADATA["references"]
    jax.tree.map(np.testing.assert_array_equal, variables["params"], state.ema_params)
    jax.tree.map(np.testing.assert_array_equal, variables["scale_factors"], state.scale_factors)
    raw, _ = load_checkpoint(tmp_path / "checkpoints", averaged=False)
    jax.tree.map(np.testing.assert_array_equal, raw["params"], state.params)
    with pytest.raises(CheckpointError, match=r"latest is empty.*'best'"):
        load_checkpoint(tmp_path, "latest")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")


def test_restore_lists_missing_extra_and_mis_shaped_leaves(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(make_state(blocks=2, width=3), {"step": 1})
    with pytest.raises(CheckpointError) as error:
        checkpoints.restore(make_state(blocks=3, width=4, head="b"))
    text = str(error.value)
    assert "missing: ema_params/backbone/block_2/kernel" in text
    assert "leaves do not fit" in text
    assert "and " in text
    checkpoints = Checkpoints(tmp_path / "b")
    checkpoints.save_latest(make_state(), {"step": 1})
    half = jax.tree.map(
        lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, make_state()
    )
    with pytest.raises(CheckpointError, match=r"float32\[3, 2\], the model needs bfloat16\[3, 2\]"):
        checkpoints.restore(half)


def test_a_flipped_bit_of_any_file_is_found_and_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(make_state(), {**METADATA, "step": 1})
    checkpoints.close()
    step = tmp_path / "latest" / "1"
    files = [path for path in step.rglob("*") if path.stat().st_size and path.is_file()]
    assert {"metadata", "_METADATA", "manifest.ocdbt"} <= {path.name for path in files}
    for path in files:
        whole = path.read_bytes()
        for damaged in (bytearray(whole), bytearray(whole[:-1])):
            damaged[len(damaged) // 2] ^= 4 * (len(damaged) == len(whole))
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"1/.*(checksum|damaged).*copy it again"):
                Checkpoints(tmp_path).restore(make_state())
        path.write_bytes(whole)
    assert Checkpoints(tmp_path).restore(make_state())[1] == {**METADATA, "step": 1}
    damaged = step / "metadata" / "metadata"
    damaged.write_bytes(damaged.read_bytes().replace(b"standin", b"stanDin"))
    with pytest.raises(CheckpointError, match="metadata/metadata is damaged"):
        Checkpoints(tmp_path).latest_metadata()


def test_a_checkpoint_of_before_has_no_checksums(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(make_state(), {"step": 4})
    (tmp_path / "best" / "4" / "checksums.json").unlink()
    assert load_checkpoint(tmp_path)[1] == {"step": 4}
    (tmp_path / "best" / "4" / "metadata" / "metadata").write_text("{")
    with pytest.raises(CheckpointError, match=r"best/4 cannot be read .*copy it again"):
        load_checkpoint(tmp_path)


def test_a_best_step_that_was_saved_before_is_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = make_state()
    checkpoints.save_best(state, {"step": 4})
    checkpoints.save_best(state, {"step": 4})
    assert load_checkpoint(tmp_path)[1] == {"step": 4}


def test_a_step_that_comes_again_under_other_settings_is_saved_again(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    first, second = make_state(), shifted(make_state())
    checkpoints.save_best(first, {"step": 4, "seconds": 1.0, "config": {"train": {"rate": 1}}})
    # A run that is only resumed keeps what it saved before.
    checkpoints.save_best(second, {"step": 4, "seconds": 2.0, "config": {"train": {"rate": 1}}})
    variables, metadata = load_checkpoint(tmp_path)
    assert metadata["seconds"] == 1.0
    jax.tree.map(np.testing.assert_array_equal, variables["params"], first.ema_params)
    changed = {"step": 4, "seconds": 3.0, "config": {"train": {"rate": 2}}}
    with monkeypatch.context() as patched:
        patched.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
        with pytest.raises(CheckpointError, match="4,096 bytes are left"):
            checkpoints.save_best(second, changed)
    jax.tree.map(np.testing.assert_array_equal, load_checkpoint(tmp_path), (variables, metadata))
    checkpoints.save_best(second, changed)
    variables, metadata = load_checkpoint(tmp_path)
    assert metadata == changed
    jax.tree.map(np.testing.assert_array_equal, variables["params"], second.ema_params)


def test_backbone_replaces_the_backbone_alone(tmp_path):
    pretrained = make_state(head="upstream")
    Checkpoints(tmp_path).save_best(shifted(pretrained), {"step": 1})
    source, _ = load_checkpoint(tmp_path)
    fresh = model_variables(head="downstream")
    loaded = load_backbone(fresh, source)
    assert set(loaded["params"]) == {"backbone", "head_downstream"}
    jax.tree.map(
        np.testing.assert_array_equal, loaded["params"]["backbone"], source["params"]["backbone"]
    )
    jax.tree.map(np.testing.assert_array_equal, loaded["scale_factors"], source["scale_factors"])
    head = loaded["params"]["head_downstream"]["kernel"]
    np.testing.assert_array_equal(head, fresh["params"]["head_downstream"]["kernel"])


def test_backbone_of_another_depth_is_refused():
    deep, shallow = model_variables(blocks=16), model_variables(blocks=12)
    with pytest.raises(CheckpointError) as error:
        load_backbone(shallow, deep, "run A")
    assert "params of run A: 4 leaves do not fit" in str(error.value)
    assert "not expected: backbone/block_15/kernel" in str(error.value)
    with pytest.raises(CheckpointError, match="missing: backbone/block_12/kernel"):
        load_backbone(deep, shallow)
    with pytest.raises(CheckpointError, match="missing: backbone/block_0"):
        load_backbone(shallow, {"params": {"head_a": {}}, "scale_factors": {}})


def test_one_device_reads_what_eight_wrote(tmp_path):
    code = (
        "import sys, jax\n"
        "from atomjax.training.running.checkpoint import Checkpoints\n"
        "from tests.training.test_checkpoint import make_state, shifted\n"
        "assert len(jax.devices()) == 8\n"
        "Checkpoints(sys.argv[1]).save_latest(shifted(make_state()), {'step': 2})\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        timeout=120,
        env=with_devices(8),
        cwd=Path(__file__).resolve().parents[2],
    )
    restored, _ = Checkpoints(tmp_path).restore(make_state())
    jax.tree.map(np.testing.assert_array_equal, restored, shifted(make_state()))
