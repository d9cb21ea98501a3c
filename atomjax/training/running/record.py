"""Progress of a training: best validation, patience and plateaus of the learning rate."""

from dataclasses import dataclass

from atomjax.training.settings import PlateauSettings, TrainSettings, ValidationSettings


@dataclass
class Record:
    """Progress of model selection; saved with the state, so that resuming continues it."""

    best_value: float | None = None  # smallest validation value so far, None before the first
    best_step: int = 0  # step it was reached at
    stale: int = 0  # validations since
    stopped: bool = False  # whether the run ended before its last epoch
    reason: str = ""  # why it did, in words
    # Smallest validation value of the plateau phase, None before the first.
    plateau_best: float | None = None
    plateau_stale: int = 0  # validations since, or since the rate was last reduced
    plateau_scale: float = 1.0  # product of the reductions so far

    def update(self, value: float, step: int, settings: ValidationSettings) -> bool:
        """Takes one validation into account; returns whether it is the best so far."""
        bound = self.best_value
        if bound is None or value < bound - settings.min_improvement * abs(bound):
            self.best_value, self.best_step, self.stale = value, step, 0
            return True
        self.stale += 1
        patience = settings.early_stopping_patience
        if patience is not None and self.stale >= patience:
            self.stop(f"no improvement in {patience} validations")
        return False

    def update_plateau(self, value: float, settings: PlateauSettings) -> bool:
        """Takes one validation of the plateau phase into account; whether the rate is reduced."""
        bound = self.plateau_best
        if bound is None or value < bound - settings.threshold * abs(bound):
            self.plateau_best, self.plateau_stale = value, 0
            return False
        self.plateau_stale += 1
        if self.plateau_stale <= settings.patience:
            return False
        self.plateau_stale = 0
        self.plateau_scale *= settings.factor
        return True

    def stop(self, reason: str) -> None:
        """Ends the run."""
        self.stopped, self.reason = True, reason

    def go_on(self) -> str:
        """Takes the end back; returns its reason."""
        reason, self.stopped, self.reason = self.reason, False, ""
        return reason

    def has_to_stop(self, settings: TrainSettings, seconds: float, rate: float) -> bool:
        """Whether a stopped run would stop again at once, under the settings of now.

        Args:
            settings: patience, time and lowest rate.
            seconds: trained so far.
            rate: learning rate of the next step.
        """
        patience = settings.validation.early_stopping_patience
        hours, schedule = settings.checkpointing.max_hours, settings.schedule
        lowest = schedule.min_learning_rate if schedule.plateau is not None else None
        return (
            (patience is not None and self.stale >= patience)
            or (hours is not None and seconds >= 3600 * hours)
            or (lowest is not None and rate < lowest)
        )
