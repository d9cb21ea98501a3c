"""Finetune on ωB97x forces of non-covalent dimers, few of them labelled, against scratch.

    python -m atomjax.launch --config configs/s66x8.py:s66x8_wb97x6-31gd.h5 --workdir runs/s66x8

The file is S66x8 of the COMP6 benchmark (github.com/isayev/COMP6, MIT licence): 66 dimers of small
organic molecules at 8 distances. Its dimers are divided, so those tested are new to the model.
Pretraining is that of ``transfer.py``: GFN2-xTB conformers of single molecules.

Ten minutes on two CPU cores. What came out is in docs/studies.md.
"""

import ml_collections

from atomjax.recipes import dft_sets, small_data
from atomjax.recipes.sections import data_of, generated, section

GRAPH = section(cutoff=4.0)


def get_config(path: str = "s66x8_wb97x6-31gd.h5") -> ml_collections.ConfigDict:
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

    dimers = dft_sets.s66x8(path)
    dimers.split = section(train=80, validation=80, test=160, by="class_key")
    dimers.graph = GRAPH
    downstream = config.finetuning = section()
    downstream.seeds = (0, 1, 2)
    downstream.data = data_of(dimers)
    downstream.head = small_data.HEAD
    downstream.head_from = "mean"
    downstream.train = small_data.force_training(32, 100)
    return config
