"""Separation of families of structures by an extractor: near within a family, far between them.

python -m benchmarks.separation [--extractors NAME ...] [--elements Na,Al,...] [--count 400]

Of every family two sets are made with different seeds, so with different systems, and none that an
extractor of the package was trained on. The table compares each first set with every second one:
within a family the CSI should be near its noise floor, between families above it, and every other
family farther than the own one. With ``--elements`` the families are crystals of these elements and
slabs of these metals: those that ``configs/csi/extractor.py:Na,Al,...`` left out tell what an
extractor makes of elements that it has not learnt. Crystals need ``atomjax[crystals]``.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import atomjax
from atomjax.structures.atlas import FAMILIES, parts_of
from atomjax.structures.generate import GenerateSpec, generate
from atomjax.structures.generate.slabs import METALS
from atomjax.training.running.packaged import BACKBONES
from benchmarks.measure import machine
from benchmarks.rows import write_result

OUT = Path(__file__).parents[1] / "docs" / "results" / "separation.json"
SEEDS = (101, 102)
AGAIN = ", again"
COUNT = 400
# More systems than in the atlas: those of a few differ much from those of a few others.
SYSTEMS: Mapping[str, Mapping[str, int]] = {
    "reactions": {"reactions": 100},
    "slabs": {"systems": 80},
    "dynamics": {"frames_per_walker": 10},
}


def families_of(elements: Sequence[str]) -> Mapping[str, GenerateSpec]:
    """Families of crystals of these elements and of slabs of these metals."""
    allowed = {
        "crystals": {"elements": tuple(elements)},
        "slabs": {"metals": tuple(one for one in elements if one in METALS)},
    }
    return {
        name: dataclasses.replace(spec, options={**spec.options, **allowed[spec.kind]})
        for name, spec in FAMILIES.items()
        if spec.kind in allowed
    }


def _family(spec: GenerateSpec, count: int, seed: int) -> GenerateSpec:
    options = {**spec.options, **SYSTEMS.get(spec.kind, {})}
    return dataclasses.replace(spec, count=count, seed=seed, options=options)


def separation(
    checkpoint: str, families: Mapping[str, GenerateSpec], count: int, workers: int
) -> list[dict[str, Any]]:
    """Distances within and between families, with the floor of each.

    Args:
        checkpoint: extractor.
        families: name → generator and options.
        count: structures of each set.
        workers: processes that label structures; 0: one per core.
    """
    first, second = (
        {
            f"{name}{end}": [
                structure
                for part in parts_of(_family(spec, count, seed))
                for structure in generate(part, workers=workers)
            ]
            for name, spec in families.items()
        }
        for end, seed in zip(("", AGAIN), SEEDS, strict=True)
    )
    settings = {"measures": ["csi"], "mixtures": [], "invariants": ["none"]}
    table = atomjax.csi(first, second, checkpoint=checkpoint, settings=settings)
    pairs = {(pair["upstream"], pair["downstream"]): pair for pair in table.pairs}
    rows = []
    for name in families:
        own = pairs[name, name + AGAIN]
        others = {other: pairs[other, name + AGAIN] for other in families if other != name}
        nearest = min(others, key=lambda other: others[other]["csi"])
        rows.append(
            {
                "extractor": checkpoint,
                "family": name,
                "within": own["csi"],
                "floor": own["noise_floor"],
                "nearest_other": nearest,
                "to_nearest_other": others[nearest]["csi"],
                "above_floor": sum(bool(one["distinguishable"]) for one in others.values()),
                "farther": sum(one["csi"] > own["csi"] for one in others.values()),
                "others": len(others),
            }
        )
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--extractors", nargs="+", default=BACKBONES, help="extractors (default: the package's)")
    add("--elements", help="compare crystals and slabs of these alone, separated by commas")
    add("--count", type=int, default=COUNT, help=f"structures of each set (default: {COUNT})")
    add("--workers", type=int, default=0, help="processes that label (default: one per core)")
    add("--out", type=Path, default=OUT, help="result file")
    options = parser.parse_args()
    command = "python -m benchmarks.separation"
    families = FAMILIES
    if options.elements:
        command = f"{command} --elements {options.elements}"
        families = families_of(options.elements.split(","))
    rows = []
    for name in options.extractors:
        rows += separation(name, families, options.count, options.workers)
        found = {"structures": options.count, "machine": machine(), "rows": rows}
        write_result(options.out, {"command": command, **found})
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
