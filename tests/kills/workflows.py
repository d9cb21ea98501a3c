"""The commands that are killed, each as small as it can be."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import write_config
from tests.studies.trainings import transfer_config
from tests.training.sections import train_section
from tests.training.workflow import MODEL, make_config, write_structures

TRAIN = {"epochs": 3, "checkpoint_every": 2, "eval_every": 4}
SAMPLING = {"strategy": "random", "size": 16}


@dataclass(frozen=True)
class Workflow:
    """A command.

    Attributes:
        arguments: (folder of the inputs, folder of the results) → module and its arguments.
        lock: file in the folder of the results that the command locks once it works on them; None
            where there is none, and moments count from the start.
    """

    arguments: Callable[[Path, Path], list[str]]
    lock: str | None = "run.lock"


def write_inputs(folder: Path) -> None:
    """Writes the structures and configs that the commands read."""
    chains = write_structures(folder / "chains.xyz")
    write_structures(folder / "others.xyz", count=24, seed=1)
    data = make_config(chains)["data"]["train"][0]
    others = {**data, "name": "others", "path": str(folder / "others.xyz")}
    trained = str(folder / "unbroken" / "pretrain")
    generated = {
        "name": "molecules",
        "kind": "generate",
        "generator": "conformers",
        "arguments": {"count": 12, "heavy_atoms": (2, 3), "seed": 0},
    }
    pretrain = make_config(chains, **TRAIN)
    pretrain["data"]["loader_workers"] = 2
    finetune = {
        **make_config(chains, **TRAIN),
        "workflow": "finetune",
        "data": {"train": [others]},
        "head": {"kind": "energy_forces"},
        "finetune": {"checkpoint": trained},
    }
    transfer = transfer_config(chains, train={**pretrain["train"], "epochs": 1})
    transfer["pretraining"]["train"] = {**pretrain["train"], "epochs": 1}
    csi = {
        "workflow": "csi",
        "candidates": [data, {**others, "split": {"validation": 4}}],
        "downstream": [{**others, "name": "task", "split": None}],
        "extractor": {"checkpoint": trained, "batch_size": 4},
        "sampling": SAMPLING,
        "invariants": ["none"],
        "resamples": 20,
        "plan": {"model": MODEL, "budget": 40, "train": train_section(batch_size=5, epochs=3)},
    }
    features = {"workflow": "features", "extractor": {"checkpoint": trained, "batch_size": 1}}
    configs: dict[str, dict[str, Any]] = {
        "generate": {**features, "datasets": [generated], "workers": 2},
        "features": {**features, "datasets": [data, others]},
        "csi": csi,
        "select": {**csi, "select": {"size": 6}, "keep_features": True},
        "pretrain": pretrain,
        "finetune": finetune,
        "transfer": transfer,
    }
    for name, config in configs.items():
        write_config(folder / f"{name}.py", config)


def _launched(name: str, *options: str) -> Workflow:
    def arguments(inputs: Path, results: Path) -> list[str]:
        config = inputs / f"{name}.py"
        return ["atomjax.launch", f"--config={config}", f"--workdir={results}", *options]

    return Workflow(arguments)


def _convert(inputs: Path, results: Path) -> list[str]:
    units = ["--option", "energy_unit=eV", "--option", "length_unit=Å", "--energy-kind", "total"]
    given = ["--source", "extxyz", "--path", str(inputs / "chains.xyz"), *units]
    sizes = ["--out", str(results / "store"), "--workers", "2", "--shard-size", "4"]
    return ["atomjax.structures.convert", *given, *sizes]


def _predict(inputs: Path, results: Path) -> list[str]:
    checkpoint = inputs / "unbroken" / "pretrain"
    return ["tests.kills.predict", str(checkpoint), str(inputs / "chains.xyz"), str(results)]


# Pretraining comes first: others begin from the checkpoint of the unbroken run.
WORKFLOWS = {
    "pretrain": _launched("pretrain"),
    "finetune": _launched("finetune"),
    "transfer": _launched("transfer", "--jobs=2"),
    "generate": _launched("generate"),
    "features": _launched("features"),
    "csi": _launched("csi"),
    "select": _launched("select"),
    "convert": Workflow(_convert, lock=None),
    "predict": Workflow(_predict, lock=None),
}
