"""Workflow "gradients": how alike data sets are to a network that has learnt nothing yet.

    <set>/    run directory of each data set
    gradients.json

At common random weights, the gradient of a data set's loss says how it would change the backbone.
The distance of two data sets is that of their mean gradients, each divided by its length: 0 where
both change it in the same way, √2 where in unrelated ways (principal gradients, Li et al., Nat.
Commun. 2024, who take one mean over the weights, where here distances at each are averaged).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from atomjax.models import fit_scale_factors
from atomjax.runtime.config import ConfigError, Count
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.training.checks import check_settings
from atomjax.training.loaders import first_batches
from atomjax.training.running.leaves import backbone_of, flatten
from atomjax.training.session import Session
from atomjax.training.settings import RunSettings
from atomjax.training.update.state import create_state, place, place_batch
from atomjax.training.update.step import make_train_step

# Name of the head of every data set.
HEAD = "compared"


@dataclass(frozen=True, kw_only=True)
class GradientSettings(WorkflowSettings):
    """A comparison of data sets by gradients at random weights."""

    workflow: Literal["gradients"]
    "Compare by gradients."
    upstream: tuple[RunSettings, ...]
    "Candidates: a training on each, of which data, head and loss count."
    downstream: tuple[RunSettings, ...]
    "Tasks, likewise, with the same model."
    initialisations: Count = 3
    "Random weights to compare at."
    seed: int = 0
    "Seed of these."

    def __post_init__(self):
        super().__post_init__()
        if not self.upstream or not self.downstream:
            raise ConfigError("upstream and downstream need a data set each, at least")
        if any(len(one.data.train) != 1 for one in self.all):
            raise ConfigError("each training of a comparison by gradients is on one data set")
        if len({repr(one.model) for one in self.all}) > 1:
            raise ConfigError("gradients of different models cannot be compared; give all the same")
        names = [_name(one) for one in self.all]
        if len(set(names)) < len(names):
            raise ConfigError(f"data sets {', '.join(names)} must have different names")

    @property
    def all(self) -> tuple[RunSettings, ...]:
        """All trainings."""
        return (*self.upstream, *self.downstream)


def _name(settings: RunSettings) -> str:
    return settings.data.train[0].name


def compare_gradients(config: Mapping[str, Any] | GradientSettings, run: Run) -> dict[str, Any]:
    """Compares all candidates with all tasks.

    Args:
        config: settings, or a config that makes them.
        run: receives the run directories of the data sets, and ``gradients.json``.

    Returns:
        "pairs": "upstream", "downstream" and "gradient_distance" of each pair.

    Raises:
        ConfigError: settings contradict each other or the data.
    """
    settings, gradients = GradientSettings.from_config(config), {}
    for one in settings.all:
        child = run.child(_name(one), one)
        try:
            gradients[_name(one)] = mean_gradients(one, child, settings)
        finally:
            child.close()
    pairs = [
        {
            "upstream": _name(upstream),
            "downstream": _name(downstream),
            "gradient_distance": gradient_distance(
                gradients[_name(upstream)], gradients[_name(downstream)]
            ),
        }
        for upstream in settings.upstream
        for downstream in settings.downstream
    ]
    if run.primary:
        run.write_json("gradients.json", {"pairs": pairs})
    return {"pairs": pairs}


def check_gradients(settings: GradientSettings) -> list[str]:
    """Checks everything that can be known before reading data; see `check_settings`."""
    notes = [note for one in settings.all for note in check_settings(one)[:1]]
    return [*notes, f"gradients at {settings.initialisations} random weights"]


def mean_gradients(settings: RunSettings, run: Run, wanted: GradientSettings) -> np.ndarray:
    """Mean gradients of a data set's loss by the backbone's parameters.

    Scale factors are fitted to the data set, as for a training.

    Returns:
        [initialisations, parameters]
    """
    train = dataclasses.replace(settings.train, epochs=1, budget=None, lora=None)
    # Random weights of a head follow from its name.
    (dataset,) = settings.data.train
    renamed = dataclasses.replace(dataset, name=HEAD)
    # Other parts are not read: a small sample may lack elements of theirs.
    given: dict[str, Any] = {"validation": (), "test": (), "max_validation": 0, "max_test": 0}
    data = dataclasses.replace(settings.data, train=(renamed,), **given)
    settings = settings.replace(workflow="pretrain", finetune=None, train=train, data=data)
    session, found = Session(settings, run), []
    optimizer = _summing()
    step = make_train_step(
        session.apply, session.tasks, optimizer, session.mesh,
        reduction=train.loss.force_reduction, accumulation=train.batching.accumulation,
    )  # fmt: skip
    batches = first_batches(settings, session.train_loader)
    for number in range(wanted.initialisations):
        key = jax.random.fold_in(jax.random.key(wanted.seed), number)
        variables = fit_scale_factors(session.model, session.fresh_variables(key), batches)
        state = place(create_state(variables, optimizer, settings.seed), session.mesh)
        for _, batch in session.train_loader.batches():
            state, _ = step(state, place_batch(batch, session.mesh, train.batching.accumulation))
        summed = backbone_of({"params": jax.device_get(state.opt_state)})
        leaves = flatten(summed)
        found.append(np.concatenate([np.ravel(leaves[path]) for path in sorted(leaves)]))
    return np.stack(found)


def gradient_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over initialisations of the distance of two gradients of unit length; both [I, P]."""
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (first, second)]
    return float(np.linalg.norm(unit[0] - unit[1], axis=1).mean())


def _summing() -> optax.GradientTransformation:
    """An optimiser that changes nothing, and whose state is the sum of the gradients."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jnp.zeros_like, updates), jax.tree.map(jnp.add, state, updates)

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)
