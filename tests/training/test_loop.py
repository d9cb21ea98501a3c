from typing import Any

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from atomjax.runtime.run import Run
from atomjax.training.running.checkpoint import Checkpoints, load_checkpoint
from atomjax.training.running.evaluate import Evaluator, make_evaluation_step
from atomjax.training.running.loop import Loop, Record
from atomjax.training.settings import PlateauSettings
from atomjax.training.update.optimizer import make_optimizer
from atomjax.training.update.state import create_state, data_mesh, place
from atomjax.training.update.step import make_train_step
from atomjax.training.update.tasks import Task
from tests.training.sections import train_settings
from tests.training.standin import Model, init, make_batch, random_structures, stack

TASKS = (Task(name="a", energy_scale=2.0), Task(name="b"))
SHAPE: dict[str, int] = {"graphs": 9, "nodes": 60}


class Batches:
    """Three batches of eight structures an epoch, deterministic in the step."""

    steps_per_epoch = 3

    def __init__(self, epochs: int, broken_step: int | None = None):
        self.num_steps = 3 * epochs
        self.broken_step = broken_step

    def batches(self, start_step: int = 0):
        for step in range(start_step, self.num_steps):
            structures = random_structures(8, seed=step % 3, datasets=2)
            if step == self.broken_step:
                structures[2].energy = np.inf
            yield step, stack([make_batch(structures, **SHAPE)])

    def identify(self, dataset: int, structure: int) -> str:
        return f"{'ab'[dataset]}.xyz:{structure}"


def make_loop(workdir, *, epochs: int = 2, broken_step: int | None = None, **changes: Any):
    values: dict[str, Any] = {
        "batch_size": 8,
        "epochs": epochs,
        "learning_rate": 0.03,
        "log_every": 2,
        "ema_decay": 0.5,
    }
    settings = train_settings(**{**values, **changes})
    model = Model(TASKS)
    loader: Any = Batches(epochs, broken_step)
    variables = init(model, make_batch(random_structures(2), **SHAPE))
    optimizer = make_optimizer(settings, variables["params"], loader.num_steps, ())
    mesh = data_mesh(jax.devices()[:1])

    def validation():
        for seed in (10, 11):
            yield stack([make_batch(random_structures(5 + seed % 2, seed=seed), **SHAPE)])

    loop = Loop(
        step=make_train_step(
            model.as_function(), TASKS, optimizer, mesh, ema_decay=0.5, ema_warmup=False
        ),
        loader=loader,
        evaluator=Evaluator(
            make_evaluation_step(model.as_function(), TASKS, mesh),
            TASKS,
            mesh,
            validation,
            num_structures=11,
        ),
        checkpoints=Checkpoints(workdir / "checkpoints"),
        run=Run(workdir, {"seed": 0}, console=Console(quiet=True)),
        settings=settings,
        tasks=TASKS,
        mesh=mesh,
        metadata={"model": "standin"},
    )
    state = place(create_state(variables, optimizer, seed=1), mesh)
    return loop, state


def test_loop_logs_validates_and_saves(tmp_path):
    loop, state = make_loop(tmp_path)
    record = Record()
    final = loop.train(state, record)
    assert int(final.step) == 6
    lines = loop.run.metrics()
    train = [line for line in lines if "train/loss" in line]
    validation = [line for line in lines if "validation/loss" in line]
    assert [line["step"] for line in train] == [2, 4, 6]
    assert [line["step"] for line in validation] == [3, 6]
    for name in ("a/energy_mae_mev", "a/force_mae_mev_per_angstrom", "b/energy_mae_mev_per_atom"):
        assert f"train/{name}" in train[0]
    assert train[-1]["epoch"] == 2.0
    assert train[0]["structures_per_second"] > 0
    assert validation[1]["validation/loss"] < validation[0]["validation/loss"]
    _, best = load_checkpoint(tmp_path)
    assert best["validation"]["loss"] == validation[-1]["validation/loss"] == record.best_value
    assert best["step"] == loop.checkpoints.latest_step == 6
    assert loop.step.num_compilations == 1


