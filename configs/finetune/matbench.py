"""Finetune on one task and fold of MatBench.

    python -m atomjax.launch --config configs/finetune/matbench.py:phonons,fold1 --workdir runs/ph1

Arguments: a task (default phonons; mp_is_metal is a class; expt_is_metal and glass have no
structures); small (default), large, equiformer_v2 (31M), equiformer_v2_83M or equiformer_v2_153M;
fold0 (default) to fold4. Files are looked for below $ATOMJAX_DATA_DIR, or ``--config.data.root``;
the pretrained model in runs/pretrain (jmp_small, jmp_large or the EquiformerV2's name), or
``--config.finetune.checkpoint`` (none: from scratch). Published for phonons, cm⁻¹: 26.60 on fold 0
and 22.77 over the five (JMP-S).
"""

import ml_collections

from atomjax.recipes.downstream import MATBENCH_TASKS, matbench
from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(
        argument,
        {
            "task": tuple(MATBENCH_TASKS),
            "model": tuple(NETWORKS),
            "fold": tuple(f"fold{i}" for i in range(5)),
        },
    )
    return matbench(chosen["task"], chosen["model"], int(chosen["fold"][-1]), data_root())
