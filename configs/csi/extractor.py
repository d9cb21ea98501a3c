"""Train the extractor that measures similarity where no other is named.

    python -m atomjax.launch --config configs/csi/extractor.py --workdir runs/extractor
    python -m atomjax.similarity.features.default runs/extractor

A small EquiformerV2 learns energies and forces of adsorbates on slabs, as the extractor of the
published values did on OC20. The second command writes its backbone into the package.
"""

import ml_collections

from atomjax.recipes.sections import data_of, generated, section, training


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "pretrain"
    config.seed = 0
    config.model = section(name="equiformer_v2_tiny")
    size = config.model.overrides = section()
    size.lmax = 2
    size.channels = 32
    size.attention_hidden = 32
    size.num_heads = 4
    size.ffn_hidden = 32
    size.edge_channels = 24
    size.cutoff = 6.0
    size.envelope_exponent = None
    size.num_gaussians = 128
    size.grid_resolution = 14
    size.avg_degree = 12.0
    size.avg_num_nodes = 16.0
    size.dropout = 0.0
    size.drop_path = 0.0

    slabs = generated("slabs", count=2000, size=(2, 2, 3), fixed_layers=1, seed=0)
    slabs.split = section(validation=100, test=200)
    slabs.graph.preset = "published"
    slabs.graph.cutoff = 6.0
    slabs.graph.cutoff_molecule = 6.0
    slabs.graph.max_neighbors = 12
    config.data = data_of(slabs)

    train = config.train = training(batch_size=16)
    train.epochs = 8
    train.optimizer.learning_rate = 2e-3
    train.schedule.warmup_steps = 50
    train.validation.eval_every = 200
    train.validation.select_by = "force_mae"
    return config
