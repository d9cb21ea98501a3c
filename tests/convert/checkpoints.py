"""Checkpoint files in the layouts of the original codes, with weights made by a rule or given."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.convert.torch_writer import write_torch_file
from atomjax.parity.gemnet_oc import rule_weight
from atomjax.parity.oracle import rule_uniform

State = dict[str, np.ndarray]
NOT_AVERAGED = (".rbf.offset", ".rbf.temps", ".scale_factor")


def share_aliases(state: State) -> State:
    """The two names of an output block's first layers on one array, as the originals have them."""
    for name in state:
        if ".seq_energy_pre." in name:
            state[name.replace(".seq_energy_pre.", ".layers.")] = state[name]
    return state


def tiny_state(oracle: Path) -> State:
    """The state_dict of the reference's tiny GemNet-OC, one task, in the original's order."""
    with np.load(oracle / "gemnet_oc_tiny_weights.npz") as arrays:
        return share_aliases({name: arrays[name] for name in arrays.files})


def manifest_state(oracle: Path, size: str) -> State:
    """The state_dict of JMP-S or JMP-L with weights by the rule of the reference folder."""
    manifest = json.loads((oracle / f"manifest_{size}.json").read_text())
    factors = json.loads((oracle / f"gemnet_oc_{size}.json").read_text())["scale_factors"]
    state = {}
    for name, shape in manifest.items():
        if name.endswith("scale_factor"):
            state[name] = np.array(factors[name], np.float32)
        elif name.endswith(".rbf.offset"):
            state[name] = np.linspace(0, 1, shape[0], dtype=np.float32)
        elif name.endswith(".rbf.temps"):
            state[name] = np.full(shape, 0.5 * (shape[0] - 1) ** 2, np.float32)
        else:
            state[name] = rule_weight(name, tuple(shape), 0)
    return share_aliases(state)


def trained_names(state: State) -> list[str]:
    """Names of the parameters, each once, in the order in which JMP's optimiser has them."""
    return [n for n in state if not n.endswith(NOT_AVERAGED) and ".seq_energy_pre." not in n]


def other_weights(state: State) -> State:
    """Other weights under the same names, with the buffers and scale factors as they are."""

    def change(value: np.ndarray) -> np.ndarray:
        return (0.5 * value + 0.01).astype(value.dtype)

    return share_aliases(
        {n: v if n.endswith(NOT_AVERAGED) else change(v) for n, v in state.items()}
    )


def lightning(state: State, averages: State | None = None, **parts: Any) -> dict[str, Any]:
    """A file of JMP: a Lightning checkpoint with the averages in the optimiser's state."""
    content: dict[str, Any] = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "lr_schedulers": [],
    }
    if averages is not None:
        ema = tuple(averages[name] for name in trained_names(state))
        content["optimizer_states"] = [
            {"opt": {"state": {}, "param_groups": [{"lr": 0.1, "params": list(range(len(ema)))}]},
             "ema": ema, "current_step": 10, "decay": 0.99, "every_n_steps": 1}
        ]  # fmt: skip
    return content | parts


# JMP's name → fairchem's, as efficient-atom's helper for the opposite direction lists them.
FAIRCHEM = (
    (r"^embedding\.atom_embedding\.weight$", "atom_emb.embeddings.weight"),
    (r"^backbone\.bases\.", ""),
    (r"^backbone\.out_mlp_E\.out_mlp\.", "out_mlp_E."),
    (r"^backbone\.out_mlp_F\.out_mlp\.", "out_mlp_F."),
    (r"^backbone\.", ""),
)


def fairchem_state(state: State, *, elements: int = 83, hydra: bool = False) -> State:
    """The tiny state_dict as fairchem would have it: fewer elements, heads of one layer."""
    result = {}
    for name, value in state.items():
        if name.startswith("output.") or name.endswith(".rbf.temps"):
            continue
        for pattern, new in FAIRCHEM:
            name = re.sub(pattern, new, name)
        if name == "atom_emb.embeddings.weight":
            value = value[:elements]
        if hydra:
            head = re.match(r"out_mlp_([EF])\.", name)
            heads = {"E": "output_heads.energy.", "F": "output_heads.forces."}
            name = (heads[head[1]] if head else "backbone.") + name
        result[name] = value
    for kind, mark in (("energy", "energy.0"), ("forces", "forces.0")):
        name = f"out_{kind}.linear.weight"
        last = state[f"output.out_{mark}.8.weight"]
        result[f"output_heads.{kind}.{name}" if hydra else name] = last
    return share_aliases(result)


