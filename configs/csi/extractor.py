"""Train the extractor that measures similarity where no other is named.

    python -m atomjax.launch --config configs/csi/extractor.py --workdir runs/extractor
    python -m atomjax.similarity.features.default runs/extractor

A small EquiformerV2 learns energies and forces of adsorbates on slabs, as the extractor of the
published values did on OC20. The second command writes its backbone into the package.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "pretrain"
    config.seed = 0
    config.model = {
        "name": "equiformer_v2_tiny",
        "overrides": {
            "lmax": 2,
            "channels": 32,
            "attention_hidden": 32,
            "num_heads": 4,
            "ffn_hidden": 32,
            "edge_channels": 24,
            "cutoff": 6.0,
            "envelope_exponent": None,
            "num_gaussians": 128,
            "grid_resolution": 14,
            "avg_degree": 12.0,
            "avg_num_nodes": 16.0,
            "dropout": 0.0,
            "drop_path": 0.0,
        },
    }
    config.data = {
        "train": [
            {
                "name": "slabs",
                "kind": "generate",
                "generator": "slabs",
                "arguments": {"count": 2000, "size": (2, 2, 3), "fixed_layers": 1, "seed": 0},
                "split": {"validation": 100, "test": 200},
                "graph": {
                    "preset": "published",
                    "cutoff": 6.0,
                    "cutoff_molecule": 6.0,
                    "max_neighbors": 12,
                },
            }
        ]
    }
    config.train = {
        "batch_size": 16,
        "epochs": 8,
        "learning_rate": 2e-3,
        "warmup_steps": 50,
        "eval_every": 200,
        "select_by": "force_mae",
    }
    return config
