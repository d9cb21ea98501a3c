"""Makes the files of the atlas.

python -m atomjax.structures.atlas [FOLDER]

Needs ``atomjax[demo,crystals]``; some minutes on two cores. Sets that were made before are taken
from the cache of generated sets.
"""

import dataclasses
import sys
from pathlib import Path

from atomjax.structures.archive import save_archive
from atomjax.structures.atlas import FAMILIES, FOLDER, parts_of
from atomjax.structures.generate import generate

# No extractor of the package was trained on sets of this seed.
SEED = 103


def main() -> None:
    """Writes every family."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    for name in FAMILIES:
        made = parts_of(dataclasses.replace(FAMILIES[name], seed=SEED))
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
