"""Features of structures as arrays, from the extractor of the package or from a checkpoint.

    python -m atomjax.launch --config configs/features.py --workdir runs/features

Small molecules that are labelled here stand for one's own data; these are read by

    config.datasets = [read("mine", "my.extxyz")]
    config.datasets[0].length_unit = "Å"

and --config.extractor.checkpoint=checkpoints/jmp-s takes another backbone.
"""

import ml_collections

from atomjax.recipes.sections import generated, section


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "features"
    config.datasets = [
        generated("molecules", generator="conformers", count=64, heavy_atoms=(2, 5), seed=0)
    ]
    config.extractor = section(checkpoint=None, batch_size=32)
    config.invariance = "none"
    return config
