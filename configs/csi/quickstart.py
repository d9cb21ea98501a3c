"""Which of four upstream sets is nearest to a molecular dynamics of aspirin?

    python -m atomjax.launch --config configs/csi/quickstart.py --workdir runs/csi

All sets are labelled here, and the extractor comes with the package, so nothing is downloaded. Its
features say which set to pretrain on; the run directory then holds a report, and a config that
runs this pretraining.
"""

import ml_collections

from atomjax.recipes.sections import generated, section, training


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "csi"
    config.seed = 0
    config.candidates = [
        generated("conformers", count=600, heavy_atoms=(2, 7), seed=0),
        generated("reactions", count=600, seed=0),
        generated("slabs", count=600, size=(2, 2, 3), fixed_layers=1, seed=1),
        generated("oxides", count=600, relaxation_steps=2, seed=0),
    ]
    for candidate in config.candidates:
        candidate.split = section(validation=100)
        candidate.graph = section(cutoff=6.0, cutoff_molecule=6.0, max_neighbors=12)
    config.downstream = [
        generated("aspirin", generator="dynamics", count=300, molecule="aspirin", seed=0)
    ]
    config.sampling = section(strategy="balanced_unique", size=300)
    # What depends on the sample, on pooling, and on how slabs happen to lie.
    config.aggregations = ("flat", "mean")
    config.views = section(strategies=("random",), rotations=1)
    config.select = section(size=200)

    plan = config.plan = section()
    plan.model = section(name="gemnet_oc_tiny")
    plan.budget = 6000
    plan.train = training(batch_size=16)
    plan.train.epochs = 12
    plan.train.optimizer.learning_rate = 1e-3
    plan.train.schedule.warmup_steps = 50
    plan.train.validation.select_by = "force_mae"
    return config
