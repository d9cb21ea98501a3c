"""Finetune on the forces of a subset of SPICE.

    python -m atomjax.launch --config configs/finetune/spice.py:dipeptides --workdir runs/dipeptides

Arguments: solvated_amino_acids (default) or dipeptides; small (default) or large.
Files are looked for below $ATOMJAX_DATA_DIR, or ``--config.data.root``; the pretrained model in
runs/pretrain/jmp_<size>, or ``--config.finetune.checkpoint`` (none: from scratch).
Published for the solvated amino acids, meV/Å: 5.71 (JMP-S), 4.75 (JMP-L).
"""

from atomjax.recipes.downstream import SIZES, SPICE_SUBSETS, spice
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> dict:
    chosen = choose(argument, {"subset": SPICE_SUBSETS, "size": SIZES})
    return spice(**chosen, root=data_root())
