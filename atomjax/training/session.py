"""One training from its settings: the parts that pretraining and finetuning share.

data → budget → loader → model and its variables → optimiser → loop → best weights → test.
"""

import functools
import json
from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import optax

from atomjax import __version__
from atomjax.batching import GraphDataset
from atomjax.data.card import data_card
from atomjax.data.labels import trained_on
from atomjax.data.structures import seen_formulas
from atomjax.models import (
    backbone_config,
    build_model,
    find_backbone,
    fit_scale_factors,
    init_variables,
    predict,
)
from atomjax.runtime.cluster import processes
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.training.basis import describe_graphs, with_basis
from atomjax.training.budget import check_budget
from atomjax.training.from_settings import (
    Variables,
    head_config,
    load_splits,
    make_tasks,
    model_config,
)
from atomjax.training.loaders import evaluation_loaders, first_batches, training_loader
from atomjax.training.outset import check_common_step, check_elements, check_start
from atomjax.training.replay import find_replay, load_replay
from atomjax.training.running.checkpoint import Checkpoints, load_checkpoint, read_metadata
from atomjax.training.running.evaluate import Evaluator, make_evaluation_step
from atomjax.training.running.loop import Loop, Record
from atomjax.training.running.metrics import by_dataset, describe_metrics
from atomjax.training.running.predictions import write_predictions
from atomjax.training.settings import GroupSettings, RunSettings
from atomjax.training.update.compiled import COMPILED
from atomjax.training.update.layer_rates import all_groups
from atomjax.training.update.lora import Adapters
from atomjax.training.update.optimizer import (
    count_parameters,
    make_optimizer,
    trained_parameters,
)
from atomjax.training.update.state import (
    TrainState,
    create_state,
    data_mesh,
    initial_state,
    place,
    state_shardings,
)
from atomjax.training.update.step import differentiated, make_train_step


