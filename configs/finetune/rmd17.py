"""Finetune on the forces of one molecule of rMD17.

    python -m atomjax.launch --config configs/finetune/rmd17.py:aspirin,large --workdir runs/aspirin

Arguments: a molecule (default aspirin); small (default), large, equiformer_v2 (31M),
equiformer_v2_83M or equiformer_v2_153M; full (default, 950 frames) or few (50). Files are looked
for below $ATOMJAX_DATA_DIR, or ``--config.data.root``; the pretrained model in runs/pretrain
(jmp_small, jmp_large or the EquiformerV2's name), or ``--config.finetune.checkpoint`` (none: from
scratch). Published for aspirin, meV/Å: 6.7 (JMP-S), 5.1 (JMP-L); few-shot 36.8 (JMP-L).
"""

import ml_collections

from atomjax.recipes.downstream import RMD17_MOLECULES, rmd17
from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(
        argument, {"molecule": RMD17_MOLECULES, "model": tuple(NETWORKS), "shots": ("full", "few")}
    )
    return rmd17(**chosen, root=data_root())
