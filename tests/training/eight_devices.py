"""Compares eight devices with one, and both ways to keep the optimiser; run by test_step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atomjax.models import Prediction
from atomjax.training.running.evaluate import Evaluator, make_evaluation_step
from atomjax.training.update.state import TrainState, gather, place, state_shardings
from tests.training.standin import Model, make_batch, random_structures, stack
from tests.training.test_step import TASKS, run_steps, setup

# Uneven shares: some devices get nothing but padding, and their paddings differ from the single
# device's.
SHARES = [0, 3, 1, 5, 2, 0, 4, 1]


def assert_close(a, b, atol: float) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol), a, b)


def conservative(model: Model) -> Any:
    """The model with forces that are minus the gradient of each head's energy."""
    apply = model.as_function()

    def predict(variables, batch, **options):
        nodes: Any = batch.graph.nodes

        def energies(positions):
            moved = batch.replace(
                graph=batch.graph._replace(nodes={**nodes, "positions": positions})
            )
            return apply(variables, moved, **options)

        predictions = energies(nodes["positions"])
        result: dict[str, Prediction] = {}
        for name, prediction in predictions.items():
            gradient = jax.grad(lambda r, name=name: jnp.sum(energies(r)[name].energy))
            forces = -gradient(nodes["positions"])
            result[name] = dataclasses.replace(prediction, forces=forces)
        return result

    return predict


def batches() -> tuple[list[Any], list[Any]]:
    """The same structures on one device, and on eight."""
    single, parted = [], []
    for seed in range(4):
        structures = random_structures(sum(SHARES), seed=seed, datasets=2)
        single.append(stack([make_batch(structures, graphs=20, nodes=110)]))
        rows, start = [], 0
        for share in SHARES:
            rows.append(make_batch(structures[start : start + share], graphs=7, nodes=40))
            start += share
        parted.append(stack(rows))
    return single, parted


def bytes_on_one_device(tree: Any) -> int:
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def check_divided_optimizer(expected: TrainState, losses: list[float], parted: list[Any]) -> None:
    whole = setup(devices=8)
    step, state, mesh = setup(devices=8, shard_optimizer=True)
    kept = bytes_on_one_device((whole[1].opt_state, whole[1].ema_params))
    divided = bytes_on_one_device((state.opt_state, state.ema_params))
    # The axis of 20 elements, and biases of one or three numbers, do not divide by eight.
    assert divided < 0.25 * kept, (divided, kept)
    got, got_losses = run_steps(step, state, mesh, parted)
    np.testing.assert_allclose(got_losses, losses, rtol=2e-6)
    assert_close(got, expected, atol=1e-6)
    # What was saved whole goes on divided, on another number of devices.
    restored = jax.tree.map(np.asarray, got)
    step, _, mesh = setup(devices=4, shard_optimizer=True)
    shardings = state_shardings(restored, mesh, shard_optimizer=True)
    again = gather(place(restored, mesh, shardings), mesh)
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(again))
    print(f"optimiser and average: {kept} bytes on every device, divided {divided}")


def evaluate(apply: Any, devices: int, given: list[Any]) -> dict[str, float]:
    _, state, mesh = setup(devices=devices)
    step = make_evaluation_step(apply, TASKS, mesh)
    count = len(given) * sum(SHARES)
    return Evaluator(step, TASKS, mesh, lambda: given, count).metrics(state.averaged)


def main() -> None:
    assert len(jax.devices()) == 8
    single, parted = batches()
    for kind in (Model.as_function, conservative):
        one, losses_one = run_steps(*setup(devices=1, kind=kind), single)
        eight, losses_eight = run_steps(*setup(devices=8, kind=kind), parted)
        np.testing.assert_allclose(losses_one, losses_eight, rtol=2e-6)
        assert_close(one.opt_state, eight.opt_state, atol=1e-6)
        assert_close(one.params, eight.params, atol=1e-5)
        if kind is Model.as_function:
            check_divided_optimizer(eight, losses_eight, parted)
    apply = conservative(Model(TASKS))
    metrics = [evaluate(apply, *given) for given in ((1, single), (8, parted))]
    assert metrics[0].keys() == metrics[1].keys()
    for name, value in metrics[0].items():
        np.testing.assert_allclose(metrics[1][name], value, rtol=2e-6, err_msg=name)
    print("8 devices agree")


if __name__ == "__main__":
    main()
