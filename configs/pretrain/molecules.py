"""Pretrain the small backbone for molecules that comes with the package, ``atomjax-molecules``.

    python -m atomjax.launch --config configs/pretrain/molecules.py --workdir runs/molecules

Conformers of the molecules of the package's library and of many more with small groups in place of
hydrogens, GFN2-xTB, energies and conservative forces, with the settings of the rule for small data.
A killed run goes on where it was. What it is worth is in docs/checkpoints.md.
"""

import ml_collections

from atomjax.recipes import small_data
from atomjax.recipes.sections import generated, section

GRAPH = section(cutoff=4.0)


def get_config() -> ml_collections.ConfigDict:
    conformers = generated("conformers", count=20000, molecules=800, heavy_atoms=(3, 10), seed=0)
    conformers.split = section(validation=400, test=1000, by="class_key")
    conformers.graph = GRAPH
    return small_data.pretraining(conformers, 10, 600)
