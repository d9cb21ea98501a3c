"""The training loop: steps, validations, checkpoints and logging.

It constructs nothing: model, data, optimiser and checkpoints come in ready. Step n + 1 is
dispatched before the metrics of step n are read, so the device does not wait for the host.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from atomjax.batching import BatchLoader
from atomjax.runtime.cluster import processes
from atomjax.runtime.cluster.preemption import Preemption, RunInterrupted
from atomjax.runtime.run import Run
from atomjax.training.running.checkpoint import Checkpoints
from atomjax.training.running.evaluate import Evaluator
from atomjax.training.running.metrics import physical_metrics, selection_value
from atomjax.training.running.pace import Pace
from atomjax.training.running.record import Record
from atomjax.training.settings import TrainSettings
from atomjax.training.update.optimizer import decay_end, learning_rate_schedule, with_plateau_scale
from atomjax.training.update.state import TrainState, place_batch
from atomjax.training.update.step import CountedFunction
from atomjax.training.update.tasks import Task

LOSSES = ("loss", "loss_energy", "loss_forces", "loss_value", "loss_stress")


@dataclass
class _Window:
    """Sums over the steps since the last line of the log."""

    began: float = field(default_factory=time.perf_counter)
    steps: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    errors: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, metrics: Mapping[str, Any]) -> None:
        self.steps += 1
        for name in LOSSES:
            self.losses[name] = self.losses.get(name, 0.0) + float(metrics[name])
        for name, value in metrics["errors"].items():
            self.errors[name] = self.errors.get(name, 0.0) + np.asarray(value, np.float64)

    def summary(self, tasks: Sequence[Task]) -> dict[str, float]:
        means = {f"train/{name}": value / self.steps for name, value in self.losses.items()}
        physical = physical_metrics(self.errors, tasks)
        seconds = max(time.perf_counter() - self.began, 1e-9)
        rate = float(self.errors["structures"].sum()) / seconds
        return {
            **means,
            **{f"train/{name}": value for name, value in physical.items()},
            "structures_per_second": rate,
        }


@dataclass
class _Dispatched:
    """A step whose metrics have not been read yet, and the structures it saw."""

    step: int
    metrics: Any
    dataset: np.ndarray
    structure: np.ndarray


@dataclass(kw_only=True)
class Loop:
    """Everything a run needs to go from one state to the last."""

    step: CountedFunction  # result of :func:`atomjax.training.update.step.make_train_step`
    loader: BatchLoader  # training batches
    evaluator: Evaluator | None  # evaluator on the validation data, or None without any
    checkpoints: Checkpoints  # checkpoints to save states in
    run: Run  # run directory, which takes the metrics
    settings: TrainSettings  # intervals, patience and selection
    tasks: Sequence[Task]  # in the order of the dataset indices
    mesh: Mesh  # devices
    metadata: Mapping[str, Any]  # saved with every checkpoint
    # Parameters of a state → parameters of the model.
    merge: Callable[[Any], Any] = lambda params: params
    seconds_before: float = 0.0  # wall time that went into the state that training starts from

    def __post_init__(self):
        self._began = time.perf_counter()
        self._window = _Window()
        self._start = 0
        self._pending: _Dispatched | None = None
        steps = self.loader.num_steps
        self._schedule: Callable[[int], Any] = learning_rate_schedule(self.settings, steps)
        self._plateau_scale = 1.0
        self._plateau_start = decay_end(self.settings, self.loader.num_steps)
        devices = self.mesh.devices.flatten()
        device = f"{devices.size} x {devices[0].device_kind}"
        patience = self.settings.validation.early_stopping_patience
        ends = (patience, self.settings.checkpointing.max_hours)
        self._pace = Pace(
            self.loader.num_steps,
            self.settings.batching.batch_size,
            device,
            may_end_sooner=any(end is not None for end in ends),
        )
        self._paused = self._compiled = 0.0
        # Functions that another training made may have been compiled before.
        self._newly_compiled()

    def train(self, state: TrainState, record: Record) -> TrainState:
        """Trains to the end of the last epoch, or until patience, rate or time runs out.

        A run that was stopped by one of these goes on where the settings now give it more.

        Args:
            state: placed on the mesh; its buffers are consumed.
            record: record of the validations up to this state; updated in place.

        Returns:
            The last state.

        Raises:
            FloatingPointError: at the first loss or gradient that is not finite, naming the
                structures of the batch. The latest checkpoint is of a step before.
            RunInterrupted: after SIGTERM, with the state saved.
        """
        total, start = self.loader.num_steps, int(state.step)
        self._start = start
        self._plateau_scale = record.plateau_scale
        if start >= total:
            return state
        if record.stopped:
            if record.has_to_stop(self.settings, self.seconds_before, self._rate(start)):
                return state
            self.run.say(f"going on after step {start}, where it stopped: {record.go_on()}")
        self.run.rewind(start)
        self._began = time.perf_counter()
        self._window = _Window()
        with Preemption() as preemption, self.run.progress(total, "training", start) as progress:
            for index, batch in self.loader.batches(start_step=start):
                done = index + 1
                placed = place_batch(batch, self.mesh, self.settings.batching.accumulation)
                with jax.transfer_guard("disallow"):
                    state, metrics = self.step(state, placed)
                self._read_pending()
                self._pending = _Dispatched(
                    done,
                    metrics,
                    np.asarray(batch.targets.dataset),
                    np.asarray(batch.targets.structure),
                )
                state, shown = self._validate_and_save(state, record, done)
                progress.discount(self._newly_compiled())
                progress.advance(1, **shown)
                if record.stopped:
                    break
                if done < total and preemption.requested():
                    self._stop(state, record, done)
        self._read_pending()
        return state

    @property
    def seconds(self) -> float:
        """Wall time that went into the state, before this process and in it."""
        return self.seconds_before + time.perf_counter() - self._began

    def _newly_compiled(self) -> float:
        """Seconds of compilation since the last call."""
        seconds = self.step.compile_seconds
        if self.evaluator is not None:
            seconds += self.evaluator.compile_seconds
        before, self._compiled = self._compiled, seconds
        return seconds - before

    def _read_pending(self) -> None:
        """Reads the metrics of the step dispatched before, and logs them when due."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        metrics = jax.device_get(pending.metrics)
        if not metrics["finite"]:
            raise FloatingPointError(self._describe_non_finite(pending, metrics))
        pace = self._pace.finished(pending.step, self.step.compile_seconds + self._paused)
        if pace is not None:
            self.run.say(pace)
        self._window.add(metrics)
        if pending.step == self._start + 1:
            # Compilation is not throughput.
            self._window.began = time.perf_counter()
        if pending.step % self.settings.log_every == 0 or pending.step == self.loader.num_steps:
            summary = self._window.summary(self.tasks)
            summary["gradient_norm"] = float(metrics["gradient_norm"])
            summary["learning_rate"] = self._rate(pending.step - 1)
            summary["epoch"] = pending.step / self.loader.steps_per_epoch
            self.run.log(pending.step, summary)
            self._window = _Window()

    def _describe_non_finite(self, pending: _Dispatched, metrics: Mapping[str, Any]) -> str:
        seen = np.stack([pending.dataset, pending.structure])
        # Every process has the structures of its own devices.
        seen = processes.from_all(seen)
        datasets, structures = np.moveaxis(seen, -3, 0).reshape(2, -1)
        real = structures >= 0
        named: dict[str, list[str]] = {}
        for dataset, structure in zip(datasets[real], structures[real], strict=True):
            name = self.tasks[int(dataset)].name
            named.setdefault(name, []).append(self.loader.identify(int(dataset), int(structure)))
        batch = "; ".join(f"dataset {name}: {', '.join(ids)}" for name, ids in named.items())
        kept = self.checkpoints.latest_step
        where = "nothing was saved before" if kept is None else f"step {kept} is saved"
        return (
            f"step {pending.step}: loss {metrics['loss']:.6g}, gradient norm "
            f"{metrics['gradient_norm']:.6g}; training stops here ({where} in "
            f"{self.checkpoints.directory}). Look for wrong labels among the structures of this "
            f"batch, or lower train.optimizer.learning_rate. {batch}"
        )

    def _rate(self, step: int) -> float:
        """Learning rate of the parameters that are in no group."""
        return float(self._schedule(step)) * self._plateau_scale

    def _validate_and_save(
        self, state: TrainState, record: Record, done: int
    ) -> tuple[TrainState, dict[str, float]]:
        """Validate and save the state after step ``done``, each if it is due.

        Returns:
            The state, with another rate after a plateau, and what the progress line shows.
        """
        every = self.settings.validation.eval_every or self.loader.steps_per_epoch
        last = done == self.loader.num_steps
        validate = self.evaluator is not None and (done % every == 0 or last)
        save = done % (self.settings.checkpointing.checkpoint_every or every) == 0 or last
        if not (validate or save):
            return state, {}
        self._read_pending()
        paused = time.perf_counter()
        shown: dict[str, float] = {}
        if validate:
            value, improved = self._validate(state, record, done)
            shown = {self.settings.validation.select_by: value}
            save = save or improved
            state = self._reduce_rate(state, record, value, done)
        self._check_time(record)
        if record.stopped:
            self.run.say(f"stopped after step {done}: {record.reason}")
        if self.evaluator is None and (last or record.stopped):
            self.checkpoints.save_best(state, self._metadata(record, done, {}))
        if save or record.stopped:
            self.checkpoints.save_latest(state, self._metadata(record, done, {}))
        paused = time.perf_counter() - paused
        self._window.began += paused
        self._paused += paused
        return state, shown

    def _reduce_rate(
        self, state: TrainState, record: Record, value: float, done: int
    ) -> TrainState:
        """Lowers the rate on a plateau, and ends the run where it has become too low."""
        plateau = self.settings.schedule.plateau
        if plateau is None or done < self._plateau_start:
            return state
        if not record.update_plateau(value, plateau):
            return state
        self._plateau_scale = record.plateau_scale
        lowest, rate = self.settings.schedule.min_learning_rate, self._rate(done)
        self.run.say(f"step {done}: no improvement, learning rate reduced to {rate:.3g}")
        if lowest is not None and rate < lowest:
            record.stop(f"learning rate {rate:.3g} is below min_learning_rate={lowest:.3g}")
        opt_state = with_plateau_scale(state.opt_state, record.plateau_scale)
        return dataclasses.replace(state, opt_state=opt_state)

    def _check_time(self, record: Record) -> None:
        """Ends the run where its time is over; processes go by the clock of the first."""
        limit = self.settings.checkpointing.max_hours
        if limit is None or record.stopped:
            return
        if processes.from_first(np.asarray(self.seconds >= 3600 * limit)):
            record.stop(f"max_hours={limit:g} of training are over")

    def _validate(self, state: TrainState, record: Record, done: int) -> tuple[float, bool]:
        assert self.evaluator is not None
        averaged = {**state.averaged, "params": self.merge(state.ema_params)}
        metrics = self.evaluator.metrics(averaged)
        self.run.log(done, {f"validation/{name}": value for name, value in metrics.items()})
        validation = self.settings.validation
        value = selection_value(metrics, validation.select_by, validation.select_property)
        improved = record.update(value, done, validation)
        if improved:
            self.checkpoints.save_best(state, self._metadata(record, done, metrics))
        return value, improved

    def _metadata(
        self, record: Record, done: int, validation: Mapping[str, float]
    ) -> dict[str, Any]:
        return {
            **self.metadata,
            "step": done,
            "seconds": self.seconds,
            "record": dataclasses.asdict(record),
            "validation": dict(validation),
        }

    def _stop(self, state: TrainState, record: Record, done: int) -> None:
        self._read_pending()
        self.checkpoints.save_latest(state, self._metadata(record, done, {}))
        message = (
            f"stopped by SIGTERM after step {done} of {self.loader.num_steps}; the state is saved "
            f"in {self.checkpoints.directory}. The same command resumes."
        )
        self.run.say(message)
        raise RunInterrupted(message)
