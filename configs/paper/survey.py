"""The study of arXiv:2502.11085 at the size of two CPU cores: which distance ranks upstream sets?

    python -m atomjax.launch --config configs/paper/survey.py:FOLDER --workdir runs/survey

Six upstream sets are labelled here, and four of the tasks; without FOLDER they are all. It holds
the data of four tasks with labels of density functional theory and, if it is to be compared, one
more upstream set, whose labels take a package of their own (``atomjax[crystals]``):

    atomjax generate crystals --count 600 --seed 0 --output crystals.archive.npz
    python -m atomjax.structures.convert --source cif_csv --path perov_5_val.csv --out perov_5
    python -m atomjax.structures.convert --source cif_csv --path carbon_24_val.csv --out carbon_24

and ``s66x8_wb97x6-31gd.h5`` and ``Li_electrode_finetune.xyz`` as ``configs/s66x8.py`` and
``configs/li_electrode.py`` name them. One small GemNet-OC is pretrained under a fixed budget
C = E × N on each set, on a balanced mixture and on one in the shares of JMP's temperature 2
(Table 1), with half the budget (Table 2), and on a distant set with a bridge of a twentieth of
another (Fig. 4), then finetuned on 50 structures of every task. Single sets and random weights have
three seeds, the others one. The run resumes; its report is rewritten after every seed.

What was found is in docs/reproduction.md.
"""

from pathlib import Path
from typing import Any

import ml_collections

from atomjax.recipes import dft_sets, small_data, small_sets
from atomjax.recipes.sections import read, section, stored
from atomjax.similarity.measures import registry

GRAPH = section(cutoff=4.0)
UPSTREAM = ("conformers", "reactions", "trajectory", "slabs", "alloys", "oxides")
N, E = 300, 10
# JMP mixes ANI-1x, Transition-1x, OC20 and OC22 (2, 10, 100 and 8 million) at T = 2.
TEMPERATURE = section(conformers=24, reactions=54, slabs=172, oxides=50)


def start(name: str, epochs: int = E, **structures: int) -> Any:
    """A start with all seeds where it is a whole set, and with one where it is a side question."""
    one = section()
    one.name = name
    one.structures = structures
    one.epochs = epochs
    one.seeds = None if name in structures else (0,)
    return one


def task(data: Any, *, targets: list[Any] | None = None, by: str = "structure") -> Any:
    """50 structures with energies and forces, or with properties.

    Args:
        data: data set.
        targets: properties; None for energies and forces.
        by: what the parts share none of.
    """
    one = section()
    one.data = data
    one.data.split = section(train=50, validation=50, test=200, by=by)
    one.data.graph = GRAPH
    one.head = section(**small_data.HEAD)
    if targets is None:
        # The pretrained head goes on, too: it saves hundreds of steps.
        one.head_from = "mean"
    else:
        one.head = section(kind="scalar", targets=targets)
    one.train = small_data.train_settings(batch_size=5)
    one.train.epochs = 40
    one.train.validation.eval_every = 50
    one.train.validation.select_by = "force_mae" if targets is None else "value_mae"
    return one


def generated_tasks() -> list[Any]:
    """Tasks that are labelled here."""
    energy = section(name="atomization_energy", unit="eV", extensive=True)
    sets = small_sets.downstream_sets().items()
    return [task(one, targets=[energy] if name == "molecules" else None) for name, one in sets]


def published_tasks(folder: Path) -> list[Any]:
    """Tasks with labels of density functional theory, of the files in a folder."""
    dimers = dft_sets.s66x8(str(folder / "s66x8_wb97x6-31gd.h5"), "dimers")
    cathode = dft_sets.li_electrode(str(folder / "Li_electrode_finetune.xyz"), "cathode")
    perovskites = stored("perovskites", str(folder / "perov_5"))
    heat = section(name="heat_all", unit="eV/unit cell", pooling="mean")
    carbon = stored("carbon", str(folder / "carbon_24"))
    energy = section(name="energy_per_atom", unit="eV/atom", pooling="mean")
    return [
        task(dimers, by="class_key"),
        task(cathode),
        task(perovskites, targets=[heat]),
        task(carbon, targets=[energy]),
    ]


def candidates(folder: str) -> list[Any]:
    """Upstream sets."""
    sets = small_sets.upstream_sets(N + 40, 40, GRAPH)
    path = Path(folder) / "crystals.archive.npz"
    if folder and path.exists():
        crystals = read("crystals", str(path), "archive")
        crystals.energy_unit, crystals.length_unit, crystals.energy_kind = "eV", "Å", "total"
        crystals.split, crystals.graph = section(validation=40), GRAPH
        sets.append(crystals)
    return sets


def get_config(folder: str = "") -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "survey"
    config.seeds = (0, 1, 2)
    config.probe = True
    config.gradients = 3
    config.candidates = candidates(folder)
    names = [one.name for one in config.candidates]
    config.tasks = generated_tasks() + (published_tasks(Path(folder)) if folder else [])

    config.starts = [start(name, **{name: N}) for name in names]
    config.pairs = [(name, "scratch") for name in names]
    config.starts.append(start("balanced", **dict.fromkeys(UPSTREAM, N // len(UPSTREAM))))
    config.starts.append(start("temperature 2", **TEMPERATURE))
    config.starts.append(start("conformers, half of C", E // 2, conformers=N))
    config.starts.append(start("slabs and a bridge", slabs=N - N // 20, conformers=N // 20))
    for name, other in (
        ("balanced", "conformers"),
        ("temperature 2", "conformers"),
        ("conformers, half of C", "conformers"),
        ("slabs and a bridge", "slabs"),
    ):
        config.pairs.append((name, other))

    # What the rule for small data takes, with one block, to be quick.
    config.model = small_data.model_settings(GRAPH.cutoff, num_blocks=1)
    config.head = section(**small_data.HEAD)

    config.train = small_data.force_training(E, 100, batch_size=16, warmup_steps=30)
    # As many structures of each set as the smallest training part, a task's, has.
    config.sampling = section(strategy="balanced_unique", size=50)
    config.measures = tuple(measure.name for measure in registry.BUILT_IN)
    return config
