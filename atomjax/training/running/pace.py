"""Estimated duration of a run, from steps measured on the hardware at hand."""

import time
from collections.abc import Callable

# Measured until there are so many steps, or so many seconds of fewer.
ENOUGH_STEPS, ENOUGH_SECONDS = 20, 30.0


def duration(seconds: float) -> str:
    """A length of time with its units, to two of them: "3 min 16 s", "41 h 40 min", "5.2 days"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{seconds / 86400:,.1f} days"


class Pace:
    """Measures the first steps of a run that are not compiled, once.

    Args:
        total: steps of the whole run.
        samples_per_step: structures of a step.
        device: description of the device.
        may_end_sooner: the run ends by itself before, by patience, rate or time.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        total: int,
        samples_per_step: int,
        device: str,
        *,
        may_end_sooner: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._total, self._samples, self._device = total, samples_per_step, device
        self._at_most = "at most " if may_end_sooner else ""
        self._clock = clock
        self._began: float | None = None
        self._steps = 0
        self._told = False

    def finished(self, step: int, discounted: float) -> str | None:
        """Takes one finished step into account.

        Args:
            step: its number, from 1.
            discounted: seconds spent so far outside of steps: compilations and validations.

        Returns:
            Once, a line about the time of the whole run; None otherwise.
        """
        now = self._clock() - discounted
        if self._told:
            return None
        if self._began is None:
            # The first step of a process carries compilation and the filling of the pipeline.
            self._began = now
            return None
        self._steps += 1
        seconds = now - self._began
        last = step == self._total
        if self._steps < ENOUGH_STEPS and seconds < ENOUGH_SECONDS and not last:
            return None
        self._told = True
        each = seconds / self._steps
        return (
            f"pace: {each:.3g} s a step of {self._samples:,} structures on {self._device}, so "
            f"{self._at_most}{duration(each * self._total)} for the {self._total:,} steps of the "
            f"budget and {duration(each * (self._total - step))} for those left, besides "
            "validations"
        )