def fairchem(state: State, *, wrapper: str = "module.module.", **parts: Any) -> dict[str, Any]:
    """A file of fairchem v1 trained on OC20."""
    return {
        "epoch": 0.5,
        "step": 10,
        "state_dict": {wrapper + name: value for name, value in state.items()},
        "normalizers": {
            "target": {"mean": np.array(-0.7554450631141663), "std": np.array(2.887317180633545)},
            "grad_target": {"mean": np.array(0.0), "std": np.array(2.887317180633545)},
        },
        "config": {
            "model": "gemnet_oc",
            "model_attributes": {
                "cutoff": 12.0, "cutoff_qint": 12.0, "max_neighbors": 30, "qint_tags": [1, 2],
                "rbf": {"name": "gaussian"}, "envelope": {"name": "polynomial", "exponent": 5},
                "sbf": {"name": "legendre_outer"}, "extensive": True, "direct_forces": True,
            },
            "dataset": [{"src": "data/s2ef/all/train"}],
        },
        "val_metrics": {"mae": {"metric": 0.5}},
        "optimizer": {"state": {}, "param_groups": []},
        "scheduler": None,
        "amp": None,
    } | parts  # fmt: skip


def finetuned_state(
    state: State, target: str | None, *, forces: bool = False, classes: int = 0
) -> State:
    """The tiny state_dict as JMP's finetuning would have it.

    Args:
        state: of the pretrained model.
        target: a property; None for energies and forces, whose energy head has no biases.
        forces: whether forces are predicted directly rather than by the gradient.
        classes: number of classes of the property; 0 if it is a number.
    """
    result = {}
    for name, value in state.items():
        name = name.replace("embedding.atom_embedding.", "embedding.")
        if (
            re.match(r"backbone\.(out_mlp_F|out_blocks\.\d+\.\w*(_F|seq_forces))\b", name)
            and not forces
        ):
            continue
        if head := re.match(r"output\.out_(energy|forces)\.0\.(.*)", name):
            if head[1] == "forces" and not forces:
                continue
            if target is not None:
                kind = "classification_" if classes else ""
                name = f"graph_{kind}outputs._module_dict.ft_mlp_{target}.out_mlp.{head[2]}"
                if classes and value.shape[0] == 1:
                    value = np.concatenate([value * i for i in range(1, classes + 1)])
            elif head[1] == "energy" and name.endswith("bias"):
                continue
            else:
                name = f"out_{head[1]}.{head[2]}"
        result[name] = value
    return share_aliases(result)


def equiformer_state(oracle: Path, size: str) -> State:
    """The parameters of the reference's EquiformerV2, "tiny" or "31M", in the original's order."""
    if size == "tiny":
        with np.load(oracle / "eqv2_tiny_weights.npz") as arrays:
            return {name: arrays[name] for name in arrays.files}
    manifest = json.loads((oracle / "manifest_eqv2_31M.json").read_text())
    shapes = {name: v["shape"] for name, v in manifest.items() if not v["buffer"]}
    return {name: equiformer_weight(name, tuple(shape)) for name, shape in shapes.items()}


def equiformer_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weight of a parameter by the rule of the reference folder."""
    u = rule_uniform(name, shape, 0)
    gains = (
        "affine_weight",
        "norm_l0.weight",
        "alpha_norm.weight",
        ".net.1.weight",
        ".net.4.weight",
    )
    if name.endswith("embedding.weight"):
        value = u
    elif name.endswith(gains):
        value = 1 + 0.1 * u
    elif len(shape) == 1:
        value = 0.1 * u
    else:
        value = np.sqrt(3 / shape[2 if len(shape) == 3 else 1]) * u
    return value.astype(np.float32)


def write(path: Path, content: dict[str, Any]) -> Path:
    write_torch_file(path, content)
    return path
