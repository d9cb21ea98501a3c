"""Which of four upstream sets is nearest to a molecular dynamics of aspirin?

    python -m atomjax.launch --config configs/csi/quickstart.py --workdir runs/csi

All sets are labelled here, and the extractor comes with the package, so nothing is downloaded. Its
features say which set to pretrain on; the run directory then holds a report, and a config that
runs this pretraining.
"""

import ml_collections

UPSTREAM = {
    "conformers": {"count": 600, "heavy_atoms": (2, 7), "seed": 0},
    "reactions": {"count": 600, "seed": 0},
    "slabs": {"count": 600, "size": (2, 2, 3), "fixed_layers": 1, "seed": 1},
    "oxides": {"count": 600, "relaxation_steps": 2, "seed": 0},
}


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "csi"
    config.seed = 0
    graph = {"cutoff": 6.0, "cutoff_molecule": 6.0, "max_neighbors": 12}
    config.candidates = [
        {
            "name": name,
            "kind": "generate",
            "generator": name,
            "arguments": arguments,
            "split": {"validation": 100},
            "graph": graph,
        }
        for name, arguments in UPSTREAM.items()
    ]
    config.downstream = [
        {
            "name": "aspirin",
            "kind": "generate",
            "generator": "dynamics",
            "arguments": {"count": 300, "molecule": "aspirin", "seed": 0},
        }
    ]
    config.sampling = {"strategy": "balanced_unique", "size": 300}
    # What depends on the sample, on pooling, and on how slabs happen to lie.
    config.aggregations = ("flat", "mean")
    config.views = {"strategies": ("random",), "rotations": 1}
    config.select = {"size": 200}
    config.plan = {
        "model": {"name": "gemnet_oc_tiny"},
        "budget": 6000,
        "train": {
            "batch_size": 16,
            "epochs": 12,
            "learning_rate": 1e-3,
            "warmup_steps": 50,
            "select_by": "force_mae",
        },
    }
    return config
