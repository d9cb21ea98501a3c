"""Joint pretraining of GemNet-OC on OC20, OC22, ANI-1x and Transition-1x: JMP-S and JMP-L.

    python -m atomjax.launch --config configs/pretrain/jmp.py:small --workdir runs/jmp_small

Arguments: small (default) or large. Files are looked for below $ATOMJAX_DATA_DIR, or
``--config.data.root``. C = 2 epochs × 120 million structures. Published: 5,700 (small) and 34,400
(large) hours of one V100; finetuned on aspirin of rMD17 6.7 and 5.1 meV/Å.
"""

import ml_collections

from atomjax.recipes.networks import GEMNET_OC
from atomjax.recipes.upstream import jmp
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(argument, {"size": tuple(GEMNET_OC)})
    return jmp(chosen["size"], data_root())
