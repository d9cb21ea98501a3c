"""Adapters: what is trained, what is kept, and that checkpoints are those of any model."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import atomjax
from atomjax.data.settings import SplitSettings
from atomjax.data.structures import divide
from atomjax.runtime.cluster.preemption import RunInterrupted
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.structures.readers import read
from atomjax.training.finetune import finetune
from atomjax.training.running.checkpoint import load_checkpoint
from atomjax.training.running.leaves import flatten
from atomjax.training.settings import LoraSettings, RunSettings
from atomjax.training.update.lora import Adapters
from tests.training.workflow import make_config, run_here, write_structures

LORA = {"rank": 2, "alpha": 4.0}


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> Path:
    return write_structures(tmp_path_factory.mktemp("data") / "chains.xyz")


@pytest.fixture(scope="module")
def source(structures, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("source") / "run"
    run_here(workdir, structures, epochs=1)
    return workdir


def adapt(structures: Path, source: Path | None, workdir: Path, **train: Any) -> dict[str, Any]:
    config = make_config(structures, **{"epochs": 3, "weight_decay": 0.0, **train})
    config["train"]["lora"] = train.get("lora", LORA)
    start = {"checkpoint": source and str(source), "head_from": "chains"}
    settings = RunSettings.from_config({**config, "workflow": "finetune", "finetune": start})
    return finetune(settings, Run(workdir, settings))


def weights(workdir: Path, **which: Any) -> dict[str, np.ndarray]:
    return flatten(load_checkpoint(workdir, **which)[0]["params"])


def predictions(workdir: Path, structures: Path) -> Any:
    return atomjax.load(workdir).predict(read(structures, energy_unit="eV")[:6])


@pytest.fixture(scope="module")
def adapted(structures, source, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    workdir = tmp_path_factory.mktemp("adapted") / "run"
    return workdir, adapt(structures, source, workdir)


def test_adapters_change_nothing_at_first(structures, source, tmp_path) -> None:
    adapt(structures, source, tmp_path / "run", epochs=1, learning_rate=1e-30)
    before, after = (predictions(run, structures) for run in (source, tmp_path / "run"))
    np.testing.assert_array_equal(before.energies, after.energies)
    np.testing.assert_array_equal(np.concatenate(before.forces), np.concatenate(after.forces))


def test_only_adapters_and_heads_are_trained(source, adapted) -> None:
    workdir, results = adapted
    before, after = weights(source), weights(workdir)
    assert {path: x.shape for path, x in before.items()} == {p: x.shape for p, x in after.items()}
    changed = {path for path, x in before.items() if not np.array_equal(x, after[path])}
    kernels = {path for path in changed if not path.startswith("head_")}
    assert len(kernels) > 5
    assert all(path.startswith("backbone/") and path.endswith("kernel") for path in kernels)
    for path in kernels:
        ranks = np.linalg.matrix_rank(np.asarray(after[path] - before[path], np.float64), tol=1e-6)
        assert np.all(ranks <= LORA["rank"])
    heads = sum(x.size for path, x in before.items() if path.startswith("head_"))
    sizes = [LORA["rank"] * sum(before[p].shape[-2:]) * before[p][..., 0, 0].size for p in kernels]
    assert results["trained_parameters"] == heads + sum(sizes)
    assert results["parameters"] == sum(x.size for x in before.values())
    # Weights and averages of all, moments of what is trained, and a few counters.
    weights_of_all = 2 * (results["parameters"] + sum(sizes))
    moments = 2 * results["trained_parameters"]
    assert 0 <= results["state_bytes"] - 4 * (weights_of_all + moments) < 200


@pytest.mark.parametrize("shape", [(6, 5), (3, 6, 5)])
def test_merged_kernels_do_what_the_adapters_did(shape: tuple[int, ...]) -> None:
    kernel, x = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate((shape, (4, 6))))
    params, adapters = {"backbone": {"kernel": kernel}}, Adapters(LoraSettings(rank=1, alpha=3.0))
    added = adapters.add(params, adapters.kernels(params, ()), jax.random.key(2))
    np.testing.assert_array_equal(adapters.merge(added)["backbone"]["kernel"], kernel)
    factors = added["lora"]["backbone"]["kernel"]
    factors["up"] += 0.5
    apart = x @ kernel + 3.0 * (x @ factors["down"]) @ factors["up"]
    merged = adapters.merge(added)["backbone"]["kernel"]
    np.testing.assert_allclose(x @ merged, apart, rtol=1e-5, atol=1e-5)


def test_the_last_validation_was_of_the_merged_model(adapted, structures) -> None:
    workdir, results = adapted
    assert results["best_step"] == results["steps"]
    key, validated = "force_mae_mev_per_angstrom", results["validation"]["chains"]
    model, labelled = atomjax.load(workdir), read(structures, energy_unit="eV")
    order = divide(labelled, SplitSettings(validation=8, test=8), "chains")["validation"]
    errors = model.predict(order).errors()
    assert errors[key] == pytest.approx(validated[key], rel=1e-5)


def test_a_stopped_adaptation_goes_on_exactly(structures, source, adapted, tmp_path) -> None:
    settled = weights(adapted[0], which="latest", averaged=False)
    stop = pytest.MonkeyPatch()
    requested = iter([False] * 5 + [True])
    stop.setattr("atomjax.training.running.loop.Preemption.requested", lambda self: next(requested))
    with pytest.raises(RunInterrupted):
        adapt(structures, source, tmp_path / "run")
    stop.undo()
    halfway = weights(tmp_path / "run", which="latest", averaged=False)
    assert halfway.keys() == settled.keys()
    adapt(structures, source, tmp_path / "run")
    again = weights(tmp_path / "run", which="latest", averaged=False)
    for path, x in settled.items():
        np.testing.assert_array_equal(again[path], x, err_msg=path)


def test_adapters_need_a_backbone_and_kernels(structures, source, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"train.lora adapts a pretrained model"):
        adapt(structures, None, tmp_path / "a")
    with pytest.raises(ConfigError, match=r"pattern=.* larger than an update of rank=64"):
        adapt(structures, source, tmp_path / "b", lora={"rank": 64})
