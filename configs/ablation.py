"""The parts of JMP's recipe one after the other, at small scale, as one sweep with a table.

    python -m atomjax.launch --config configs/ablation.py --workdir runs/ablation

After tables 6, 12 and 13 of Shoghi et al. (ICLR 2024). Joint pretraining on three generated sets of
unequal sizes: conformers (GFN2-xTB), oxide clusters (GFN1-xTB) and slabs with adsorbates (EMT),
then finetuning on 30 frames of a molecular dynamics of aspirin. The variants of pretraining add to
the naive baseline: sampling with temperature 2, the structure-wise loss, weight decay 0.1 instead
of 0.01 (or dropout), edge dropout, and averaged weights. The variants of the schedule share the
pretraining of the last one and change the finetuning: its cosine alone, with layer-wise rates, and
with reduction on a plateau, for which 16 epochs follow the cosine's 32.

This is about the smallest that runs all parts, 14 pretrainings and 18 finetunings in 35 minutes of
one CPU core: with one task and two seeds, differences below tens of percent mean nothing
(docs/recipes.md has the table). The full scale is the same file with other data, model and epochs
(``--config.base.model.name=...``).
Published mean improvements over B: T2 2.2 %, SWL 7.7, WD 11.4, DO 11.4, ED 13.2, EMA 12.4.
"""

GRAPH = {"cutoff": 6.0, "cutoff_molecule": 6.0, "max_neighbors": 12}
UPSTREAM = {
    "conformers": {"count": 360, "heavy_atoms": (2, 6), "seed": 0},
    "oxides": {"count": 110, "relaxation_steps": 2, "seed": 0},
    "slabs": {"count": 60, "size": (2, 2, 3), "fixed_layers": 1, "seed": 0},
}
# Dotted key → value, each on top of those before it.
T2 = {"data.mixture": {"kind": "temperature", "temperature": 2.0}}
SWL = {**T2, "train.force_reduction": "structure"}
WD = {**SWL, "train.weight_decay": 0.1}
DO = {**SWL, "train.dropout": 0.1}
ED = {**WD, "train.edge_dropout": 0.1}
EMA = {
    **ED,
    "train.ema_decay": 0.99,
    "train.ema_warmup": False,  # JMP's average begins with the initial weights.
    "finetune.averaged": True,
}
# After table 18, for the two blocks of the tiny model; all layers end at one rate.
LAYERS = {
    "^backbone/embedding": 0.3,
    "^backbone/(int_blocks_0|out_blocks_[01])/": 0.4,
    "^backbone/(int_blocks_1|out_blocks_2)/": 0.625,
}
FLOOR = 0.1
LLRD = {
    **EMA,
    "finetune.train.groups": [
        {"pattern": pattern, "multiplier": factor, "final_factor": FLOOR / factor}
        for pattern, factor in LAYERS.items()
    ],
}
RLP = {
    **LLRD,
    "finetune.train.epochs": 48,
    "finetune.train.plateau": {"patience": 1, "factor": 0.5},
}
VARIANTS = {
    "B": {},
    "T2": T2,
    "SWL": SWL,
    "WD": WD,
    "DO": DO,
    "ED": ED,
    "EMA": EMA,
    "EMA+LLRD": LLRD,
    "EMA+LLRD+RLP": RLP,
}


def get_config() -> dict:
    return {
        "workflow": "sweep",
        "seeds": [0, 1],
        "variants": [{"name": name, "changes": changes} for name, changes in VARIANTS.items()],
        "base": {
            "workflow": "transfer",
            # Without quadruplets, to be quicker.
            "model": {"name": "gemnet_oc_tiny", "overrides": {"quad_interaction": False}},
            "data": {
                "train": [
                    {
                        "name": name,
                        "kind": "generate",
                        "generator": name,
                        "arguments": arguments,
                        "split": {"validation": 10},
                        "graph": GRAPH,
                    }
                    for name, arguments in UPSTREAM.items()
                ],
                "mixture": {"kind": "proportional"},
            },
            "train": {
                "batch_size": 10,
                "epochs": 6,
                "learning_rate": 1e-3,
                "warmup_steps": 40,
                "final_factor": 0.1,
                "weight_decay": 0.01,
                "force_reduction": "atom",
                "ema_decay": 0.0,
                "eval_every": 147,
            },
            "finetune": {
                "averaged": False,
                "head": {"kind": "energy_forces", "forces": "direct"},
                "data": {
                    "train": [
                        {
                            "name": "aspirin",
                            "kind": "generate",
                            "generator": "dynamics",
                            "arguments": {"count": 160, "molecule": "aspirin", "seed": 0},
                            "split": {"train": 30, "validation": 30, "test": 100},
                            "graph": GRAPH,
                        }
                    ]
                },
                "train": {
                    "batch_size": 5,
                    "epochs": 32,
                    "decay_epochs": 32,
                    "learning_rate": 5e-4,
                    "warmup_steps": 12,
                    "final_factor": FLOOR,
                    "eval_every": 24,
                    "select_by": "force_mae",
                },
            },
        },
    }
