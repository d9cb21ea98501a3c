"""Pretrain the small backbone for metals and oxides that comes along, ``atomjax-crystals``.

    pip install "atomjax[crystals]"
    python -m atomjax.launch --config configs/pretrain/crystals.py --workdir runs/crystals

Strained and rattled bulk crystals of most of the periodic table, labelled by CHGNet, energies and
conservative forces, with the settings of the rule for small data. A killed run goes on where it
was. What it is worth is in docs/checkpoints.md.
"""

import ml_collections

from atomjax.recipes import small_data
from atomjax.recipes.sections import generated, section

# Dense metals and oxides have about 18 and 26 neighbours within it.
GRAPH = section(cutoff=4.0)


def get_config() -> ml_collections.ConfigDict:
    crystals = generated("crystals", count=4000, seed=0)
    crystals.split = section(validation=150, test=300, by="class_key")
    crystals.graph = GRAPH
    return small_data.pretraining(crystals, 12, 220)
