import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from atomjax.models import ScaleFactorError
from atomjax.training.update.optimizer import make_optimizer
from atomjax.training.update.state import (
    create_state,
    data_mesh,
    gather,
    place,
    place_batch,
    state_shardings,
)
from atomjax.training.update.step import make_train_step
from atomjax.training.update.tasks import Task
from tests.processes import with_devices
from tests.training.sections import train_settings
from tests.training.standin import Model, init, make_batch, random_structures, stack

TASKS = (
    Task(name="a", energy_coefficient=2.0, force_coefficient=10.0),
    Task(name="b", force_coefficient=3.0),
)
SETTINGS = train_settings(batch_size=8, epochs=1, learning_rate=1e-2)


def setup(
    dropout: float = 0.0,
    devices: int = 1,
    *,
    kind: Callable[[Model], Any] = Model.as_function,
    shard_optimizer: bool = False,
    accumulation: int = 1,
    ema_warmup: bool = False,
) -> tuple[Any, Any, Any]:
    model = Model(TASKS, dropout)
    batch = make_batch(random_structures(2), graphs=4, nodes=20)
    variables = init(model, batch)
    optimizer = make_optimizer(SETTINGS, variables["params"], 100, ())
    mesh = data_mesh(jax.devices()[:devices])
    state = create_state(variables, optimizer, seed=3)
    places = state_shardings(state, mesh, shard_optimizer=True) if shard_optimizer else None
    step = make_train_step(
        kind(model),
        TASKS,
        optimizer,
        mesh,
        ema_decay=0.9,
        ema_warmup=ema_warmup,
        accumulation=accumulation,
        shardings=places,
    )
    state = place(state, mesh, places)
    return step, state, mesh


def run_steps(step, state, mesh, batches, accumulation: int = 1) -> Any:
    losses = []
    for batch in batches:
        placed = place_batch(batch, mesh, accumulation)
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, placed)
        losses.append(float(metrics["loss"]))
    return jax.device_get(state), losses


def one_device_batches(count=3, **shape):
    return [
        stack([make_batch(random_structures(8, seed=i, datasets=2), **shape)]) for i in range(count)
    ]


def test_steps_change_parameters_and_follow_the_average():
    step, state, mesh = setup()
    before: Any = jax.device_get(state)
    after, losses = run_steps(step, state, mesh, one_device_batches(1, graphs=10, nodes=64))
    assert np.isfinite(losses).all()
    assert int(after.step) == 1
    for old, new, average in zip(
        jax.tree.leaves(before.params),
        jax.tree.leaves(after.params),
        jax.tree.leaves(after.ema_params),
        strict=True,
    ):
        assert not np.array_equal(old, new)
        np.testing.assert_allclose(average, 0.9 * old + 0.1 * new, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, before.scale_factors, after.scale_factors)


def test_the_average_that_warms_up_is_near_the_new_weights():
    step, state, mesh = setup(ema_warmup=True)
    before: Any = jax.device_get(state)
    after, _ = run_steps(step, state, mesh, one_device_batches(1, graphs=10, nodes=64))
    for old, new, average in zip(
        *(jax.tree.leaves(x) for x in (before.params, after.params, after.ema_params)), strict=True
    ):
        np.testing.assert_allclose(average, (2 * old + 9 * new) / 11, atol=1e-6)


def test_states_are_placed_and_gathered_by_programs_that_are_kept():
    _, state, mesh = setup()
    place(state, mesh)
    gather(state.params, mesh)
    compiled: list[str] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for _ in range(3):
            place(state, mesh)
            gather(state.params, mesh)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert [event for event in compiled if "compile" in event] == []


def test_one_compilation_for_each_shape():
    step, state, mesh = setup()
    shapes = [{"graphs": 10, "nodes": 64}, {"graphs": 12, "nodes": 70}]
    batches = [b for shape in shapes * 2 for b in one_device_batches(2, **shape)]
    run_steps(step, state, mesh, batches)
    assert step.num_compilations == 2


