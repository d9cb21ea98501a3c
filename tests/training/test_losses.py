import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.models import Prediction
from atomjax.training.running.metrics import error_sums, physical_metrics, selection_value
from atomjax.training.update.losses import (
    Reduction,
    label_counts,
    loss_sums,
    mean_terms,
    prediction_errors,
    total,
)
from atomjax.training.update.tasks import Target, Task
from tests.training.standin import Labelled, Model, init, make_batch, random_structures

TASKS = (
    Task(name="a", energy_coefficient=2.0, force_coefficient=10.0, energy_scale=0.5),
    Task(name="b", energy_coefficient=1.0, force_coefficient=3.0, force_scale=2.0),
)


def predictions_for(batch, seed=0):
    rng = np.random.default_rng(seed)
    g, n = batch.targets.energy.shape[0], batch.targets.forces.shape[0]
    return {
        task.name: Prediction(
            energy=jnp.asarray(rng.normal(size=g), jnp.float32),
            forces=jnp.asarray(rng.normal(size=(n, 3)), jnp.float32),
            atom_contributions=jnp.zeros(n),
        )
        for task in TASKS
    }


def loss_of(predictions, batch, tasks=TASKS, reduction: Reduction = "structure"):
    errors = prediction_errors(predictions, batch, tasks)
    sums = loss_sums(errors, batch, tasks, reduction)
    return mean_terms(sums, label_counts(batch, tasks, reduction))


@pytest.mark.parametrize("reduction", ["structure", "atom"])
def test_loss_equals_a_loop_over_structures(reduction):
    structures = random_structures(12, datasets=2)
    batch = make_batch(structures, graphs=15, nodes=80)
    predictions = predictions_for(batch)
    terms = loss_of(predictions, batch, reduction=reduction)

    energies, forces, weights = [], [], []
    start = 0
    for g, item in enumerate(structures):
        task = TASKS[item.dataset]
        head = predictions[task.name]
        assert head.energy is not None
        assert head.forces is not None
        stop = start + len(item.atomic_numbers)
        if item.energy is not None:
            energies.append(task.energy_coefficient * abs(float(head.energy[g]) - item.energy))
        if item.forces is not None and not np.all(item.fixed):
            error = np.linalg.norm(np.asarray(head.forces[start:stop]) - item.forces, axis=1)
            free = task.force_coefficient * error[~np.asarray(item.fixed)]
            forces.append(free.mean() if reduction == "structure" else free.sum())
            weights.append(1 if reduction == "structure" else len(free))
        start = stop
    assert float(terms.energy) == pytest.approx(np.mean(energies), rel=1e-5)
    assert float(terms.forces) == pytest.approx(np.sum(forces) / np.sum(weights), rel=1e-5)
    assert terms.values == {}


def test_loss_and_gradient_do_not_depend_on_padding():
    structures = random_structures(6, datasets=2)
    small = make_batch(structures, graphs=7, nodes=40)
    large = make_batch(structures, graphs=20, nodes=90, slots=11)

    def loss(shift, batch):
        predictions = {
            task.name: Prediction(
                energy=jnp.where(batch.graph_mask, shift, 5.0),
                forces=jnp.broadcast_to(shift, batch.targets.forces.shape),
                atom_contributions=jnp.zeros(()),
            )
            for task in TASKS
        }
        return total(loss_of(predictions, batch))

    values = [jax.value_and_grad(loss)(0.3, batch) for batch in (small, large)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


def test_structures_of_any_size_weigh_alike_in_the_structure_reduction():
    def of_size(n):
        return Labelled(np.full(n, 6), np.zeros((n, 3)), energy=0.0, forces=np.zeros((n, 3)))

    batch = make_batch([of_size(6), of_size(200)], graphs=3, nodes=210, slots=200)
    task = (Task(name="a", force_coefficient=1.0),)

    def force_loss(forces):
        head = Prediction(energy=jnp.zeros(3), forces=forces, atom_contributions=jnp.zeros(210))
        return loss_of({"a": head}, batch, task).forces

    gradient = jax.grad(force_loss)(jnp.ones((210, 3)))
    for atoms in (slice(0, 6), slice(6, 206)):
        forces = jnp.zeros((210, 3)).at[atoms, 0].set(1.0)
        assert float(force_loss(forces)) == pytest.approx(0.5)
        pull = jnp.linalg.norm(gradient[atoms], axis=1).sum()
        assert float(pull) == pytest.approx(0.5, rel=1e-5)


def test_gradient_at_zero_error_is_finite():
    batch = make_batch(random_structures(4), graphs=6, nodes=40)
    tasks = (Task(name="a"),)

    def loss(forces):
        head = Prediction(
            energy=jnp.asarray(batch.targets.energy),
            forces=forces,
            atom_contributions=jnp.zeros(()),
        )
        return total(loss_of({"a": head}, batch, tasks))

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(batch.targets.forces))
    assert float(value) == 0.0
    assert np.all(np.isfinite(gradient))


def test_a_head_learns_only_from_its_own_dataset():
    structures = random_structures(8, datasets=2)
    batch = make_batch([s for s in structures if s.dataset == 0], graphs=6, nodes=40)
    predictions = predictions_for(batch)
    gradient = jax.grad(lambda p: total(loss_of(p, batch)))(predictions)
    assert np.any(gradient["a"].energy != 0)
    assert np.all(gradient["b"].energy == 0)
    assert np.all(gradient["b"].forces == 0)


