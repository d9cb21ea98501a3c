"""Pretraining: the four upstream data sets and the settings of both papers."""

from typing import Any

# Forces weigh ⟨N⟩, the mean number of atoms, in JMP's structure-wise loss (section 4.2).
MEAN_ATOMS = {"ani1x": 15.0, "transition1x": 14.0, "oc20": 73.0, "oc22": 80.0}
# JMP, table 2: structures taken of each set; Transition-1x is taken whole.
JMP_STRUCTURES = {"ani1x": 2_000_000, "oc20": 100_000_000, "oc22": 8_000_000}
VALIDATION = 2_000

# The graphs of JMP under a radial basis that ends at 12 Å, whatever their cutoffs.
PUBLISHED_GRAPH = {"preset": "published"}
BASIS = {"rbf_cutoff": 12.0}

FILES: dict[str, dict[str, Any]] = {
    "ani1x": {
        "path": "ani1x/ani1x-release.h5",
        "arguments": {"min_atoms": 4},
        "split": {"by": "official"},
    },
    "transition1x": {"path": "transition1x/Transition1x.h5", "split": {"by": "official"}},
    "oc20": {
        "path": "oc20/s2ef/all/train",
        "energy_kind": "total",
        "arguments": {"reference_energies": "oc20/oc20_ref.pkl"},
    },
    "oc22": {"path": "oc22/s2ef_total/train"},
}
VALIDATION_FOLDERS = {"oc20": "oc20/s2ef/all/val_id", "oc22": "oc22/s2ef_total/val_id"}
SIZES = ("small", "large")


def upstream_dataset(name: str, **changes: Any) -> dict[str, Any]:
    """The entry of one data set in a config."""
    fields = {"name": name, "kind": "read", "format": name, "graph": PUBLISHED_GRAPH}
    return {**fields, **FILES[name], **changes}


def upstream_data(datasets: list[dict[str, Any]], root: str, **changes: Any) -> dict[str, Any]:
    """The data section: training sets, and 2,000 structures of each to validate on.

    Args:
        datasets: entries of :func:`upstream_dataset`.
        root: folder of all files.
        **changes: further fields of the section.
    """
    validation = [
        {**upstream_dataset(d["name"]), "path": VALIDATION_FOLDERS[d["name"]]}
        for d in datasets
        if d["name"] in VALIDATION_FOLDERS
    ]
    return {
        "train": datasets,
        "validation": validation,
        "max_validation": VALIDATION,
        "max_test": VALIDATION,
        "root": root,
        **changes,
    }


def pretraining(**changes: Any) -> dict[str, Any]:
    """Optimisation as in JMP's appendix D.1 and table 18, without settings of a single run."""
    return {
        "beta1": 0.9,
        "beta2": 0.95,
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "ema_decay": 0.99,
        # Neither paper says these three; both codes do so (docs/recipes.md).
        "ema_warmup": False,
        "scale_shared_gradients": True,
        "fixed_atoms": True,
        "edge_dropout": 0.1,
        "warmup_steps": 2000,
        "warmup_factor": 0.2,
        "final_factor": 0.1,
        "energy_coefficient": 1.0,
        "force_reduction": "structure",
        **changes,
    }


def jmp(size: str, root: str) -> dict[str, Any]:
    """Joint pretraining on 120 million structures (JMP-S and JMP-L).

    Args:
        size: "small" or "large".
        root: folder of all files.
    """
    datasets = [
        upstream_dataset(
            name, force_coefficient=MEAN_ATOMS[name], max_structures=JMP_STRUCTURES.get(name)
        )
        for name in FILES
    ]
    mixture = {"kind": "temperature", "temperature": 2.0}
    batch_size = {"small": 1024, "large": 768}[size]
    return {
        "workflow": "pretrain",
        "model": {"name": f"gemnet_oc_{size}", "overrides": BASIS},
        "data": upstream_data(datasets, root, mixture=mixture),
        "train": pretraining(batch_size=batch_size, epochs=2, learning_rate=2e-4, eval_every=5000),
    }


UPSTREAMS = (*FILES, "balanced", "temperature", "ani1x+oc22")
BUDGETS = {"2M": (2_000_000, 5), "1M": (1_000_000, 5), "3M": (3_000_000, 5)}
BUDGETS["1Mx10"] = (1_000_000, 10)


def limited(upstream: str, size: str, budget: str, root: str) -> dict[str, Any]:
    """Pretraining under a budget C = N structures × epochs.

    Args:
        upstream: one data set, "balanced" or "temperature" for a mixture of all four, or
            "ani1x+oc22" for 2 million and 1 million of these, whatever the budget.
        size: "small" or "large".
        budget: one of ``BUDGETS``.
        root: folder of all files.
    """
    structures, epochs = BUDGETS[budget]
    batch_size = {"small": 20, "large": 12}[size]
    train = pretraining(
        batch_size=batch_size,
        epochs=epochs,
        # With 1e-4 the gradients of OC22 on the large model were unstable (appendix D).
        learning_rate=1e-5 if (upstream, size) == ("oc22", "large") else 1e-4,
        force_coefficient=10.0,
    )
    mixture: dict[str, Any] = {"kind": "proportional"}
    if upstream == "ani1x+oc22":
        parts = {"ani1x": 2_000_000, "oc22": 1_000_000}
        datasets = [upstream_dataset(name, max_structures=n) for name, n in parts.items()]
        structures = sum(parts.values())
    elif upstream in ("balanced", "temperature"):
        datasets = [
            upstream_dataset(name, max_structures=JMP_STRUCTURES.get(name)) for name in FILES
        ]
        mixture = {"kind": upstream, "temperature": 2.0}
        train["max_structures"] = structures
    else:
        datasets = [upstream_dataset(upstream)]
        mixture = {"kind": "single"}
        train["max_structures"] = structures
    # Validated twenty times an epoch, as in that study's code.
    eval_every = structures // (20 * batch_size)
    return {
        "workflow": "pretrain",
        "model": {"name": f"gemnet_oc_{size}", "overrides": BASIS},
        "data": upstream_data(datasets, root, mixture=mixture),
        "train": {**train, "budget": structures * epochs, "eval_every": eval_every},
    }
