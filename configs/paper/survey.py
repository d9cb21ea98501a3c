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

from typing import Any

import ml_collections

from atomjax.recipes.sections import generated, section, training

GRAPH = section(cutoff=6.0, cutoff_molecule=6.0, max_neighbors=8)
UPSTREAM = ("conformers", "reactions", "slabs", "oxides")
N, E = 160, 10
# JMP mixes ANI-1x, Transition-1x, OC20 and OC22 (2, 10, 100 and 8 million) at T = 2.
TEMPERATURE = section(conformers=13, reactions=29, slabs=92, oxides=26)


def start(name: str, epochs: int = E, **structures: int) -> Any:
    """A start with all seeds where it is a whole set, and with one where it is a side question."""
    one = section()
    one.name = name
    one.structures = structures
    one.epochs = epochs
    one.seeds = None if name in UPSTREAM else (0,)
    return one


def task(data: Any) -> Any:
    """Energies and forces of 50 structures."""
    one = section()
    one.data = data
    one.data.split = section(train=50, validation=30, test=100)
    one.data.graph = GRAPH
    one.head = section(kind="energy_forces", forces="direct")
    one.train = training(batch_size=5)
    one.train.epochs = 12
    one.train.optimizer.learning_rate = 5e-4
    one.train.schedule.warmup_steps = 10
    one.train.validation.eval_every = 40
    one.train.validation.eval_batch_size = 10
    one.train.validation.select_by = "force_mae"
    return one


def tasks() -> list[Any]:
    molecules = task(
        generated("molecules", generator="properties", count=180, heavy_atoms=(2, 6), seed=0)
    )
    energy = section(name="atomization_energy", unit="eV", extensive=True)
    molecules.head = section(kind="scalar", targets=[energy])
    molecules.train.validation.select_by = "value_mae"
    surfaces = generated("surfaces", generator="slabs", count=180, size=(2, 2, 2), seed=2)
    surfaces.arguments.fixed_layers = 1
    surfaces.arguments.metals = ("Pd", "Pt")
    surfaces.arguments.adsorbates = ("CH3OH", "H2CO", "C2H4")
    return [
        task(generated("aspirin", generator="dynamics", count=180, molecule="aspirin", seed=0)),
        molecules,
        task(surfaces),
    ]


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "survey"
    config.seeds = (0, 1, 2)
    config.candidates = [
        generated("conformers", count=200, heavy_atoms=(2, 5), seed=0),
        generated("reactions", count=200, seed=0),
        generated("slabs", count=200, size=(2, 2, 2), fixed_layers=1, seed=1),
        generated("oxides", count=200, relaxation_steps=2, seed=0),
    ]
    for candidate in config.candidates:
        candidate.split = section(validation=40)
        candidate.graph = GRAPH
    config.tasks = tasks()

    config.starts = [start(name, **{name: N}) for name in UPSTREAM]
    config.pairs = [(name, "scratch") for name in UPSTREAM]
    config.starts.append(start("balanced", **dict.fromkeys(UPSTREAM, N // len(UPSTREAM))))
    config.starts.append(start("temperature 2", **TEMPERATURE))
    config.starts.append(start("conformers and oxides", conformers=N, oxides=N // 2))
    for name in ("balanced", "temperature 2", "conformers and oxides"):
        config.pairs.append((name, "conformers"))
    for name in ("conformers", "oxides"):
        for what, epochs in (("half of N", 2 * E), ("half of C", E)):
            config.starts.append(start(f"{name}, {what}", epochs, **{name: N // 2}))
            config.pairs.append((f"{name}, {what}", name))

    config.model = section(name="gemnet_oc_tiny")
    size = config.model.overrides = section()
    size.num_blocks = 1
    size.emb_size_edge = 32
    size.num_before_skip = 1
    size.num_after_skip = 1
    size.num_atom = 1
    size.num_output_afteratom = 1

    train = config.train = training(batch_size=8)
    train.epochs = E
    train.optimizer.learning_rate = 1e-3
    train.schedule.warmup_steps = 20
    train.validation.eval_every = 100
    train.validation.eval_batch_size = 20
    train.validation.select_by = "force_mae"
    # As many structures of each set as the smallest training part, a task's, has.
    config.sampling = section(strategy="balanced_unique", size=50)
    return config