def test_parameters_of_a_head_are_touched_by_its_own_data_alone():
    structures = random_structures(8, datasets=2)
    model = Model(TASKS)
    variables = init(model, make_batch(structures, graphs=9, nodes=60))

    def gradients(own):
        batch = make_batch(own, graphs=9, nodes=60)

        def loss(params):
            predictions = model.as_function()({**variables, "params": params}, batch)
            return total(loss_of(predictions, batch))

        return jax.grad(loss)(variables["params"])

    for dataset, (own, other) in enumerate(("ab", "ba")):
        grads = gradients([s for s in structures if s.dataset == dataset])
        for kind in ("head", "forces"):
            assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(grads[f"{kind}_{own}"]))
            assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(grads[f"{kind}_{other}"]))
        assert np.any(grads["backbone"]["embedding"] != 0)


def test_scalar_task_compares_with_its_property():
    structures = random_structures(5)
    batch = make_batch(structures, graphs=8, nodes=40)
    tasks = (Task(name="a", kind="scalar", targets=(Target(name="gap", scale=3.0),)),)
    head = Prediction(
        energy=None, forces=None, values={"gap": jnp.zeros(8)}, atom_contributions=jnp.zeros(40)
    )
    expected = np.mean([abs(s.properties["gap"]) for s in structures])
    terms = loss_of({"a": head}, batch, tasks)
    assert float(terms.values["gap"]) == pytest.approx(expected, rel=1e-6)
    assert float(terms.energy) == float(terms.forces) == 0.0
    errors = prediction_errors({"a": head}, batch, tasks)
    metrics = physical_metrics(error_sums(errors, batch, tasks), tasks)
    assert metrics == {"a/value_mae": pytest.approx(3.0 * expected, rel=1e-6)}


def test_metrics_are_in_milli_units_and_leave_out_what_is_not_labelled():
    structures = [
        Labelled(np.array([1, 6]), np.zeros((2, 3)), energy=1.0, forces=np.ones((2, 3))),
        Labelled(np.array([8]), np.zeros((1, 3)), energy=3.0),
    ]
    batch = make_batch(structures, graphs=4, nodes=6)
    tasks = (Task(name="a", energy_scale=0.5, force_scale=0.25), Task(name="b"))
    zeros = Prediction(
        energy=jnp.zeros(4),
        forces=jnp.zeros((6, 3)),
        atom_contributions=jnp.zeros(6),
    )
    errors = prediction_errors({"a": zeros, "b": zeros}, batch, tasks)
    sums = error_sums(errors, batch, tasks)
    metrics = physical_metrics(sums, tasks)
    assert metrics == {
        "a/energy_mae_mev": pytest.approx(1000.0),
        "a/energy_mae_mev_per_atom": pytest.approx(500 * (0.5 + 3.0) / 2),
        "a/force_mae_mev_per_angstrom": pytest.approx(250.0),
    }
    assert selection_value({"loss": 2.0, **metrics}, "force_mae") == pytest.approx(250.0)
    assert selection_value({"loss": 2.0}, "loss") == 2.0
    with pytest.raises(ValueError, match="value_mae"):
        selection_value(metrics, "value_mae")


@pytest.mark.parametrize(
    ("form", "energy", "forces"),
    [
        ({}, 3.0, 5.0),
        ({"scalar_loss": "mse", "force_loss": "mae"}, 9.0, 7 / 3),
        ({"force_loss": "mse"}, 3.0, 25 / 3),
        ({"scalar_loss": "huber", "force_loss": "huber", "huber_delta": 2.0}, 4.0, 8.0),
        ({"scalar_loss": "huber", "force_loss": "huber", "huber_delta": 6.0}, 4.5, 12.5),
    ],
)
def test_forms_of_the_loss_of_each_task(form, energy, forces):
    """Errors of 3 in the energy and (3, 0, 4) in the force; Huber: x²/2, or δ(x - δ/2)."""
    zeros = np.zeros((1, 3))
    items = [
        Labelled(np.array([1]), zeros, energy=0.0, forces=zeros, dataset=d, index=d)
        for d in range(2)
    ]
    batch = make_batch(items, graphs=3, nodes=4)
    head = Prediction(
        energy=jnp.full(3, 3.0),
        forces=jnp.tile(jnp.array([3.0, 0.0, 4.0]), (4, 1)),
        atom_contributions=jnp.zeros(4),
    )
    # The first task keeps the usual form, so the mean is half of each.
    tasks = (Task(name="a"), Task(name="b", **form))
    terms = loss_of({"a": head, "b": head}, batch, tasks)
    assert float(terms.energy) == pytest.approx((3.0 + energy) / 2)
    assert float(terms.forces) == pytest.approx((5.0 + forces) / 2)


def test_errors_of_logarithms_are_reported_of_the_property():
    items = [
        Labelled(np.array([1]), np.zeros((1, 3)), properties={"gap": value}, index=i)
        for i, value in enumerate((0.0, 1.0))
    ]
    batch = make_batch(items, graphs=3, nodes=4)
    gap = Target(name="gap", transform="log", scale=2.0, mean=0.5)
    task = Task(name="a", kind="scalar", targets=(gap,))
    head = Prediction(
        energy=None, forces=None, values={"gap": jnp.full(3, 0.25)}, atom_contributions=jnp.zeros(4)
    )
    terms = loss_of({"a": head}, batch, (task,))
    assert float(terms.values["gap"]) == pytest.approx((0.25 + 0.75) / 2)
    errors = prediction_errors({"a": head}, batch, (task,))
    metrics = physical_metrics(error_sums(errors, batch, (task,)), (task,))
    expected = np.mean([np.exp(1.0) - np.exp(0.5), np.exp(2.5) - np.exp(1.0)])
    assert metrics == {"a/value_mae": pytest.approx(expected, rel=1e-5)}
