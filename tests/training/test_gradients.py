"""Distances of data sets by gradients at random weights."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import optax
import pytest
from ase.io import iread, write
from rich.console import Console

from atomjax.data.settings import SplitSettings
from atomjax.data.structures import divide
from atomjax.launch import main
from atomjax.models import fit_scale_factors
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.training.gradients import (
    GradientSettings,
    compare_gradients,
    gradient_distance,
    mean_gradients,
)
from atomjax.training.loaders import first_batches
from atomjax.training.session import Session
from atomjax.training.settings import RunSettings
from atomjax.training.update.state import create_state, place, place_batch
from atomjax.training.update.step import make_train_step
from tests.training.workflow import make_config, write_structures


def training(path, name: str, **changes) -> dict:
    config = make_config(path, **changes)
    (data,) = config["data"]["train"]
    data |= {"name": name, "split": {"validation": 4}}
    return config


def settings_of(folder, **changes) -> dict:
    near = write_structures(folder / "near.xyz", 16, seed=0)
    same = shutil.copy(near, folder / "same.xyz")
    far = write_structures(folder / "far.xyz", 16, seed=1)
    return {
        "workflow": "gradients",
        "upstream": [training(same, "same"), training(far, "far")],
        "downstream": [training(near, "near")],
        "initialisations": 2,
        **changes,
    }


def quiet_run(path) -> Run:
    return Run(path, console=Console(quiet=True))


def test_elements_of_other_parts_are_not_asked_for(tmp_path):
    """A sample of a varied set need not hold all elements of its validation part."""
    config = settings_of(tmp_path)
    frames = list(iread(tmp_path / "far.xyz"))
    held_out = divide(frames, SplitSettings(validation=4), "far")["validation"]
    for frame in frames:
        if any(frame is one for one in held_out):
            frame.symbols[0] = "Xe"
    write(tmp_path / "far.xyz", frames)
    assert len(compare_gradients(config, quiet_run(tmp_path / "run"))["pairs"]) == 2


def test_the_same_structures_have_no_distance(tmp_path):
    found = compare_gradients(settings_of(tmp_path), quiet_run(tmp_path / "run"))
    distances = {pair["upstream"]: pair["gradient_distance"] for pair in found["pairs"]}
    assert distances["same"] == pytest.approx(0, abs=1e-5)
    assert 0.05 < distances["far"] < 2
    assert json.loads((tmp_path / "run" / "gradients.json").read_text())["pairs"] == found["pairs"]


@pytest.mark.slow
def test_gradient_is_that_of_a_step_of_plain_descent(tmp_path):
    structures = write_structures(tmp_path / "near.xyz", 16)
    one = RunSettings.from_config(training(structures, "compared", batch_size=12, epochs=1))
    wanted = GradientSettings.from_config(settings_of(tmp_path, seed=5))
    (gradient,) = mean_gradients(
        one, quiet_run(tmp_path / "a"), dataclasses.replace(wanted, initialisations=1)
    )

    session = Session(one, quiet_run(tmp_path / "b"))
    optimizer = optax.sgd(1.0)
    step = make_train_step(session.apply, session.tasks, optimizer, session.mesh)
    key = jax.random.fold_in(jax.random.key(5), 0)
    (_, batch), *more = session.train_loader.batches()
    assert not more
    fresh = session.model.init(key, session.train_loader.example_batch())
    batches = first_batches(session.settings, session.train_loader)
    state = create_state(fit_scale_factors(session.model, fresh, batches), optimizer, one.seed)
    before = jax.device_get(state.params["backbone"])
    state, _ = step(place(state, session.mesh), place_batch(batch, session.mesh))
    moved = jax.tree.map(np.subtract, before, jax.device_get(state.params["backbone"]))
    assert len(gradient) == sum(leaf.size for leaf in jax.tree.leaves(moved))
    # Whatever the order of the arrays.
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(moved)])
    np.testing.assert_allclose(
        np.sort(gradient), np.sort(expected), atol=2e-5 * abs(expected).max()
    )


def test_distance_of_directions():
    first = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert gradient_distance(first, 7 * first) == pytest.approx(0)
    assert gradient_distance(first, -first) == pytest.approx(2)
    turned = np.array([[0.0, 3.0], [1.0, 0.0]])
    assert gradient_distance(first, turned) == pytest.approx(np.sqrt(2))


def test_contradictions_are_refused(tmp_path):
    config = settings_of(tmp_path)
    with pytest.raises(ConfigError, match="need a data set"):
        GradientSettings.from_config({**config, "upstream": []})
    with pytest.raises(ConfigError, match="different names"):
        GradientSettings.from_config({**config, "downstream": config["upstream"][:1]})
    other = json.loads(json.dumps(config["downstream"]))
    other[0]["model"]["overrides"]["num_radial"] = 9
    with pytest.raises(ConfigError, match="different models"):
        GradientSettings.from_config({**config, "downstream": other})
    several = json.loads(json.dumps(config["downstream"]))
    several[0]["data"]["train"] *= 2
    several[0]["data"]["train"][1] = {**several[0]["data"]["train"][1], "name": "twin"}
    with pytest.raises(ConfigError, match="on one data set"):
        GradientSettings.from_config({**config, "downstream": several})


def test_command_line(tmp_path, capsys):
    path = tmp_path / "config.py"
    path.write_text(f"def get_config():\n    return {settings_of(tmp_path)!r}\n")
    assert main([f"--config={path}", "--validate"]) == 0
    assert "2 random weights" in capsys.readouterr().out
