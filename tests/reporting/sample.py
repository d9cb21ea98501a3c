"""A report with all kinds of content, some of it hostile."""

from pathlib import Path

import numpy as np
from rich.console import Console

from atomjax.reporting.plots import Comparison, Curve, Panel, comparison_plot, curve_plot
from atomjax.reporting.report import Document, write_report
from atomjax.reporting.tables import markdown_table
from atomjax.runtime.run import Run
from atomjax.similarity.workflow.figures import map_plot

# A name that would do harm where it is not text.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>|\"'&"
ROWS = [["ten", "10 ± 1", "1:02:03"], ["nine", "9.5 ± 2", "0:59"], ["none", "–", "2:00"]]


def sample_document() -> Document:
    """Text, a table, curves, a map and predictions."""
    rng = np.random.default_rng(0)
    curves = [
        Curve(label=label, name=f"seed {seed}", steps=[1, 10, 100], values=[9, 3, 1 + seed])
        for label in ("pretrained", HOSTILE)
        for seed in range(3)
    ]
    panels = [Panel(title=title, y_label="force MAE (meV/Å)", curves=curves) for title in "ab"]
    rows = {name: rng.normal(i, 1, (3000, 4)) for i, name in enumerate(("near", "far", "task"))}
    true = rng.normal(size=(5000, 3))
    off = Comparison(
        label="test",
        true=true,
        predicted=true + rng.normal(0, 0.1, true.shape),
        quantity="force",
        unit="eV/Å",
        names=[HOSTILE] * 5000,
    )
    lines = [
        f"**Pretrain on {HOSTILE}.**",
        "",
        *markdown_table(["set", "error", HOSTILE], ROWS),
        "",
        curve_plot("curves", f"Curves of {HOSTILE}.", panels),
        map_plot(rows, ["task"]),
        comparison_plot("parity", "Predictions.", [off]),
        "More in [the comparison](csi/report.md) and [a paper](https://arxiv.org/abs/2502.11085).",
        "",
    ]
    return Document(title=f"A report on {HOSTILE}", lines=lines)


def write_sample(folder: Path) -> Path:
    """The report as a run writes it."""
    config = {"workflow": "csi", "notes": [HOSTILE], "seed": 0}
    run = Run(folder, config, console=Console(quiet=True))
    (folder / "csi.csv").write_text("a\n1\n")
    write_report(sample_document, run)
    return folder / "report.html"
