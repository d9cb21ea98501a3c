"""Calibration of a CSI job's statements: intervals, noise floors, and "clear".

python -m benchmarks.calibration [--draws 200] [--only NAME ...] [--out FILE]

Sets of 15, 50 and 200 structures are drawn many times from populations whose distance is known.
Two populations are formulas (Gaussian, and with heavy tails; all atoms of a structure share a part
of their features), one has classes that share a part of theirs and are drawn whole, one is a
trajectory whose frames remember those before, and two are features of structures made here by
an extractor of the package, drawn with repetition, so that what was made is the population. Three
sets a, b and c are drawn of the first population of a pair and one, d, of the second:

    covers         the interval of a and d holds their true distance, or is not given
    covers zero    the interval of a and b holds zero, or is not given
    floor          a and b are said to be distinguishable
    clear, near    a is said to be nearer to c than b is, or the other way round
    clear, far     likewise to d

The first two should be at least the level, the others at most one minus it. Everything runs on one
core in some fifteen minutes.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ase.build
import numpy as np

from atomjax.inference.embeddings import load_embedder
from atomjax.similarity.analysis.uncertainty import (
    gap_between,
    interval,
    jackknife_table,
    noise_table,
)
from atomjax.similarity.features.structure_sums import (
    Moments,
    StructureSums,
    StructureSumsBuilder,
    random_projection,
)
from atomjax.similarity.features.units import FEWEST_UNITS, stretches
from atomjax.similarity.measures.frechet import moment_distances
from atomjax.structures import Structure
from atomjax.structures.generate import generate
from benchmarks.measure import machine
from benchmarks.rows import write_result

SIZES = (15, 50, 200)
LEVEL, RESAMPLES = 0.95, 99
OUT = Path(__file__).parents[1] / "docs" / "results" / "calibration.json"
PER_CLASS = 3
STATEMENTS = ("covers", "covers zero", "floor", "clear, near", "clear, far")


class Drawn(NamedTuple):
    """A set: its (projected) sums, and the moments of all features where they were projected."""

    sums: StructureSums
    full: Moments | None = None


@dataclass(frozen=True)
class Pair:
    """Two populations.

    Attributes:
        draw: function of (0 or 1, number of structures, generator) to a set.
        distance: distance of the populations.
        unit: kind of units that are drawn independently.
        draws: share of the draws to make, where they cost more.
    """

    draw: Callable[[int, int, np.random.Generator], Drawn]
    distance: float
    unit: str = "structure"
    draws: float = 1.0


def sums_of(rows: np.ndarray, block: np.ndarray) -> StructureSums:
    """Sums over blocks of rows."""
    builder = StructureSumsBuilder(None)
    builder.add(rows, block)
    return builder.result()


def formula(
    features: int,
    *,
    decay: float = 0.0,
    tails: float | None = None,
    unit: str = "structure",
    memory: float = 0.0,
) -> Pair:
    """Populations with Gaussian features, or such with heavy tails.

    Half of the variance of an atom's features is shared by its structure; of that, half by its
    class where units are classes.

    Args:
        features: number of features.
        decay: decrease of the logarithm of the standard deviation per feature.
        tails: degrees of freedom of Student's t, whose scale a structure has; None is Gaussian.
        unit: "structure", "class" (three structures each) or "stretch" (of a trajectory).
        memory: correlation of a frame with the one before.
    """
    rng = np.random.default_rng(1)
    shape = (features, features)
    near = np.exp(-decay * np.arange(features))[:, None] * np.linalg.qr(rng.normal(size=shape))[0]
    far = near @ (np.eye(features) + 0.25 * rng.normal(size=shape) / np.sqrt(features))
    shift = near @ rng.normal(size=features) / np.sqrt(features)
    roots, means = (near, far), (np.zeros(features), shift)

    def draw(which: int, size: int, rng: np.random.Generator) -> Drawn:
        atoms = rng.integers(2, 9, size)
        owner = np.repeat(np.arange(size), atoms)
        own, common = (rng.normal(size=(n, features)) for n in (len(owner), size))
        block = np.arange(size)
        if unit == "class":
            block = block // PER_CLASS
            common = np.sqrt(0.5) * (common + rng.normal(size=(size, features))[block])
        if unit == "stretch":
            for i in range(1, size):
                common[i] = memory * common[i - 1] + np.sqrt(1 - memory**2) * common[i]
            block = stretches(block, size)
        rows = np.sqrt(0.5) * (common[owner] + own)
        if tails is not None:
            rows *= np.sqrt((tails - 2) / rng.chisquare(tails, size))[owner, None]
        return Drawn(sums_of(rows @ roots[which].T + means[which], block[owner]))

    population = [
        Moments(mean[None], (root @ root.T)[None]) for mean, root in zip(means, roots, strict=True)
    ]
    return Pair(draw, float(moment_distances(*population)[0]), unit)


def extracted(sets: Sequence[Sequence[Structure]], unit: str = "structure") -> Pair:
    """Populations of extracted features: all structures of two sets."""
    # The committed figures are of its features; what they say is of the statistics.
    embedder = load_embedder("equiformer_v2_slabs")
    features = [embedder(structures).atoms for structures in sets]
    width = features[0][0].shape[1]
    projection = random_projection(width)
    populations = [moments_of(np.concatenate(one)) for one in features]
    groups = []
    for structures in sets:
        keys = [s.class_key if unit == "class" else str(i) for i, s in enumerate(structures)]
        groups.append([np.flatnonzero(np.array(keys) == key) for key in dict.fromkeys(keys)])

    def draw(which: int, size: int, rng: np.random.Generator) -> Drawn:
        chosen: list[np.ndarray] = []
        while sum(len(group) for group in chosen) < size:
            chosen.append(groups[which][rng.integers(len(groups[which]))])
        pieces = [np.concatenate([features[which][i] for i in group]) for group in chosen]
        rows = np.concatenate(pieces).astype(np.float64)
        block = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
        return Drawn(
            sums_of(rows if projection is None else rows @ projection, block), moments_of(rows)
        )

    return Pair(draw, float(moment_distances(*populations)[0]), unit, draws=0.5)


def moments_of(rows: np.ndarray) -> Moments:
    """Mean and covariance of rows, as one choice."""
    return Moments(rows.mean(axis=0)[None], np.cov(rows, rowvar=False)[None])


def copper(rattle: float, strain: float, seed: int, count: int = 400) -> list[Structure]:
    """Strained and rattled cells of copper; without a label of those that are alike."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        atoms = ase.build.bulk("Cu", cubic=True) * (2, 1, 1)
        deformation = rng.normal(0, strain, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + deformation + deformation.T), scale_atoms=True)
        shake = rattle * rng.uniform(0.2, 1.5) * rng.normal(size=(len(atoms), 3))
        made.append(
            Structure(
                atomic_numbers=atoms.numbers,
                positions=atoms.positions + shake,
                cell=atoms.cell.array,
                pbc=True,
            )
        )
    return made


