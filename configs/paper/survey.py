"""The study of arXiv:2502.11085 at the size of two CPU cores: does the CSI rank upstream sets?

    python -m atomjax.launch --config configs/paper/survey.py --workdir runs/survey

Four upstream sets and three tasks in the image of the paper's are labelled here. One small
GemNet-OC is pretrained under a fixed budget C = E × N on each set, on a balanced mixture and on one
in the shares of JMP's temperature 2 (Table 1), with half the budget (Table 2), with a distant set
added (Fig. 4) and with half the structures for twice the epochs (Table 5), then finetuned on every
task. Single sets and random weights have three seeds, the others one. The run resumes; its report
is rewritten after every seed.

What was found is in docs/reproduction.md.
"""

import ml_collections

GRAPH = {"cutoff": 6.0, "cutoff_molecule": 6.0, "max_neighbors": 8}
UPSTREAM = {
    "conformers": {"count": 200, "heavy_atoms": (2, 5), "seed": 0},
    "reactions": {"count": 200, "seed": 0},
    "slabs": {"count": 200, "size": (2, 2, 2), "fixed_layers": 1, "seed": 1},
    "oxides": {"count": 200, "relaxation_steps": 2, "seed": 0},
}
N, E = 160, 10
# JMP mixes ANI-1x, Transition-1x, OC20 and OC22 (2, 10, 100 and 8 million) at T = 2.
TEMPERATURE = {"conformers": 13, "reactions": 29, "slabs": 92, "oxides": 26}
FORCES = {"kind": "energy_forces", "forces": "direct"}


def dataset(name: str, generator: str, arguments: dict, split: dict) -> dict:
    return {
        "name": name,
        "kind": "generate",
        "generator": generator,
        "arguments": arguments,
        "split": split,
        "graph": GRAPH,
    }


def start(name: str, structures: dict[str, int], epochs: int = E) -> dict:
    """A start with all seeds where it is a whole set, and with one where it is a side question."""
    seeds = None if name in UPSTREAM else (0,)
    return {"name": name, "structures": structures, "epochs": epochs, "seeds": seeds}


def tasks() -> list[dict]:
    split = {"train": 50, "validation": 30, "test": 100}
    schedule = {
        "batch_size": 5,
        "epochs": 12,
        "learning_rate": 5e-4,
        "warmup_steps": 10,
        "eval_every": 40,
        "eval_batch_size": 10,
        "select_by": "force_mae",
    }
    surfaces = {
        "count": 180,
        "size": (2, 2, 2),
        "fixed_layers": 1,
        "metals": ("Pd", "Pt"),
        "adsorbates": ("CH3OH", "H2CO", "C2H4"),
        "seed": 2,
    }
    return [
        {
            "data": dataset(
                "aspirin", "dynamics", {"count": 180, "molecule": "aspirin", "seed": 0}, split
            ),
            "head": FORCES,
            "train": schedule,
        },
        {
            "data": dataset(
                "molecules", "properties", {"count": 180, "heavy_atoms": (2, 6), "seed": 0}, split
            ),
            "head": {
                "kind": "scalar",
                "target": "atomization_energy",
                "unit": "eV",
                "extensive": True,
            },
            "train": {**schedule, "select_by": "value_mae"},
        },
        {
            "data": dataset("surfaces", "slabs", surfaces, split),
            "head": FORCES,
            "train": schedule,
        },
    ]


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "survey"
    config.seeds = (0, 1, 2)
    config.candidates = [
        dataset(name, name, arguments, {"validation": 40}) for name, arguments in UPSTREAM.items()
    ]
    config.tasks = tasks()
    config.starts = [
        *(start(name, {name: N}) for name in UPSTREAM),
        start("balanced", dict.fromkeys(UPSTREAM, N // len(UPSTREAM))),
        start("temperature 2", TEMPERATURE),
        start("conformers and oxides", {"conformers": N, "oxides": N // 2}),
        *(
            start(f"{name}, {what}", {name: N // 2}, epochs)
            for name in ("conformers", "oxides")
            for what, epochs in (("half of N", 2 * E), ("half of C", E))
        ),
    ]
    config.pairs = [
        *((name, "scratch") for name in UPSTREAM),
        ("balanced", "conformers"),
        ("temperature 2", "conformers"),
        ("conformers and oxides", "conformers"),
        *(
            (f"{name}, {what}", name)
            for name in ("conformers", "oxides")
            for what in ("half of N", "half of C")
        ),
    ]
    config.model = {
        "name": "gemnet_oc_tiny",
        "overrides": {
            "num_blocks": 1,
            "emb_size_edge": 32,
            "num_before_skip": 1,
            "num_after_skip": 1,
            "num_atom": 1,
            "num_output_afteratom": 1,
        },
    }
    config.train = {
        "batch_size": 8,
        "epochs": E,
        "learning_rate": 1e-3,
        "warmup_steps": 20,
        "eval_every": 100,
        "eval_batch_size": 20,
        "select_by": "force_mae",
    }
    # As many structures of each set as the smallest training part, a task's, has.
    config.sampling = {"strategy": "balanced_unique", "size": 50}
    return config
