"""Finetune on the forces of a subset of SPICE.

    python -m atomjax.launch --config configs/finetune/spice.py:dipeptides --workdir runs/dipeptides

Arguments: solvated_amino_acids (default) or dipeptides; small (default), large, equiformer_v2
(31M), equiformer_v2_83M or equiformer_v2_153M. Files are looked for below $ATOMJAX_DATA_DIR, or
``--config.data.root``; the pretrained model in runs/pretrain (jmp_small, jmp_large or the
EquiformerV2's name), or ``--config.finetune.checkpoint`` (none: from scratch). Published for the
solvated amino acids, meV/Å: 5.71 (JMP-S), 4.75 (JMP-L).
"""

import ml_collections

from atomjax.recipes.downstream import SPICE_SUBSETS, spice
from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(argument, {"subset": SPICE_SUBSETS, "model": tuple(NETWORKS)})
    return spice(**chosen, root=data_root())