def slabs(metals: tuple[str, ...], cache: Path) -> list[Structure]:
    """Slabs with adsorbates, of which those of one slab and adsorbate are alike."""
    spec = {"kind": "slabs", "count": 300, "systems": 100, "metals": metals, "size": (2, 2, 3)}
    return generate({**spec, "fixed_layers": 1}, cache, workers=1, progress=False)


def pairs(cache: Path) -> dict[str, Callable[[], Pair]]:
    """Name → populations, made when asked for."""
    return {
        "Gaussian, 8 features": functools.partial(formula, 8),
        "heavy tails, 24 features": functools.partial(formula, 24, decay=0.15, tails=4.0),
        "classes of 3, 16 features": functools.partial(formula, 16, decay=0.15, unit="class"),
        "trajectory, 8 features": functools.partial(formula, 8, unit="stretch", memory=0.7),
        "copper, extracted": lambda: extracted([copper(0.08, 0.015, 1), copper(0.14, 0.025, 2)]),
        "slabs in classes, extracted": lambda: extracted(
            [slabs(("Cu", "Ag", "Au"), cache), slabs(("Ni", "Pd", "Pt"), cache)], "class"
        ),
    }


def calibrate(pair: Pair, size: int, draws: int, seed: int = 0) -> dict[str, Any]:
    """Shares of draws in which each statement is made, or holds.

    Args:
        pair: two populations.
        size: structures of each set.
        draws: number of draws.
        seed: seed of the draws.
    """
    rng = np.random.default_rng([seed, size])
    made = np.zeros((draws, 5), bool)
    units, plain = 0, []
    for k in range(draws):
        a, b, c = (pair.draw(0, size, rng) for _ in range(3))
        d = pair.draw(1, size, rng)
        units = len(a.sums.counts)
        covers, _, distance = _covers(a, d, pair.distance, k)
        plain.append(distance)
        zero, above, _ = _covers(a, b, 0.0, k)
        clear = [
            units >= FEWEST_UNITS
            and gap_between(
                *_by_distance(a, b, task), task.sums, resamples=RESAMPLES, seed=k
            ).clear(LEVEL)
            for task in (c, d)
        ]
        made[k] = covers, zero, above, *clear
    shares = dict(zip(STATEMENTS, made.mean(axis=0).tolist(), strict=True))
    return {
        "size": size,
        "draws": draws,
        "unit": pair.unit,
        "units": units,
        "distance": pair.distance,
        "plain distance": float(np.mean(plain)),
        **shares,
    }


