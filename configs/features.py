"""Features of structures as arrays, from the extractor of the package or from a checkpoint.

    python -m atomjax.launch --config configs/features.py --workdir runs/features

Small molecules that are labelled here stand for one's own data; these are read by

    config.datasets = [{"name": "mine", "kind": "read", "path": "my.extxyz", "energy_kind": "none"}]

and --config.extractor.checkpoint=checkpoints/jmp-s takes another backbone.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "features"
    config.datasets = [
        {
            "name": "molecules",
            "kind": "generate",
            "generator": "conformers",
            "arguments": {"count": 64, "heavy_atoms": (2, 5), "seed": 0},
        }
    ]
    config.extractor = {"checkpoint": None, "batch_size": 32}
    config.invariance = "none"
    return config
