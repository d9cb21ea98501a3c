"""EquiformerV2 against the original: embeddings, features, energies, forces, equivariance."""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from atomjax.convert.equiformer_v2.convert import EquiformerV2Family
from atomjax.convert.equiformer_v2.names import checkpoint_entries
from atomjax.convert.family import fill
from atomjax.graphs import GraphConfig, Sizes, build_many, fit_capacity, pack_structures
from atomjax.graphs.batch import GraphBatch
from atomjax.models import AtomicModel, HeadConfig, build_model
from atomjax.models.equiformer_v2 import published_graph
from atomjax.parity.oracle import Case, OracleError, Reference, rule_uniform
from atomjax.parity.result import Result, relative_error
from atomjax.structures import Structure

HEAD = HeadConfig(name="task0", kind="energy_forces", forces="direct")

# Settings of the reference → fields of ours.
_FIELDS = {
    "num_layers": "num_blocks",
    "sphere_channels": "channels",
    "attn_hidden_channels": "attention_hidden",
    "num_heads": "num_heads",
    "attn_alpha_channels": "alpha_channels",
    "attn_value_channels": "value_channels",
    "ffn_hidden_channels": "ffn_hidden",
    "edge_channels": "edge_channels",
    "max_num_elements": "num_elements",
    "grid_resolution": "grid_resolution",
    "avg_degree": "avg_degree",
}

ROTATIONS = 4


def model_of(reference: Reference) -> AtomicModel:
    """The model that the reference's settings describe; energies are sums over atoms there."""
    settings = reference.settings["config"]
    fields = {ours: settings[theirs] for theirs, ours in _FIELDS.items()}
    fields |= {"lmax": settings["lmax_list"][0], "mmax": settings["mmax_list"][0]}
    fields |= {"cutoff": reference.settings["gaussian_smearing"]["stop"]}
    fields |= {"num_gaussians": reference.settings["gaussian_smearing"]["num"]}
    config = {"name": "equiformer_v2_31M", "avg_num_nodes": 1.0, "exact_grid": False, **fields}
    return build_model(config, [HEAD])


def graph_of(reference: Reference) -> GraphConfig:
    """The graph that the reference's settings describe."""
    settings = reference.settings["config"]
    cutoff = settings["max_radius"]
    return published_graph(cutoff, settings["max_neighbors"])


