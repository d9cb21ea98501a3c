"""Finetune on the forces of one molecule of rMD17.

    python -m atomjax.launch --config configs/finetune/rmd17.py:aspirin,large --workdir runs/aspirin

Arguments: a molecule (default aspirin); small (default), large or equiformer_v2; full (default, 950
frames) or few (50).
Files are looked for below $ATOMJAX_DATA_DIR, or ``--config.data.root``; the pretrained model in
runs/pretrain/jmp_small, jmp_large or equiformer_v2_31M, or ``--config.finetune.checkpoint`` (none:
from scratch).
Published for aspirin, meV/Å: 6.7 (JMP-S), 5.1 (JMP-L); few-shot 36.8 (JMP-L).
"""

import ml_collections

from atomjax.recipes.downstream import MODELS, RMD17_MOLECULES, rmd17
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(
        argument, {"molecule": RMD17_MOLECULES, "model": tuple(MODELS), "shots": ("full", "few")}
    )
    return rmd17(**chosen, root=data_root())
