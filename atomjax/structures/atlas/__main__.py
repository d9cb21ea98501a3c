"""Makes the files of the atlas.

python -m atomjax.structures.atlas [FOLDER]

Needs ``atomjax[demo,crystals]``; some minutes on two cores. Sets that were made before are taken
from the cache of generated sets.
"""

import dataclasses
import sys
from pathlib import Path

from atomjax.structures.archive import save_archive
from atomjax.structures.atlas import FAMILIES, FOLDER
from atomjax.structures.generate import GenerateSpec, generate

# No extractor of the package was trained on sets of this seed.
SEED = 103
# Frames of one molecule are hardly independent.
MOLECULES = ("aspirin", "paracetamol", "salicylic_acid", "toluene", "uracil")


def specs(name: str) -> list[GenerateSpec]:
    """The sets that a family is made up of."""
    spec = dataclasses.replace(FAMILIES[name], seed=SEED)
    if name != "dynamics":
        return [spec]
    count = spec.count // len(MOLECULES)
    return [
        dataclasses.replace(spec, count=count, options={**spec.options, "molecule": molecule})
        for molecule in MOLECULES
    ]


def main() -> None:
    """Writes every family."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    for name in FAMILIES:
        made = specs(name)
        alone = [
            dataclasses.replace(one, energy=None, forces=None, stress=None, targets={})
            for spec in made
            for one in generate(spec)
        ]
        about = {"specs": [spec.resolve() for spec in made]}
        path = save_archive(folder / f"{name}.archive.npz", alone, about)
        print(f"{path}: {len(alone)} structures, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
