"""Finetune on DFT forces of a Li-Mn-O cathode, periodic, 150 frames labelled, against scratch.

    python -m atomjax.launch --config configs/li_electrode.py:Li_electrode_finetune.xyz \
        --workdir runs/li_electrode

The file comes with MatterTune (github.com/Fung-Lab/MatterTune, MIT licence): 300 frames of 8
to 126 atoms. Pretraining is on clusters of metal oxides with adsorbates, labelled with GFN1-xTB.

The frames are of 20 compositions, some of them far from rest, which is much to learn from 150; and
pretraining on clusters, without lithium and not periodic, helps little here (docs/studies.md).
"""

import ml_collections

from atomjax.recipes import dft_sets, small_data
from atomjax.recipes.sections import data_of, generated, section

# About 18 neighbours of an atom, as the rule for small data has it.
GRAPH = section(cutoff=3.5)


def get_config(path: str = "Li_electrode_finetune.xyz") -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "transfer"
    config.seed = 0
    config.model = small_data.model_settings(GRAPH.cutoff)

    oxides = generated("oxides", count=900, seed=0)
    oxides.split = section(validation=100)
    oxides.graph = GRAPH
    upstream = config.pretraining = section()
    upstream.data = data_of(oxides)
    upstream.head = small_data.HEAD
    upstream.train = small_data.force_training(12, 100, batch_size=16, warmup_steps=50)

    electrode = dft_sets.li_electrode(path)
    electrode.split = section(train=150, validation=50, test=100)
    electrode.graph = GRAPH
    downstream = config.finetuning = section()
    downstream.seeds = (0, 1, 2)
    downstream.data = data_of(electrode)
    downstream.head = small_data.HEAD
    downstream.head_from = "mean"
    downstream.train = small_data.force_training(24, 120)
    return config