def rule_weight(name: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    """Weight of a checkpoint entry by the rule of the reference folder."""
    u = rule_uniform(name, shape, salt)
    gains = ("affine_weight", "norm_l0.weight", "alpha_norm.weight", ".net.1.weight")
    if name.endswith((*gains, ".net.4.weight")):
        return (1 + 0.1 * u).astype(np.float32)
    if name.endswith("embedding.weight"):
        scale = 1.0
    elif len(shape) == 1:
        scale = 0.1
    else:
        scale = math.sqrt(3 / shape[2 if len(shape) == 3 else 1])
    return (scale * u).astype(np.float32)


@partial(jax.jit, static_argnums=0)
def outputs(
    model: AtomicModel, variables: Any, batch: GraphBatch, frames: jax.Array | None
) -> dict[str, jax.Array]:
    """Everything that is compared, in one compiled function."""
    applied: Any = model.apply(variables, batch, frames, method=_all, mutable=["intermediates"])
    (found, features), state = applied
    blocks = {key: value[0] for key, value in state["intermediates"]["backbone"].items()}
    config = model.backbone.config
    shape = (-1, (config.lmax + 1) ** 2, config.channels)
    node = features.node.reshape(shape)
    return {**blocks, "node_embedding": node, "energy": found.energy, "forces": found.forces}


def _all(model: AtomicModel, batch: GraphBatch, frames: jax.Array | None):
    features = model.backbone(batch, frames)
    return getattr(model, f"head_{HEAD.name}")(features, batch), features


class Runner:
    """Runs one model on structures, all in one shape, so that one compilation serves all."""

    def __init__(
        self,
        reference: Reference,
        cases: dict[str, Case],
        members: list[Case],
        dtype: str,
        salt: int,
    ):
        self.model, self.graph, self.dtype = model_of(reference), graph_of(reference), dtype
        sizes = Sizes.measure(build_many([c.structure for c in cases.values()], self.graph))
        order = list(cases)
        groups = [np.array([order.index(case.name) for case in members])]
        groups += [np.array([i]) for i in range(len(order))]
        self.capacity = fit_capacity(sizes.needs(groups))
        shapes = jax.eval_shape(self.model.init, jax.random.key(0), self.pack([]))
        entries = {
            name: rule_weight(name, shape, salt)
            for _, _, name, shape in checkpoint_entries(shapes, self.model.heads)
        }
        self.variables = fill(shapes, self.model.heads, EquiformerV2Family(), entries)

    def pack(self, structures: list[Structure], dtype: str | None = None) -> GraphBatch:
        """A batch of the common shape."""
        dtype = dtype or self.dtype
        return pack_structures(structures, self.graph, self.capacity, dtype=np.dtype(dtype))

    def run(self, batch: GraphBatch, frames: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Outputs of a batch, in its precision."""
        dtype = batch.edge_vectors.dtype
        variables = jax.tree.map(lambda x: np.asarray(x, dtype), self.variables)
        frames = None if frames is None else frames.astype(dtype)
        return jax.device_get(outputs(self.model, variables, batch, frames))


def given_frames(reference: Reference, name: str, batch: GraphBatch) -> tuple[int, np.ndarray]:
    """Number of edges that are not the reference's, and its frames in the order of our edges.

    The second row of a frame is the direction of its edge, by which edges between the same two
    atoms are told apart.
    """
    index, frames = reference.get(name, "edge_index"), reference.get(name, "edge_rot_mat")
    if index is None or frames is None:
        raise OracleError(f"{reference.name} holds no edge_index and edge_rot_mat of {name}")
    real = np.flatnonzero(np.asarray(batch.edge_mask))
    senders, receivers = np.asarray(batch.senders)[real], np.asarray(batch.receivers)[real]
    vectors = np.asarray(batch.edge_vectors, np.float64)[real]
    units = -vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ordered = np.tile(np.eye(3), (len(batch.edge_mask), 1, 1))
    missing = abs(len(real) - index.shape[1])
    for i, unit in enumerate(units):
        same = np.flatnonzero((index[0] == senders[i]) & (index[1] == receivers[i]))
        distance = np.abs(frames[same, 1] - unit).max(axis=1)
        if not len(same) or distance.min() > 1e-5:
            missing += 1
        else:
            ordered[real[i]] = frames[same[distance.argmin()]]
    return missing, ordered


def compare_model(
    reference: Reference, cases: dict[str, Case], dtype: str, salt: int
) -> Iterator[Result]:
    """Compares one model on every structure, alone and in the reference's batch."""
    info = reference.settings["info"]
    members = [cases[name] for name in info["batch"]["structures"]]
    runner = Runner(reference, cases, members, dtype, salt)
    limits = Limits(reference, dtype)
    for case in cases.values():
        yield from compare_structure(reference, runner, case, limits)
    for case in cases.values():
        yield from compare_rotated(reference, runner, case)
    batch = runner.pack([case.structure for case in members])
    values = runner.run(batch)
    start = 0
    for graph, case in enumerate(members):
        atoms = slice(start, start + len(case.structure))
        start = atoms.stop
        alone = runner.run(runner.pack([case.structure]))
        for quantity in ("node_embedding", "energy", "forces"):
            rows = slice(graph, graph + 1) if quantity == "energy" else atoms
            value = values[quantity][rows]
            label, limit = f"batch/{case.name}", limits.of_batching()
            error = relative_error(value, alone[quantity][: len(value)])
            yield Result(reference.name, label, f"{quantity} vs alone", error, limit)
            expected = reference.get("batch", quantity)
            if expected is not None:
                error = relative_error(value, expected[rows])
                limit = limits.of_own_frames("batch", quantity)
                yield Result(reference.name, label, f"{quantity} own", error, limit)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Largest relative errors allowed; see the README of the reference folder."""

    reference: Reference  # reference outputs of one model
    dtype: str  # precision of the run

    def of_given_frames(self, expected: np.ndarray, exact: float) -> float:
        """Limit with the reference's frames.

        Args:
            expected: the reference, which may be stored in float32.
            exact: change of our own float64 outputs when the input is rounded to float32, a lower
                bound of the error of any float32 run.
        """
        if self.dtype == "float32":
            return max(3 * exact, 1e-5)
        return 1e-9 if expected.dtype == np.float64 else 1e-7

    def of_own_frames(self, name: str, quantity: str) -> float:
        """Limit with our own frames: the reference's change by the choice of its frames.

        That is known from a single pair of draws for each structure, so the bound is a multiple
        of it, or the largest over all structures.
        """
        kind = {"node_embedding": "node"}.get(quantity, quantity)
        info = self.reference.settings["info"]
        largest = max(entry[f"roll_noise_{kind}"] for entry in info.values())
        limit = max(5 * info.get(name, {}).get(f"roll_noise_{kind}", 0.0), largest)
        return max(limit, 1e-5) if self.dtype == "float32" else limit

    def of_batching(self) -> float:
        """Limit for a structure alone and in a batch."""
        return 1e-9 if self.dtype == "float64" else 1e-5


def compare_structure(
    reference: Reference, runner: Runner, case: Case, limits: Limits
) -> Iterator[Result]:
    """All reference quantities of one structure, with its frames and with ours."""
    batch = runner.pack([case.structure])
    missing, frames = given_frames(reference, case.name, batch)
    yield Result(reference.name, case.name, "edges", float(missing), 0.0)
    if missing:
        return
    given, own = runner.run(batch, frames), runner.run(batch)
    rounding = rounding_errors(runner, case, frames) if runner.dtype == "float32" else {}
    for quantity, value in given.items():
        expected = reference.get(case.name, quantity)
        if expected is None:
            continue
        # The larger references keep only the first rows of wide arrays.
        error = relative_error(value[: len(expected)], expected)
        limit = limits.of_given_frames(expected, rounding.get(quantity, 0.0))
        yield Result(reference.name, case.name, quantity, error, limit)
        if quantity in ("node_embedding", "energy", "forces"):
            error = relative_error(own[quantity][: len(expected)], expected)
            limit = limits.of_own_frames(case.name, quantity)
            yield Result(reference.name, case.name, f"{quantity} own", error, limit)


def rounding_errors(runner: Runner, case: Case, frames: np.ndarray) -> dict[str, float]:
    """Relative changes of exact outputs from float32 rounding of weights and edge vectors."""
    with jax.enable_x64(True):
        exact = runner.pack([case.structure], "float64")
        rounded = jax.tree.map(
            lambda x: x.astype(np.float64) if x.dtype == np.float32 else x,
            runner.pack([case.structure], "float32"),
        )
        one, other = runner.run(exact, frames), runner.run(rounded, frames)
    return {key: relative_error(other[key], value) for key, value in one.items()}


def compare_rotated(reference: Reference, runner: Runner, case: Case) -> Iterator[Result]:
    """Rotation errors of energy and forces, with limits from those of the reference.

    The reference rotated every structure once, which may have been a lucky draw. With random
    frames our model is the reference, so its error is also measured here, for the very rotations
    that ours is. The bound is 1.5 times the larger of the two.
    """
    info = reference.settings["info"].get(case.name, {})
    own = rotation_errors(runner, case, random_frames=False)
    theirs = rotation_errors(runner, case, random_frames=True)
    for quantity, error, drawn in zip(("energy", "forces"), own, theirs, strict=True):
        limit = 1.5 * max(info.get(f"rotation_error_{quantity}", 0.0), drawn)
        yield Result(reference.name, case.name, f"{quantity} rotated", error, limit)


def rotation_errors(runner: Runner, case: Case, random_frames: bool) -> np.ndarray:
    """Relative errors of energy and forces, root mean square over some rotations."""
    rng = np.random.default_rng(0)

    def run(structure: Structure) -> dict[str, np.ndarray]:
        batch = runner.pack([structure])
        frames = rolled_frames(batch, rng) if random_frames else None
        values = runner.run(batch, frames)
        return {"energy": values["energy"][:1], "forces": values["forces"][: len(structure)]}

    plain = run(case.structure)
    errors = []
    for seed in range(ROTATIONS):
        rotation = random_rotation(seed)
        positions, cell = (x @ rotation.T for x in (case.structure.positions, case.structure.cell))
        turned = run(dataclasses.replace(case.structure, positions=positions, cell=cell))
        turned["forces"] = turned["forces"] @ rotation
        errors.append([relative_error(turned[key], plain[key]) for key in plain])
    return np.sqrt(np.mean(np.square(errors), axis=0))


def rolled_frames(batch: GraphBatch, rng: np.random.Generator) -> np.ndarray:
    """[E, 3, 3] frames with a random roll about each edge, as the original draws them."""
    vectors = np.asarray(batch.edge_vectors, np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    y = np.where(length > 0, -vectors / np.where(length > 0, length, 1), [0, 1, 0])
    z = np.cross(y, rng.normal(size=y.shape))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return np.stack([np.cross(y, z), y, z], axis=1)


def random_rotation(seed: int) -> np.ndarray:
    """[3, 3] a proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
