"""Pretrain on many small molecules, finetune on aspirin with few labels, compare with scratch.

    python -m atomjax.launch --config configs/transfer.py --workdir runs/transfer

Everything is labelled here with GFN2-xTB: 1,000 off-equilibrium conformers of 150 molecules in the
image of ANI-1x, and frames of a molecular dynamics of aspirin in the image of rMD17.

A quarter of an hour on two CPU cores. What came out is in docs/studies.md.
"""

import ml_collections

from atomjax.recipes import small_data
from atomjax.recipes.sections import data_of, generated, section

GRAPH = section(cutoff=4.0)


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "transfer"
    config.seed = 0
    config.model = small_data.model_settings(GRAPH.cutoff)

    conformers = generated("conformers", count=1000, heavy_atoms=(2, 7), seed=0)
    conformers.split = section(validation=100)
    conformers.graph = GRAPH
    upstream = config.pretraining = section()
    upstream.data = data_of(conformers)
    upstream.head = small_data.HEAD
    upstream.train = small_data.force_training(12, 171, batch_size=16, warmup_steps=50)

    aspirin = generated("aspirin", generator="dynamics", count=300, molecule="aspirin", seed=0)
    aspirin.split = section(train=50, validation=50, test=200)
    aspirin.graph = GRAPH
    downstream = config.finetuning = section()
    downstream.seeds = (0, 1, 2)
    downstream.data = data_of(aspirin)
    downstream.head = small_data.HEAD
    downstream.head_from = "mean"
    downstream.train = small_data.force_training(60, 100)
    return config
