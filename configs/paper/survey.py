"""The study of arXiv:2502.11085 at the size of two CPU cores: which distance ranks upstream sets?

    python -m atomjax.launch --config configs/paper/survey.py:FOLDER --workdir runs/survey

Seven upstream sets are labelled here, and five of the tasks; without FOLDER they are all. It holds
three more upstream sets and a task, whose labels take a package of their own
(``atomjax[crystals]``), and the data of four tasks with labels of density functional theory:

    atomjax generate crystals prototypes=fcc,bcc,hcp \
        --count 1040 --output metals.archive.npz
    atomjax generate crystals prototypes=diamond,zincblende,wurtzite \
        --count 1040 --output covalent.archive.npz
    atomjax generate crystals prototypes=rocksalt,fluorite,perovskite \
        --count 1040 --output ionic.archive.npz
    atomjax generate crystals prototypes=spinel elements=Mg,Zn,Mn,Co,Al,Cr,Fe,Ga,O,S \
        --count 320 --seed 1 --output spinels.archive.npz
    python -m atomjax.structures.convert --source cif_csv --path perov_5_val.csv --out perov_5
    python -m atomjax.structures.convert --source cif_csv --path carbon_24_val.csv --out carbon_24

and ``s66x8_wb97x6-31gd.h5`` and ``Li_electrode_finetune.xyz`` as ``configs/s66x8.py`` and
``configs/li_electrode.py`` name them. One small GemNet-OC is pretrained under a fixed budget
C = E × N on each set, under a tenth of it (Table 2), on a balanced mixture (Table 1) and on a
distant set with a bridge of a twentieth of another (Fig. 4), then finetuned on 50 structures of
every task. All have three seeds, but for a tenth of the budget. The run resumes; its report is
rewritten after every seed.

What was found is in docs/reproduction.md.
"""

from pathlib import Path
from typing import Any

import ml_collections

from atomjax.recipes import dft_sets, small_data, small_sets
from atomjax.recipes.sections import generated, read, section, stored
from atomjax.similarity.measures import registry

GRAPH = section(cutoff=4.0)
CRYSTALS = ("metals", "covalent", "ionic")
N, E, VALIDATION = 1000, 20, 40


def start(
    name: str,
    structures: dict[str, int],
    epochs: int = E,
    seeds: tuple[int, ...] | None = None,
) -> Any:
    """A start of so many structures of each set, with all seeds of the study or some."""
    one = section()
    one.name = name
    one.structures = structures
    one.epochs = epochs
    one.seeds = seeds
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
    sets = small_sets.downstream_sets()
    sets["barriers"] = generated("barriers", generator="reactions", count=320, seed=1)
    return [
        task(one, targets=[energy] if name == "molecules" else None) for name, one in sets.items()
    ]


def stored_tasks(folder: Path) -> list[Any]:
    """Tasks of the files in a folder: four of density functional theory and crystals."""
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
        task(crystals("spinels", folder)),
    ]


def crystals(name: str, folder: Path) -> Any:
    """Crystals of some prototypes, labelled by CHGNet."""
    one = read(name, str(folder / f"{name}.archive.npz"), "archive")
    one.energy_unit, one.length_unit, one.energy_kind = "eV", "Å", "total"
    return one


def candidates(folder: str) -> list[Any]:
    """Upstream sets."""
    count = N + VALIDATION
    sets = small_sets.upstream_sets(count, VALIDATION, GRAPH)
    more = [generated("pairs", generator="dimers", count=count, seed=0)]
    if folder:
        more += [crystals(name, Path(folder)) for name in CRYSTALS]
    for one in more:
        one.split, one.graph = section(validation=VALIDATION), GRAPH
    return sets + more


def get_config(folder: str = "") -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "survey"
    config.seeds = (0, 1, 2)
    config.probe = True
    config.gradients = 3
    config.candidates = candidates(folder)
    names = [one.name for one in config.candidates]
    config.tasks = generated_tasks() + (stored_tasks(Path(folder)) if folder else [])

    config.starts = [start(name, {name: N}) for name in names]
    config.starts += [start(f"{name}, a tenth", {name: N}, E // 10, (0,)) for name in names]
    epochs = -(-E // len(names))
    share = N * E // epochs // len(names)
    config.starts.append(start("balanced", dict.fromkeys(names, share), epochs))
    config.starts.append(start("slabs and a bridge", {"slabs": N - N // 20, "conformers": N // 20}))
    config.pairs = [(name, "scratch") for name in names]
    config.pairs += [("balanced", "conformers"), ("slabs and a bridge", "slabs")]

    # What the rule for small data takes, with one block, to be quick.
    config.model = small_data.model_settings(GRAPH.cutoff, num_blocks=1)
    config.head = section(**small_data.HEAD)

    config.train = small_data.force_training(E, 100, batch_size=16, warmup_steps=30)
    # As many structures of each set as the smallest training part, a task's, has.
    config.sampling = section(strategy="balanced_unique", size=50)
    config.measures = tuple(measure.name for measure in registry.BUILT_IN)
    return config
