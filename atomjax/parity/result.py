"""One compared quantity, and how it is printed."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Result:
    """Relative error of one quantity of one structure under one model, and its limit."""

    model: str
    structure: str
    quantity: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the limit."""
        return bool(self.error <= self.limit)

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return (
            f"{self.model:<18} {self.structure:<16} {self.quantity:<22} "
            f"{self.error:9.2e} (limit {self.limit:.0e})  {verdict}"
        )


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference over the largest reference entry; NaN where shapes differ."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if value.shape != reference.shape:
        return float("nan")
    if reference.size == 0:
        return 0.0
    scale = float(np.abs(reference).max())
    return float(np.abs(value - reference).max()) / (scale or 1.0)