class Session:
    """A training with its data read, its model built and its checkpoints open.

    Raises:
        ConfigError: if settings contradict each other or the data.
    """

    def __init__(self, settings: RunSettings, run: Run):
        check_start(settings)
        self.settings, self.run = settings, run
        lora = settings.train.lora
        self._adapters = None if lora is None else Adapters(lora)
        self._merge = self._adapters.merge if self._adapters else lambda params: params
        self.checkpoints = Checkpoints(run.path("checkpoints"), self._merge)
        check_common_step(self.checkpoints)
        resumed = self.checkpoints.latest_metadata()
        source = resumed
        start, self.replay = settings.start, None
        if resumed is None and start.checkpoint is not None:
            source = read_metadata(start.checkpoint, start.which)
        if start.replay is not None and source is not None:
            self.replay = find_replay(start.replay, source, resumed=resumed is not None)
        replayed = self.replay and functools.partial(load_replay, self.replay, settings, run)
        splits = load_splits(settings, run, resumed, source, replayed)
        self._datasets, own = splits.train, len(settings.data.train)
        check_budget(settings.train, sum(splits.samples[:own]))
        self._structures = sum(map(len, splits.train[:own]))
        self.tasks = make_tasks(settings, splits.train[:own])
        self._fingerprints = [splits.fingerprints(index) for index in range(len(splits.train))]
        self.mesh = data_mesh()
        self.train_loader = training_loader(settings, splits, self.mesh, self.replay)
        self.loaders = evaluation_loaders(settings, splits, self.mesh)
        self._seen = seen_formulas(settings.data, run)
        self.heads = [
            head_config(settings.head, one.name, one.scales) for one in splits.train[:own]
        ]
        if self.replay is not None:
            self.tasks += (self.replay.task(settings),)
            self.heads.append(self.replay.head)
        self.model_config = with_basis(model_config(settings), splits.train, source)
        held_out = [one for loader in self.loaders.values() for one in loader.datasets]
        check_elements(self.model_config, [*splits.train, *held_out])
        self.model = build_model(self.model_config, self.heads)
        self.apply = functools.partial(predict, self.model)
        self._evaluation_step = COMPILED.get(
            ("evaluate", *self._meaning()),
            lambda: make_evaluation_step(
                self.apply, self.tasks, self.mesh, reduction=settings.train.loss.force_reduction
            ),
        )
        graphs = describe_graphs(self.model_config, splits.train)
        notes = [*(settings.notes or ()), *splits.remarks]
        run.say(data_card(splits, self.train_loader, graphs, notes))

    def train(self, load: Callable[[Variables], Variables] | None = None) -> dict[str, Any]:
        """Trains, or resumes the training in the run directory, and tests the best weights.

        Args:
            load: fresh variables → variables to start from, with fitted scale factors. Without
                it the factors are fitted to the data.

        Returns:
            "seed", "steps" made, "best_step", "seconds" of training, "budget", "structures",
            "parameters", "trained_parameters", "state_bytes" (weights, averages and moments of the
            optimiser), "step_bytes" (temporary arrays of a step; None where none was left to do),
            "compilations" of the training step in this process, "padding" (shares that are real),
            "validation" and "test":
            dataset → metric → value of the best weights, "test_by_element": of forces the same by
            element, "test_by_formula": of each set of ``data.seen`` the same by whether it holds
            the formula, "checkpoint" and "predictions" (dataset → file).

        Raises:
            FloatingPointError: at a loss that is not finite.
            RunInterrupted: after SIGTERM.
        """
        # The model is traced once, which takes seconds: for values where they are needed.
        resumed = self.checkpoints.latest_step is not None
        fresh = None if resumed else self.fresh_variables()
        shapes = jax.eval_shape(self.fresh_variables if fresh is None else lambda: fresh)
        backbone, whole = find_backbone(self.model_config), count_parameters(shapes["params"])
        groups = all_groups(self.settings.train, backbone)
        if self.replay is not None:
            groups = (*self.replay.frozen, *groups)
        add, groups = self._adaptation(shapes, groups)
        shapes = jax.eval_shape(add, shapes)
        trained = trained_parameters(shapes["params"], groups)
        count = count_parameters(shapes["params"], trained)
        self._say_size(whole, count)
        optimizer = make_optimizer(
            self.settings.train,
            shapes["params"],
            self.train_loader.num_steps,
            groups,
            backbone.shared(backbone_config(self.model_config)),
        )
        start = None if fresh is None else lambda: add(self._start(fresh, load))
        state, record, seconds = self._first_or_latest_state(shapes, optimizer, start)
        loop = self._make_loop(optimizer, trained, state, seconds)
        before = loop.step.num_compilations
        final = loop.train(state, record)
        compilations = loop.step.num_compilations - before
        self._say_padding(compilations)
        results = {
            **self._results(int(final.step), loop.seconds, compilations),
            "trained_parameters": count,
            "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(final)),
            "step_bytes": loop.step.temporary_bytes,
        }
        if self.run.primary:
            self.run.write_json("results.json", results)
        return results

    def fresh_variables(self, key: jax.Array | None = None) -> Variables:
        """Variables of the model before any training, scale factors unfitted.

        Args:
            key: key of the random weights; None for that of the settings' seed.
        """
        if key is None:
            key = jax.random.fold_in(jax.random.key(self.settings.seed), 1)
        variables = init_variables(self.model, key, self.train_loader.example_batch())
        return jax.tree.map(lambda x: jnp.asarray(x, self.settings.train.dtype), variables)

    def dataset(self, part: str) -> GraphDataset:
        """The first data set of a part, such as "train"; raises ConfigError where there is none."""
        loader = self.train_loader if part == "train" else self.loaders.get(part)
        if loader is None:
            raise ConfigError(f"the data have no {part} part; give the split one, or data.{part}")
        return loader.datasets[0]

    def keep(self, variables: Variables, seconds: float) -> dict[str, Any]:
        """Saves variables that were not trained step by step, and tests them; see :meth:`train`."""
        placed, evaluator = place(variables, self.mesh), self._evaluator("validation")
        metrics = {} if evaluator is None else evaluator.metrics(placed)
        state = create_state(placed, optax.identity(), self.settings.seed)
        done = {"step": 0, "seconds": seconds, "record": asdict(Record()), "validation": metrics}
        self.checkpoints.save_best(state, {**self._metadata(), **done})
        return self._results(0, seconds, 0)

    def _adaptation(
        self, shapes: Variables, groups: tuple[GroupSettings, ...]
    ) -> tuple[Callable[[Variables], Variables], tuple[GroupSettings, ...]]:
        """The function that adds adapters to variables, and the groups with what they freeze."""
        adapters = self._adapters
        if adapters is None:
            return lambda variables: variables, groups
        kernels = adapters.kernels(shapes["params"], groups)
        key = jax.random.fold_in(jax.random.key(self.settings.seed), 2)

        def add(variables: Variables) -> Variables:
            return {**variables, "params": adapters.add(variables["params"], kernels, key)}

        return add, (adapters.frozen(kernels), *groups)

    def _start(self, fresh: Variables, load: Callable[[Variables], Variables] | None) -> Variables:
        """The variables to start from, with fitted scale factors."""
        if load is not None:
            return load(fresh)
        if fresh["scale_factors"]:
            self.run.say("fitting scale factors")
        return fit_scale_factors(self.model, fresh, first_batches(self.settings, self.train_loader))

    def _first_or_latest_state(
        self,
        shapes: Variables,
        optimizer: optax.GradientTransformation,
        start: Callable[[], Variables] | None,
    ) -> tuple[TrainState, Record, float]:
        """The placed state to go on from, its record, and the seconds trained so far."""
        target = jax.eval_shape(lambda: initial_state(shapes, optimizer, self.settings.seed))
        shardings = self._shardings(target)
        if start is None:
            state, metadata = self.checkpoints.restore(target)
            self.run.say(f"resuming after step {metadata['step']}")
            record = Record(**metadata["record"])
            return place(state, self.mesh, shardings), record, metadata["seconds"]
        # Hosts may differ in the last bits of what each has computed for itself.
        variables = processes.from_first(start())
        state = create_state(variables, optimizer, self.settings.seed)
        return place(state, self.mesh, shardings), Record(), 0.0

    def _shardings(self, shapes: TrainState) -> TrainState | None:
        """Shardings of a state that is divided over the devices, else None."""
        if not self.settings.train.optimizer.shard_optimizer:
            return None
        return state_shardings(shapes, self.mesh, shard_optimizer=True)

    def _make_loop(
        self,
        optimizer: optax.GradientTransformation,
        trained: Any,
        state: TrainState,
        seconds: float,
    ) -> Loop:
        train, marks = self.settings.train, tuple(jax.tree.leaves(trained))
        step = COMPILED.get(
            ("train", *self._meaning(), marks, self.train_loader.num_steps),
            lambda: make_train_step(
                self.apply if all(marks) else differentiated(self.apply, trained, self._merge),
                self.tasks,
                optimizer,
                self.mesh,
                reduction=train.loss.force_reduction,
                ema_decay=train.averaging.ema_decay,
                ema_warmup=train.averaging.ema_warmup,
                accumulation=train.batching.accumulation,
                shardings=self._shardings(state),
            ),
        )
        return Loop(
            step=step,
            loader=self.train_loader,
            evaluator=self._evaluator("validation"),
            checkpoints=self.checkpoints,
            run=self.run,
            settings=train,
            tasks=self.tasks,
            mesh=self.mesh,
            metadata=self._metadata(),
            merge=self._merge,
            seconds_before=seconds,
        )

    def _evaluator(self, split: str) -> Evaluator | None:
        loader = self.loaders.get(split)
        if loader is None:
            return None
        return Evaluator(
            self._evaluation_step,
            self.tasks,
            self.mesh,
            lambda: (batch for _, batch in loader.batches()),
            num_structures=sum(len(dataset) for dataset in loader.datasets),
        )

    def _metadata(self) -> dict[str, Any]:
        return {
            "atomjax": __version__,
            "model": self.model_config,
            "heads": [asdict(head) for head in self.heads],
            "graphs": {one.name: asdict(one.graph_config) for one in self._datasets},
            "datasets": {
                dataset.name: {
                    **dataset.label_metadata,
                    "trained_on": trained_on(
                        dataset.structures,
                        [target.name for target in task.targets],
                        energy=task.energy_coefficient > 0,
                        forces=task.force_coefficient > 0,
                    ),
                    "fingerprints": fingerprints,
                }
                for dataset, task, fingerprints in zip(
                    self._datasets, self.tasks, self._fingerprints, strict=True
                )
            },
            "seed": self.settings.seed,
            "structures": self._structures,
            "config": self.settings.to_dict(),
        }

    def _meaning(self) -> tuple[Hashable, ...]:
        """All facts beside weights, seed and number of steps that determine the computation."""
        model = json.dumps(self.model_config, sort_keys=True)
        # A backbone that is registered anew may compute otherwise under the same name.
        network = find_backbone(self.model_config).network
        return model, network, tuple(self.heads), self.tasks, self.settings.train, self.mesh

    def _results(self, steps: int, seconds: float, compilations: int) -> dict[str, Any]:
        variables, metadata = load_checkpoint(self.checkpoints.directory, "best")
        evaluator, files, sets = self._evaluator("test"), {}, {}
        test: dict[str, dict[str, float]] = {}
        if evaluator is not None:
            variables = place(variables, self.mesh)
            metrics = evaluator.metrics(variables)
            rows, datasets = evaluator.predictions(variables), self.loaders["test"].datasets
            files, sets = write_predictions(rows, datasets, self.tasks, self.run)
            further = {k: v for n, one in sets.items() for k, v in one.reported_errors(n).items()}
            found = by_dataset(metrics).items()
            test = {name: {**one, **further.get(name, {}), **one} for name, one in found}
            self.run.say(describe_metrics("test", metrics, self.tasks))
        return {
            "seed": self.settings.seed,
            "steps": steps,
            "best_step": metadata["step"],
            "seconds": seconds,
            "budget": self.settings.train.epochs * self.train_loader.samples_per_epoch,
            "structures": self._structures,
            "parameters": count_parameters(variables["params"]),
            "compilations": compilations,
            "padding": self.train_loader.padding_report(),
            "validation": by_dataset(metadata["validation"]),
            "test": test,
            "test_by_element": {name: one.errors_by_element() for name, one in sets.items()},
            "test_by_formula": {n: one.errors_by_formula(self._seen) for n, one in sets.items()},
            "checkpoint": str(self.checkpoints.directory),
            "predictions": files,
        }

    def _say_size(self, parameters: int, trained: int) -> None:
        size = f"{self.settings.model.name} with {parameters:,} parameters"
        if self._adapters is not None:
            size += f" and adapters of rank {self._adapters.settings.rank}"
        if self._adapters is not None or trained < parameters:
            size += f", {trained:,} numbers of which are trained,"
        self.run.say(f"{size} on {self.mesh.size} device{'s' if self.mesh.size > 1 else ''}")

    def _say_padding(self, compilations: int) -> None:
        report = self.train_loader.padding_report()
        self.run.say(
            f"compiled the training step {compilations} time(s) for "
            f"{len(self.train_loader.capacities)} shape(s); real share of padded atoms "
            f"{report['atoms']:.1%}, main edges {report['main_edges']:.1%}; "
            f"{report['batch_size']:.1f} structures a step, {report['batch_size_min']} to "
            f"{report['batch_size_max']}"
        )
