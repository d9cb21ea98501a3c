"""Finetuning: the six downstream benchmarks and JMP's settings for them.

Learning rates, phases and patience are those of the paper (appendix D.2 and table 18); batch sizes,
loss terms and graphs are those of JMP's published configurations. (Those stop reducing the rate by
0.8 after 3 epochs, 10 for rMD17, where the paper says 0.1 after 5.) EquiformerV2's schedule and
graphs are those of efficient-atom, the code of the second study; no paper gives them.
"""

from typing import Any

# Word → backbone, and the folder of its pretraining.
MODELS = {
    "small": ("gemnet_oc_small", "jmp_small"),
    "large": ("gemnet_oc_large", "jmp_large"),
    "equiformer_v2": ("equiformer_v2_31M", "equiformer_v2_31M"),
}
# Å: cutoff of the published models' radial bases, whatever the cutoffs of the graphs.
BASES: dict[str, dict[str, Any]] = {
    "small": {"rbf_cutoff": 12.0},
    "large": {"rbf_cutoff": 12.0},
    "equiformer_v2": {"cutoff": 12.0, "envelope_exponent": None},
}
FORCE_GRAPH = {"cutoff": 12.0, "cutoff_molecule": 12.0, "max_neighbors": 30}

RMD17_MOLECULES = (
    "aspirin",
    "azobenzene",
    "benzene",
    "ethanol",
    "malonaldehyde",
    "naphthalene",
    "paracetamol",
    "salicylic",
    "toluene",
    "uracil",
)
# Molecule → file and structures per step.
MD22_MOLECULES = {
    "Ac-Ala3-NHMe": ("md22_Ac-Ala3-NHMe.npz", 2),
    "DHA": ("md22_DHA.npz", 1),
    "stachyose": ("md22_stachyose.npz", 1),
    "AT-AT": ("md22_AT-AT.npz", 1),
    "AT-AT-CG-CG": ("md22_AT-AT-CG-CG.npz", 1),
    "buckyball-catcher": ("md22_buckyball-catcher.npz", 1),
    "double-walled_nanotube": ("md22_double-walled_nanotube.npz", 1),
}
# Too large for the gradient of the energy (JMP, section 5.2).
MD22_DIRECT = ("buckyball-catcher", "double-walled_nanotube")
SPICE_SUBSETS = ("solvated_amino_acids", "dipeptides")
# Target → unit.
QM9_TARGETS = {
    "U0": "eV",
    "mu": "D",
    "alpha": "a0³",
    "homo": "eV",
    "lumo": "eV",
    "gap": "eV",
    "r2": "a0²",
    "zpve": "eV",
    "U": "eV",
    "H": "eV",
    "G": "eV",
    "Cv": "cal/(mol K)",
}
# The targets whose elements' shares are taken out first; frontier orbitals and the dipole are no
# sums over atoms.
QM9_EXTENSIVE = ("alpha", "zpve", "U0", "U", "H", "G", "Cv")
# The targets that are moments of a charge distribution.
QM9_POOLING = {"mu": "dipole", "r2": "extent"}
# Task → column, unit, structures per step.
MATBENCH_TASKS = {
    "phonons": ("last phdos peak", "cm⁻¹", 8),
    "jdft2d": ("exfoliation_en", "meV/atom", 3),
    "dielectric": ("n", "", 8),
    "log_gvrh": ("log10(G_VRH)", "log10 GPa", 8),
    "log_kvrh": ("log10(K_VRH)", "log10 GPa", 8),
    "perovskites": ("e_form", "eV/unit cell", 8),
    "mp_gap": ("gap pbe", "eV", 2),
    "mp_e_form": ("e_form", "eV/atom", 6),
}
# EquiformerV2 has one rate for all layers, and a cosine over the whole run.
EQUIFORMER = {
    "warmup_factor": 0.2,
    "decay_epochs": None,
    "final_factor": 0.01,
    "layer_rates": None,
    "plateau": None,
    "early_stopping_patience": None,
    "min_learning_rate": None,
}


def finetuning(model: str, **changes: Any) -> dict[str, Any]:
    """Optimisation of a finetuning run as in JMP's appendix D.2.

    Warm-up over 5 epochs, a cosine that ends at epoch 32 with layer-wise rates, then reduction on
    a plateau, until 500 epochs, 7 days, 50 epochs without improvement or a rate below 1e-8.

    Args:
        model: one of ``MODELS``.
        **changes: other settings of ``train``; batch_size is required.
    """
    settings = {
        "epochs": 500,
        "learning_rate": 8e-5,
        "beta1": 0.9,
        "beta2": 0.95,
        "weight_decay": 0.1,
        "clip_norm": None,
        "clip_value": 1.0,
        "ema_decay": 0.99,
        # Neither paper says these two; both codes do so (docs/recipes.md).
        "ema_warmup": False,
        "scale_shared_gradients": True,
        "warmup_epochs": 5,
        "warmup_factor": 0.1,
        "decay_epochs": 32,
        "final_factor": 0.1,
        "layer_rates": f"jmp_{model}",
        "plateau": {"patience": 5, "factor": 0.1},
        "early_stopping_patience": 50,
        "min_learning_rate": 1e-8,
        "max_hours": 168.0,
        "force_reduction": "atom",
        **changes,
    }
    return {**settings, **EQUIFORMER} if model == "equiformer_v2" else settings


