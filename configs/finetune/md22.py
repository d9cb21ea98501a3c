"""Finetune on the forces of one molecule of MD22.

    python -m atomjax.launch --config configs/finetune/md22.py:DHA,large --workdir runs/dha

Arguments: a molecule (default Ac-Ala3-NHMe); small (default), large, equiformer_v2 (31M),
equiformer_v2_83M or equiformer_v2_153M. Forces are direct for the two largest. Files are looked for
below $ATOMJAX_DATA_DIR, or ``--config.data.root``; the pretrained model in runs/pretrain
(jmp_small, jmp_large or the EquiformerV2's name), or ``--config.finetune.checkpoint`` (none: from
scratch). Published for Ac-Ala3-NHMe, meV/Å: 2.64 (JMP-S), 1.92 (JMP-L).
"""

import ml_collections

from atomjax.recipes.downstream import MD22_MOLECULES, md22
from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(argument, {"molecule": tuple(MD22_MOLECULES), "model": tuple(NETWORKS)})
    return md22(**chosen, root=data_root())
