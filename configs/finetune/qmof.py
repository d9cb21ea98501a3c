"""Finetune on the band gaps of QMOF.

    python -m atomjax.launch --config configs/finetune/qmof.py:large --workdir runs/qmof

Arguments: small (default), large, equiformer_v2 (31M), equiformer_v2_83M or equiformer_v2_153M.
Files are looked for below $ATOMJAX_DATA_DIR, or ``--config.data.root``; the pretrained model in
runs/pretrain (jmp_small, jmp_large or the EquiformerV2's name), or ``--config.finetune.checkpoint``
(none: from scratch). Published, eV: 0.18 (JMP-S).
"""

import ml_collections

from atomjax.recipes.downstream import qmof
from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(argument, {"model": tuple(NETWORKS)})
    return qmof(**chosen, root=data_root())