def test_window_averages_the_losses_of_its_steps(tmp_path):
    every, _ = make_loop(tmp_path / "a", log_every=1)
    both, _ = make_loop(tmp_path / "b", log_every=2)
    for loop in (every, both):
        _, state = make_loop(tmp_path / "c", log_every=2)
        loop.train(state, Record())
    single = [line["train/loss"] for line in every.run.metrics() if "train/loss" in line]
    pairs = [line["train/loss"] for line in both.run.metrics() if "train/loss" in line]
    np.testing.assert_allclose(pairs, np.reshape(single, (3, 2)).mean(axis=1), rtol=1e-6)


def test_continuing_from_the_latest_state_equals_one_run(tmp_path):
    whole, state = make_loop(tmp_path / "whole", checkpoint_every=2)
    record = Record()
    expected = whole.train(state, record)

    loop, state = make_loop(tmp_path / "cut", broken_step=4, checkpoint_every=2)
    with pytest.raises(FloatingPointError):
        loop.train(state, Record())
    loop, target = make_loop(tmp_path / "cut", checkpoint_every=2)
    assert loop.checkpoints.latest_step == 4
    restored, metadata = loop.checkpoints.restore(target)
    resumed = Record(**metadata["record"])
    final = loop.train(place(restored, loop.mesh), resumed)
    jax.tree.map(np.testing.assert_array_equal, final, expected)
    assert resumed == record
    steps = [line["step"] for line in loop.run.metrics()]
    assert steps == sorted(steps)


def test_non_finite_loss_stops_and_names_the_structures(tmp_path):
    loop, state = make_loop(tmp_path, broken_step=4, checkpoint_every=2)
    with pytest.raises(FloatingPointError) as error:
        loop.train(state, Record())
    text = str(error.value)
    assert text.startswith("step 5: loss inf")
    assert "dataset a: a.xyz:0, a.xyz:2" in text
    assert "dataset b: b.xyz:1" in text
    assert "step 4 is saved" in text
    assert loop.checkpoints.latest_step == 4
    restored, _ = loop.checkpoints.restore(make_loop(tmp_path)[1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.params))


def test_patience_ends_the_run(tmp_path):
    loop, state = make_loop(
        tmp_path, epochs=9, eval_every=1, early_stopping_patience=2, min_improvement=0.99
    )
    record = Record()
    final = loop.train(state, record)
    reason = "no improvement in 2 validations"
    assert record == Record(record.best_value, best_step=1, stale=2, stopped=True, reason=reason)
    assert int(final.step) == 3
    # Starting again finds the run finished.
    _, metadata = loop.checkpoints.restore(final)
    again = Record(**metadata["record"])
    assert again.stopped
    assert int(loop.train(final, again).step) == 3


def test_evaluation_counts_every_structure_once_whatever_the_batches(tmp_path):
    structures = random_structures(10, seed=4)
    model = Model(TASKS)
    mesh = data_mesh(jax.devices()[:1])
    variables = init(model, make_batch(structures[:2], **SHAPE))

    step = make_evaluation_step(model.as_function(), TASKS, mesh)

    def evaluator(parts, count=10):
        def batches():
            start = 0
            for part in parts:
                yield stack([make_batch(structures[start : start + part], **SHAPE)])
                start += part

        return Evaluator(step, TASKS, mesh, batches, count)

    whole = evaluator([8, 2]).metrics(variables)
    parts = evaluator([1, 0, 5, 4])
    assert parts.metrics(variables) == pytest.approx(whole, rel=1e-5)
    rows = parts.predictions(variables)
    assert step.num_compilations == 1
    assert [row.structure for row in rows] == list(range(10))
    errors = [
        abs(row.energy - item.energy)
        for row, item in zip(rows, structures, strict=True)
        if item.energy is not None
    ]
    assert 2000 * np.mean(errors) == pytest.approx(whole["a/energy_mae_mev"], rel=1e-5)
    assert [len(row.forces) for row in rows] == [len(s.atomic_numbers) for s in structures]
    with pytest.raises(RuntimeError, match="evaluated 10 structures of 11"):
        evaluator([8, 2], count=11).metrics(variables)


