"""Calibration of the intervals and noise floors of measures of points: coverage, KID and others.

python -m benchmarks.calibration_points [--draws 200] [--out FILE]

Sets of 15, 50 and 200 structures, each a point, are drawn many times from two Gaussian populations.
The true value at a size is the mean over all draws.

    covers    the interval of sets of the two populations holds the true value
    floor     two sets of one population are said to be distinguishable

The first should be at least the level, the second at most one minus it. Some minutes on one core.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.similarity.analysis.uncertainty import interval, jackknife_table, noise_table
from atomjax.similarity.features.summaries import BlockRows
from atomjax.similarity.measures.measure import Measure
from atomjax.similarity.measures.neighbors import COVERAGE, DENSITY, KID, OVERLAP
from benchmarks.measure import machine
from benchmarks.rows import write_result

MEASURES = (COVERAGE, DENSITY, OVERLAP, KID)
SIZES, FEATURES = (15, 50, 200), 8
LEVEL, RESAMPLES = 0.95, 99
OUT = Path(__file__).parents[1] / "docs" / "results" / "calibration_points.json"
HEADINGS = ("measure", "structures", "value", "covers", "floor")


def draw(which: int, size: int, rng: np.random.Generator) -> BlockRows:
    """A set of the first population, or of the second, which is shifted and sheared."""
    fixed = np.random.default_rng(1)
    root = np.eye(FEATURES) + 0.25 * fixed.normal(size=(FEATURES,) * 2) / np.sqrt(FEATURES)
    shift = fixed.normal(size=FEATURES) / np.sqrt(FEATURES)
    point = rng.normal(size=(size, FEATURES))
    if which:
        point = point @ root.T + shift
    rows = {"point": point.astype(np.float32), "weight": np.ones(size)}
    return BlockRows(rows, np.arange(size), np.ones(size, int))


def calibrate(measure: Measure, size: int, draws: int) -> dict[str, Any]:
    """Fractions of draws in which the interval holds, and chance is taken for a difference."""
    rng = np.random.default_rng([0, size])
    values, ends, above = np.empty(draws), np.empty((draws, 2)), np.empty(draws, bool)
    for k in range(draws):
        near, other, task = draw(0, size, rng), draw(0, size, rng), draw(1, size, rng)
        chance: dict[str, Any] = {"measure": measure, "resamples": RESAMPLES, "seed": k}
        noise = noise_table([near], [task], **chance)
        values[k] = noise.estimate[0, 0]
        jackknife = jackknife_table([near], [task], measure=measure)
        found = interval(jackknife, noise, level=LEVEL)
        ends[k] = [end[0, 0] for end in found]
        above[k] = noise_table([near], [other], **chance).distinguishable(LEVEL)[0, 0]
    truth = values.mean()
    covers = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    named = (measure.name, size, float(truth), float(covers.mean()), float(above.mean()))
    return dict(zip(HEADINGS, named, strict=True)) | {"draws": draws}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration_points",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for measure in MEASURES:
        for size in SIZES:
            rows.append(calibrate(measure, size, options.draws))
            print(rows[-1], flush=True)
            described = {"command": "python -m benchmarks.calibration_points", "machine": machine()}
            write_result(options.out, {**described, "level": LEVEL, "rows": rows})


if __name__ == "__main__":
    main()
