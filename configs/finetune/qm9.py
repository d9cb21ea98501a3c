"""Finetune on one of the twelve properties of QM9, or on all in one run.

    python -m atomjax.launch --config configs/finetune/qm9.py:gap,large --workdir runs/qm9_gap

Arguments: a target (default U0) or all, which trains twelve outputs on one backbone, chosen by the
loss, and is no recipe of the papers; small (default), large, equiformer_v2 (31M), equiformer_v2_83M
or equiformer_v2_153M; overlap for test errors by whether ANI-1x and Transition-1x, which JMP is
pretrained on, hold the formula. Files are looked for below $ATOMJAX_DATA_DIR, or
``--config.data.root``; the pretrained model in runs/pretrain (jmp_small, jmp_large or the
EquiformerV2's name), or ``--config.finetune.checkpoint`` (none: from scratch). Published, meV: U0
3.3 (JMP-S), 2.9 (JMP-L); gap 23.1 and 19.1.
"""

import ml_collections

from atomjax.recipes.downstream import ALL, QM9_TARGETS, qm9
from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    choices = {"target": (*QM9_TARGETS, ALL), "model": NETWORKS, "report": ("errors", "overlap")}
    chosen = choose(argument, {name: tuple(values) for name, values in choices.items()})
    return qm9(**chosen, root=data_root())
