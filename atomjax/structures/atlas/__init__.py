"""The atlas: small sets of known families of structures, which come with the package.

    table = atomjax.csi(atomjax.atlas(), task="mine.xyz")

says which of them one's own structures are nearest to. Each holds ``COUNT`` structures without
labels, made by ``python -m atomjax.structures.atlas``.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomjax.structures.elements import SYMBOLS
from atomjax.structures.generate import GenerateSpec
from atomjax.structures.generate.crystals.compositions import elements

COUNT = 200
FOLDER = Path(__file__).parent
# Those that every extractor of the package has a row for.
ELEMENTS = tuple(symbol for symbol in elements() if SYMBOLS.index(symbol) < 84)


def _family(kind: str, **options: Any) -> GenerateSpec:
    return GenerateSpec(kind, COUNT, options=options)


_slabs = functools.partial(_family, "slabs", systems=20, size=(2, 2, 3), fixed_layers=1)
_crystals = functools.partial(_family, "crystals", elements=ELEMENTS)
FAMILIES: Mapping[str, GenerateSpec] = {
    "conformers": _family("conformers", heavy_atoms=(2, 7)),
    "reactions": _family("reactions", reactions=20),
    "dynamics": _family("dynamics", molecule="aspirin"),
    "slabs": _slabs(alloys=0.0),
    "alloys": _slabs(alloys=1.0),
    "oxides": _family("oxides", relaxation_steps=2),
    "metals": _crystals(prototypes=("fcc", "bcc", "hcp")),
    "covalent": _crystals(prototypes=("diamond", "zincblende", "wurtzite")),
    "ionic": _crystals(prototypes=("rocksalt", "fluorite", "perovskite")),
}
# Frames of one molecule are hardly independent.
MOLECULES = ("aspirin", "paracetamol", "salicylic_acid", "toluene", "uracil")


def parts_of(family: GenerateSpec) -> list[GenerateSpec]:
    """The sets that a family is made up of: of dynamics one for each molecule."""
    if family.kind != "dynamics":
        return [family]
    count = family.count // len(MOLECULES)
    return [
        dataclasses.replace(family, count=count, options={**family.options, "molecule": molecule})
        for molecule in MOLECULES
    ]


def atlas() -> Mapping[str, Path]:
    """Files of the atlas, family → an archive of structures, as `atomjax.csi` takes candidates.

    Conformers, reactions, dynamics of five molecules, slabs of metals and of alloys, oxide
    clusters, and crystals of 77 elements: metals, covalent and ionic ones.

    Example:
        >>> import atomjax
        >>> len(atomjax.atlas())
        9
    """
    return {name: FOLDER / f"{name}.archive.npz" for name in FAMILIES}
