"""Curves of a training that a notebook redraws while it goes on."""

import importlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomjax.reporting.plots import Curve, Panel, curve_plot
from atomjax.runtime.run import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ending of a logged name → label of its axis.
METRICS = {
    "force_mae_mev_per_angstrom": "force MAE (meV/Å)",
    "energy_mae_mev_per_atom": "energy MAE (meV/atom)",
}


class LiveCurves:
    """Errors over steps of a run in a directory, for ``atomjax.finetune(progress=...)``.

    Args:
        workdir: directory of the run.
        interval: least seconds from one drawing to the next. Where drawing is slow they are more,
            so that it takes a tenth of the time at most.
        show: shows a figure, in place of the one before; None for the output of a notebook's cell.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        interval: float = 1.0,
        show: "Callable[[Figure], None] | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._path = Path(workdir).expanduser() / "metrics.jsonl"
        self._interval, self._clock = interval, clock
        self._show = _CellOutput() if show is None else show
        self._drawn, self._next = 0, -float("inf")

    def __call__(self, description: str, done: int, total: int, fields: Mapping[str, Any]) -> None:
        """Draw what was logged since the last drawing, where that is long enough ago."""
        ended = description == "training" and done == total
        began = self._clock()
        if not ended and began < self._next:
            return
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == self._drawn:
            return
        self._show(self.draw())
        now = self._clock()
        self._next = now + max(self._interval, 9 * (now - began))
        self._drawn = size

    def draw(self) -> "Figure":
        """The figure of all that is logged so far."""
        curves: dict[str, dict[str, list[tuple[float, float]]]] = {key: {} for key in METRICS}
        for record in read_metrics(self._path.parent):
            for name, value in record.items():
                part, _, rest = name.partition("/")
                dataset, _, metric = rest.rpartition("/")
                if dataset and metric in METRICS:
                    points = curves[metric].setdefault(f"{part}, {dataset}", [])
                    points.append((record["step"], value))
        panels = []
        for metric, label in METRICS.items():
            lines = [
                Curve(label=name, steps=[step for step, _ in points], values=[y for _, y in points])
                for name, points in curves[metric].items()
            ]
            panels.append(Panel(title=label.partition(" (")[0], y_label=label, curves=lines))
        return curve_plot("training", "errors over steps", panels).draw()


class _CellOutput:
    """The output of a notebook's cell, which holds one figure."""

    def __init__(self) -> None:
        self._display = importlib.import_module("IPython.display").display
        self._handle: Any = None

    def __call__(self, figure: "Figure") -> None:
        if self._handle is None:
            self._handle = self._display(figure, display_id=True)
        else:
            self._handle.update(figure)