def finetune(
    model: str, dataset: dict[str, Any], head: dict[str, Any], train: dict[str, Any], root: str
) -> dict[str, Any]:
    """A whole config: one data set with its own split, and one head on a pretrained backbone."""
    name, pretraining = MODELS[model]
    graph = {"preset": "published", **dataset["graph"]}
    entry = {"kind": "read", "split": {"by": "official"}, **dataset, "graph": graph}
    return {
        "workflow": "finetune",
        "model": {"name": name, "overrides": BASES[model]},
        "data": {"train": [entry], "root": root},
        "train": train,
        "finetune": {
            "checkpoint": f"runs/pretrain/{pretraining}",
            "averaged": True,
            "head": head,
        },
    }


def force_head(model: str, forces: str = "conservative") -> dict[str, Any]:
    """A head of energies and forces; EquiformerV2's are direct, for its energy makes steps."""
    return {
        "kind": "energy_forces",
        "forces": "direct" if model == "equiformer_v2" else forces,
    }


def rmd17(molecule: str, model: str, shots: str, root: str) -> dict[str, Any]:
    """Forces of one small molecule, from 950 frames ("full") or 50 ("few")."""
    arguments = {"full": {}, "few": {"train_size": 50}}[shots]
    dataset = {
        "name": molecule,
        "format": "rmd17",
        "path": f"rmd17/npz_data/rmd17_{molecule}.npz",
        "arguments": {"fold": 1, **arguments},
        "graph": {"cutoff_molecule": 7.0, "max_neighbors": 100},
    }
    train = finetuning(
        model,
        batch_size=1,
        # A plateau ends JMP's run; a cosine needs its length, here that of efficient-atom's runs.
        epochs=600 if model == "equiformer_v2" else 100_000,
        early_stopping_patience=1000,
        # Table 18 gives the large model another floor on this benchmark.
        final_factor=0.01 if model == "large" else 0.1,
        energy_coefficient=0.0,
        force_coefficient=10.0,
        select_by="force_mae",
    )
    return finetune(model, dataset, force_head(model), train, root)


def md22(molecule: str, model: str, root: str) -> dict[str, Any]:
    """Forces of one large molecule."""
    file, batch_size = MD22_MOLECULES[molecule]
    dataset = {
        "name": molecule,
        "format": "md22",
        "path": f"md22/{file}",
        "arguments": {"molecule": molecule},
        "graph": FORCE_GRAPH,
    }
    forces = "direct" if molecule in MD22_DIRECT else "conservative"
    return _forces(model, dataset, forces, batch_size, root)


def spice(subset: str, model: str, root: str) -> dict[str, Any]:
    """Forces of dipeptides or of amino acids in water."""
    dataset = {
        "name": subset,
        "format": "spice",
        "path": "spice/SPICE-1.1.4.hdf5",
        "energy_kind": "referenced",
        "arguments": {"subset": subset},
        "graph": FORCE_GRAPH,
    }
    return _forces(model, dataset, "conservative", 2, root)


def _forces(
    model: str, dataset: dict[str, Any], forces: str, batch_size: int, root: str
) -> dict[str, Any]:
    train = finetuning(
        model,
        batch_size=batch_size,
        energy_coefficient=0.0,
        force_coefficient=100.0,
        select_by="force_mae",
    )
    return finetune(model, dataset, force_head(model, forces), train, root)


def qm9(target: str, model: str, root: str) -> dict[str, Any]:
    """One of the twelve properties of QM9."""
    equiformer = model == "equiformer_v2"
    dataset = {
        "name": "qm9",
        "format": "qm9",
        "path": "qm9",
        "arguments": {"targets": [target]},
        "graph": {
            "cutoff_molecule": 12.0 if equiformer else 8.0,
            "max_neighbors": 500 if equiformer else 30,
        },
    }
    head = {
        "kind": "scalar",
        "target": target,
        "unit": QM9_TARGETS[target],
        "extensive": target in QM9_EXTENSIVE,
        "pooling": QM9_POOLING.get(target, "sum"),
    }
    decay = {"weight_decay": 0.0} if equiformer else {}
    train = finetuning(model, batch_size=48, select_by="value_mae", **decay)
    return finetune(model, dataset, head, train, root)


def qmof(model: str, root: str) -> dict[str, Any]:
    """Band gaps of metal-organic frameworks."""
    dataset = {
        "name": "qmof",
        "format": "qmof",
        "path": "qmof/qmof_database",
        "arguments": {"targets": ["band_gap"]},
        "graph": {"cutoff": 19.0, "max_neighbors": 30},
    }
    head = {"kind": "scalar", "target": "band_gap", "unit": "eV", "pooling": "mean"}
    train = finetuning(model, batch_size=4, select_by="value_mae")
    return finetune(model, dataset, head, train, root)


def matbench(task: str, model: str, fold: int, root: str) -> dict[str, Any]:
    """One task and fold of MatBench."""
    target, unit, batch_size = MATBENCH_TASKS[task]
    dataset = {
        "name": task,
        "format": "matbench",
        "path": f"matbench/matbench_{task}.json.gz",
        "arguments": {"fold": fold},
        "graph": {"cutoff": 12.0, "max_neighbors": 30},
    }
    # A vibration's frequency is neither a sum nor a mean over atoms (JMP, appendix F.2).
    pooling = "max" if task == "phonons" else "mean"
    head = {"kind": "scalar", "target": target, "unit": unit, "pooling": pooling}
    train = finetuning(model, batch_size=batch_size, select_by="value_mae")
    return finetune(model, dataset, head, train, root)
