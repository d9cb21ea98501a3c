"""Finetune on heats of formation of perovskites, a few hundred labelled, against scratch.

    python -m atomjax.structures.convert --source cif_csv --path perov_5_val.csv --out perov_5
    python -m atomjax.launch --config configs/perovskites.py:perov_5 --workdir runs/perovskites

The table is the validation part of Perov-5 as CDVAE distributes it (github.com/txie-93/cdvae, MIT
licence): 3,787 cells ABX3 of five atoms and 56 elements, the family of MatBench's perovskites. The
property and the crystals are unlike the pretraining, which is joint: energies and forces of oxide
clusters (GFN1-xTB) and of adsorbates on metal slabs (EMT), one pair of heads for each.

What came out, next to nothing, is in docs/studies.md.
"""

import ml_collections

from atomjax.recipes import small_data
from atomjax.recipes.sections import data_of, generated, section, stored

GRAPH = section(cutoff=4.0)


def get_config(path: str = "perov_5") -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "transfer"
    config.seed = 0
    config.model = small_data.model_settings(GRAPH.cutoff)

    oxides = generated("oxides", count=500, relaxation_steps=2, seed=0)
    slabs = generated("slabs", count=500, size=(2, 2, 3), fixed_layers=1, seed=0)
    for dataset in (oxides, slabs):
        dataset.split = section(validation=50)
        dataset.graph = GRAPH
    upstream = config.pretraining = section()
    upstream.data = data_of(oxides, slabs)
    upstream.data.mixture = section(kind="temperature", temperature=2.0)
    upstream.head = small_data.HEAD
    upstream.train = small_data.force_training(12, 112, batch_size=16, warmup_steps=50)
    upstream.train.regularization.edge_dropout = 0.1

    perovskites = stored("perovskites", path)
    perovskites.split = section(train=400, validation=200, test=1000)
    perovskites.graph = GRAPH
    downstream = config.finetuning = section()
    downstream.seeds = (0, 1, 2)
    downstream.data = data_of(perovskites)
    downstream.head = section()
    downstream.head.kind = "scalar"
    downstream.head.targets = [section(name="heat_all", unit="eV/unit cell", pooling="mean")]
    downstream.train = small_data.train_settings(batch_size=16)
    downstream.train.epochs = 30
    downstream.train.optimizer.learning_rate = 1e-3
    downstream.train.schedule.warmup_steps = 25
    downstream.train.validation.eval_every = 75
    downstream.train.validation.eval_batch_size = 50
    downstream.train.validation.select_by = "value_mae"
    return config