def test_padding_leaves_the_update_unchanged():
    results = []
    for shape in ({"graphs": 9, "nodes": 60}, {"graphs": 30, "nodes": 130, "slots": 9}):
        step, state, mesh = setup()
        results.append(run_steps(step, state, mesh, one_device_batches(**shape)))
    (a, losses_a), (b, losses_b) = results
    np.testing.assert_allclose(losses_a, losses_b, rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), a.params, b.params)


def test_accumulated_parts_make_the_step_of_the_whole_batch():
    # Uneven parts, one of them empty: the means are over what all of them together label.
    shares = [5, 0, 3]
    whole, parted = [], []
    for seed in range(3):
        structures = random_structures(sum(shares), seed=seed, datasets=2)
        whole.append(stack([make_batch(structures, graphs=10, nodes=64)]))
        parts = [structures[:5], [], structures[5:]]
        parted.append(stack([make_batch(part, graphs=7, nodes=40) for part in parts]))
    one, losses_one = run_steps(*setup(), whole)
    three, losses_three = run_steps(*setup(accumulation=3), parted, accumulation=3)
    np.testing.assert_allclose(losses_one, losses_three, rtol=2e-6)
    for a, b in ((one.params, three.params), (one.opt_state, three.opt_state)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=5e-6), a, b)


def test_parts_have_dropout_of_their_own():
    step, state, mesh = setup(dropout=0.5, accumulation=2)
    batch = make_batch(random_structures(8), graphs=10, nodes=64)
    two = place_batch(stack([batch, batch]), mesh, accumulation=2)
    _, metrics = step(state, two)
    step, state, _ = setup(dropout=0.5)
    _, once = step(state, place_batch(stack([batch]), mesh))
    assert float(metrics["loss"]) != float(once["loss"])


def test_the_state_given_is_donated():
    step, state, mesh = setup()
    batch = place_batch(one_device_batches(1, graphs=10, nodes=64)[0], mesh)
    memory = step.lower(state, batch).compile().memory_analysis()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    kept = 4 * len(jax.tree.leaves(state.scale_factors)) + 8  # constants, and the dropout key
    assert memory.alias_size_in_bytes >= size - kept
    step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_dropout_follows_the_seed_and_the_step():
    batches = one_device_batches(1, graphs=10, nodes=64) * 2
    first, losses_first = run_steps(*setup(dropout=0.5), batches)
    second, losses_second = run_steps(*setup(dropout=0.5), batches)
    assert losses_first == losses_second
    jax.tree.map(np.testing.assert_array_equal, first, second)
    _, without = run_steps(*setup(), batches)
    assert without[0] != losses_first[0]


def test_non_finite_loss_is_flagged():
    step, state, mesh = setup()
    batch = make_batch(random_structures(8), graphs=10, nodes=64)
    energy = np.array(batch.targets.energy)
    energy[0] = np.inf
    broken = batch.replace(targets=batch.targets.replace(energy=energy))  # type: ignore
    _, metrics = step(state, place_batch(stack([broken]), mesh))
    assert not bool(metrics["finite"])


def test_unfitted_scale_factors_are_refused():
    model = Model(TASKS)
    variables = init(model, make_batch(random_structures(2), graphs=4, nodes=20))
    variables["scale_factors"] = jax.tree.map(np.zeros_like, variables["scale_factors"])
    optimizer = make_optimizer(SETTINGS, variables["params"], 100, ())
    with pytest.raises(ScaleFactorError):
        create_state(variables, optimizer, seed=0)


def test_rows_that_do_not_match_the_devices_are_refused():
    _, _, mesh = setup()
    batch = make_batch(random_structures(2), graphs=4, nodes=20)
    with pytest.raises(ValueError, match="2 rows for 1 devices"):
        place_batch(stack([batch, batch]), mesh)
    with pytest.raises(ValueError, match="2 rows for 1 devices, 1 of them here in 3 accumulated"):
        place_batch(stack([batch, batch]), mesh, accumulation=3)


def test_eight_devices_make_the_step_of_one():
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.eight_devices"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=with_devices(8),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "8 devices agree" in done.stdout