PLATEAU = {
    "epochs": 8,
    "decay_epochs": 1,
    "final_factor": 0.1,
    "eval_every": 3,
    "plateau": PlateauSettings(patience=0, factor=0.1, threshold=0.999),
}


def test_plateau_reduces_the_rate_until_it_is_too_low(tmp_path):
    loop, state = make_loop(tmp_path, log_every=1, min_learning_rate=2e-5, **PLATEAU)
    record = Record()
    final = loop.train(state, record)
    # The cosine ends at step 3 with 3e-3; the validations after it each reduce.
    rates = {m["step"]: m["learning_rate"] for m in loop.run.metrics() if "learning_rate" in m}
    assert [rates[step] for step in (1, 5, 8, 11)] == pytest.approx([0.03, 3e-3, 3e-4, 3e-5])
    assert int(final.step) == 12
    assert record.stopped
    assert "learning rate 3e-06 is below min_learning_rate=2e-05" in record.reason
    assert float(optax.tree.get(final.opt_state, "plateau_scale")) == pytest.approx(1e-3)
    assert loop.step.num_compilations == 1


def test_plateau_is_resumed_exactly(tmp_path):
    whole, state = make_loop(tmp_path / "whole", **PLATEAU)
    record = Record()
    expected = whole.train(state, record)
    loop, state = make_loop(tmp_path / "cut", broken_step=8, **PLATEAU)
    with pytest.raises(FloatingPointError):
        loop.train(state, Record())
    loop, target = make_loop(tmp_path / "cut", **PLATEAU)
    restored, metadata = loop.checkpoints.restore(target)
    resumed = Record(**metadata["record"])
    assert resumed.plateau_scale == pytest.approx(0.1)
    final = loop.train(place(restored, loop.mesh), resumed)
    jax.tree.map(np.testing.assert_array_equal, final, expected)
    assert resumed == record


def test_time_ends_the_run_with_its_state_saved(tmp_path):
    loop, state = make_loop(tmp_path, eval_every=2, max_hours=1e-9)
    record = Record()
    assert int(loop.train(state, record).step) == loop.checkpoints.latest_step == 2
    assert record.reason == "max_hours=1e-09 of training are over"


@pytest.mark.parametrize(
    ("first", "more", "stopped_at"),
    [
        ({"early_stopping_patience": 2}, {"early_stopping_patience": 4}, 3),
        ({"early_stopping_patience": 2}, {"early_stopping_patience": None}, 3),
        ({"max_hours": 1e-9}, {"max_hours": 1.0}, 1),
    ],
)
def test_a_stopped_run_goes_on_where_it_gets_more(tmp_path, first, more, stopped_at):
    # Nothing improves by so much after the first validation.
    common: dict[str, Any] = {"epochs": 3, "eval_every": 1, "min_improvement": 0.99}
    loop, state = make_loop(tmp_path, **common, **first)
    assert int(loop.train(state, Record()).step) == stopped_at
    loop, target = make_loop(tmp_path, **common, **more)
    restored, metadata = loop.checkpoints.restore(target)
    record = Record(**metadata["record"])
    assert record.stopped
    final = loop.train(place(restored, loop.mesh), record)
    expected = 5 if more.get("early_stopping_patience") == 4 else 9
    assert int(final.step) == loop.checkpoints.latest_step == expected
    assert record.stopped == (expected == 5)
    steps = [m["step"] for m in loop.run.metrics() if "validation/loss" in m]
    assert steps == list(range(1, expected + 1))


def test_a_rate_that_was_too_low_goes_on_with_a_lower_bound(tmp_path):
    loop, state = make_loop(tmp_path, min_learning_rate=2e-5, **PLATEAU)
    assert int(loop.train(state, Record()).step) == 12
    loop, target = make_loop(tmp_path, min_learning_rate=2e-7, **PLATEAU)
    restored, metadata = loop.checkpoints.restore(target)
    assert int(loop.train(place(restored, loop.mesh), Record(**metadata["record"])).step) == 18