def _covers(first: Drawn, second: Drawn, truth: float, seed: int) -> tuple[bool, bool, float]:
    """Whether the interval holds the truth, whether it is above the floor, and the distance."""
    sides = [first.sums], [second.sums]
    noise = noise_table(*sides, resamples=RESAMPLES, seed=seed)
    distance = noise.estimate
    if first.full is not None and second.full is not None:
        distance = moment_distances(first.full, second.full)[None]
    low, high = interval(jackknife_table(*sides), noise, distance, LEVEL)
    holds = bool(np.isnan(low[0, 0]) or low[0, 0] <= truth <= high[0, 0])
    return holds, bool(noise.distinguishable(LEVEL)[0, 0]), float(distance[0, 0])


def _by_distance(a: Drawn, b: Drawn, task: Drawn) -> tuple[StructureSums, StructureSums]:
    """The two sets in the order in which a job compares them: the closest first."""
    nearness = noise_table([a.sums, b.sums], [task.sums], resamples=1).estimate[:, 0]
    return (a.sums, b.sums) if nearness[0] <= nearness[1] else (b.sums, a.sums)


def render(result: dict[str, Any]) -> str:
    """The result as the table of docs/csi.md."""
    heads = "| population | structures | units | CSI, true | CSI, plain | "
    lines = [heads + " | ".join(STATEMENTS) + " |", "| --- |" + " ---: |" * (4 + len(STATEMENTS))]
    for name, rows in result["populations"].items():
        for row in rows:
            shares = " | ".join(f"{row[key]:.1%}" for key in STATEMENTS)
            lines.append(
                f"| {name} | {row['size']} | {row['units']} | {row['distance']:.3g} | "
                f"{row['plain distance']:.3g} | {shares} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="populations, by their first words"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    table: dict[str, list[dict[str, Any]]] = {}
    result = {
        "command": "python -m benchmarks.calibration",
        "machine": machine(),
        "level": LEVEL,
        "resamples": RESAMPLES,
        "populations": table,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name, make in pairs(options.cache).items():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        pair = make()
        for size in SIZES:
            row = calibrate(pair, size, round(pair.draws * options.draws))
            table.setdefault(name, []).append(row)
            shares = ", ".join(f"{key} {row[key]:.1%}" for key in STATEMENTS)
            print(f"{name}, {size} structures: {shares}", flush=True)
            write_result(options.out, result)
    print(f"{render(result)}\nwrote {options.out}")


if __name__ == "__main__":
    main()
