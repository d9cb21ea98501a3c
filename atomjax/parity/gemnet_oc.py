"""GemNet-OC against the original: edges, features, energies, direct and conservative forces."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atomjax.convert.family import fill
from atomjax.convert.gemnet_oc.convert import GemNetOCFamily
from atomjax.convert.gemnet_oc.names import checkpoint_entries
from atomjax.graphs import (
    Sizes,
    build_given,
    build_interactions,
    fit_capacity,
    pack,
)
from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.interactions import Edges, InteractionGraphs, edge_keys
from atomjax.models import AtomicModel, HeadConfig, build_model
from atomjax.models.gemnet_oc import PUBLISHED_GRAPH, GemNetOCConfig
from atomjax.parity.oracle import GRAPHS, Case, EdgeSet, Reference, rule_uniform
from atomjax.parity.result import Result, relative_error

CONFIG = PUBLISHED_GRAPH
# Å within which two neighbours are equally far.
TIE = 1e-4
HEAD = HeadConfig(name="task0", kind="energy_forces", forces="direct")


@dataclasses.dataclass(frozen=True)
class Limits:
    """Largest relative errors allowed; see the README of the reference folder."""

    dtype: str  # precision of the run
    # (structure, quantity) → change by rounding the edge vectors to float32 alone, a lower bound of
    # the error of any float32 run.
    rounding: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)

    def of(self, case: Case, quantity: str, reference: Reference) -> float:
        """Limit of one quantity of one structure."""
        if self.dtype == "float64":
            if case.is_crystal:
                return 1e-6
            return 1e-7 if quantity == "conservative_forces" else 1e-9
        if case.is_crystal:
            return 1e-4
        exact, rounded = (reference.get(case.name, quantity + end) for end in ("", "_f32"))
        if exact is None or rounded is None:
            own = self.rounding.get((case.name, quantity), 0.0)
        else:
            own = relative_error(rounded, exact)
        return max(3 * own, 1e-5)


def model_of(reference: Reference) -> AtomicModel:
    """The model that the reference's settings describe."""
    settings = reference.settings["config"]
    fields = {field.name for field in dataclasses.fields(GemNetOCConfig)}
    shared = {key: settings[key] for key in fields & settings.keys()}
    shared["dropout"] = shared["edge_dropout"] = 0.0
    shared["rbf_cutoff"] = settings["absolute_rbf_cutoff"]
    shared["envelope_exponent"] = settings["envelope"]["exponent"]
    return build_model({"name": "gemnet_oc_small", **shared}, [HEAD])


def rule_weight(name: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    """Weight of a checkpoint entry by the rule of the reference folder."""
    u = rule_uniform(name, shape, salt)
    if "embedding" in name:
        scale = math.sqrt(3)
    elif name.endswith("bias"):
        scale = 0.1
    elif len(shape) == 3:
        scale = math.sqrt(3 / (shape[0] * shape[1]))
    else:
        scale = 0.85 * math.sqrt(3 / shape[1])
    return (scale * u).astype(np.float32)


def rule_variables(model: AtomicModel, reference: Reference, batch: GraphBatch, salt: int):
    """Variables of the model: weights by the rule, scale factors from the reference."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    factors = reference.settings["scale_factors"]
    entries = {
        name: (
            np.asarray(factors[name], np.float32)
            if collection == "scale_factors"
            else rule_weight(name, shape, salt)
        )
        for collection, _, name, shape in checkpoint_entries(shapes, model.heads)
    }
    return fill(shapes, model.heads, GemNetOCFamily(), entries)


@partial(jax.jit, static_argnums=0)
def outputs(model: AtomicModel, variables: Any, batch: GraphBatch) -> dict[str, jax.Array]:
    """Everything that is compared, in one compiled function."""

    def energy(displacement):
        (heads, features), state = model.apply(
            variables, batch, displacement, method=_all, mutable=["intermediates"]
        )
        found = heads[HEAD.name]
        blocks = {key: value[0] for key, value in state["intermediates"]["backbone"].items()}
        values = {"node": features.node, "edge": features.edge, **blocks}
        values |= {"e_atom": found.atom_contributions, "energy": found.energy}
        return found.energy.sum(), {**values, "forces": found.forces}

    zero = jnp.zeros_like(batch.positions)
    gradient, values = jax.grad(energy, has_aux=True)(zero)
    return {**values, "conservative_energy": values["energy"], "conservative_forces": -gradient}


def _all(model: AtomicModel, batch: GraphBatch, displacement: jax.Array):
    features = model.features(batch, displacement)
    heads = {c.name: getattr(model, f"head_{c.name}")(features, batch) for c in model.heads}
    return heads, features


def given_graphs(case: Case) -> InteractionGraphs:
    """The graphs that a model is compared on.

    They are made of the original's edges where ours differ from them by ties alone, which decide
    nothing then; else they are ours, and what the edges change shows in the outputs.
    """
    own = build_interactions(case.structure, CONFIG)
    if any(differing_edges(case, own, name)[0] for name in GRAPHS):
        return own
    keys = {name: oracle_edge_keys(case.edges[name]) for name in GRAPHS}
    return build_given(case.structure, CONFIG, keys)


def differing_edges(case: Case, graphs: InteractionGraphs, name: str) -> tuple[int, int]:
    """Numbers of edges that are in one of two sets alone, less ties, and of ties.

    At a limit between neighbours of one distance either choice is right.
    """
    ours, theirs = _directed(graphs, name), case.edges[name]
    mine, other = _places(edge_keys(ours)), _places(oracle_edge_keys(theirs))
    ties = count_ties(
        {key: ours.distances[mine[key]] for key in mine.keys() - other.keys()},
        {key: theirs.distances[other[key]] for key in other.keys() - mine.keys()},
    )
    return len(mine.keys() ^ other.keys()) - 2 * ties, ties


def compare_edges(case: Case, graphs: InteractionGraphs, limit: float) -> Iterator[Result]:
    """Edge sets (0 if equal but for ties, else the number that differ) and common vectors."""
    for name in GRAPHS:
        differing, ties = differing_edges(case, graphs, name)
        label = f"{name} edges" + (f", {ties} tied" if ties else "")
        yield Result("graphs", case.name, label, float(differing), 0.0)
        if not differing:
            ours, theirs = _directed(graphs, name), case.edges[name]
            mine, other = _places(edge_keys(ours)), _places(oracle_edge_keys(theirs))
            common = [key for key in other if key in mine]
            own, given = ([places[key] for key in common] for places in (mine, other))
            unit = ours.vectors[own] / ours.distances[own, None]
            error = max(
                relative_error(ours.distances[own], theirs.distances[given]),
                relative_error(unit, theirs.vectors[given]),
            )
            yield Result("graphs", case.name, f"{name} vectors", error, limit)


def _directed(graphs: InteractionGraphs, name: str) -> Edges:
    return graphs.main_directed if name == "main" else getattr(graphs, name)


def _places(keys: list[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    return {key: place for place, key in enumerate(keys)}


def count_ties(
    ours: Mapping[tuple[int, ...], float], theirs: Mapping[tuple[int, ...], float]
) -> int:
    """Edges of ours that stand for one of theirs with the same receiver and distance.

    Args:
        ours: edges that the reference does not have → their lengths in Å.
        theirs: the reference's edges that we do not have, likewise.
    """

    def lengths(edges: Mapping[tuple[int, ...], float]) -> Counter[tuple[int, float]]:
        return Counter((key[1], round(length / TIE)) for key, length in edges.items())

    return (lengths(ours) & lengths(theirs)).total()


def oracle_edge_keys(edges: EdgeSet) -> list[tuple[int, ...]]:
    """(source, target, offset) of reference edges."""
    return [tuple(row) for row in np.c_[edges.edge_index.T, edges.offsets].tolist()]


def symmetrised_keys(case: Case) -> list[tuple[int, ...]]:
    """Keys of the symmetrised main edges in the original's order: kept edges, then reverses."""
    keys = oracle_edge_keys(case.edges["main"])
    kept = [k for k in keys if k[0] < k[1] or (k[0] == k[1] and k[2:] < (0, 0, 0))]
    return kept + [(t, s, *(-o for o in offset)) for s, t, *offset in kept]


NODE_QUANTITIES = ("node", "e_atom", "forces", "conservative_forces")
GRAPH_QUANTITIES = ("energy", "conservative_energy")


def compare_model(
    reference: Reference, cases: dict[str, Case], dtype: str, salt: int
) -> Iterator[Result]:
    """Compares one model on every structure, alone and in the reference's batch."""
    model = model_of(reference)
    # The larger references hold no batch.
    batch = reference.settings["info"].get("batch", {"structures": []})
    members = [cases[name] for name in batch["structures"]]
    runner = Runner(reference, model, cases, members, dtype, salt)
    limits = Limits(dtype, {} if dtype == "float64" else rounding_errors(runner))
    batched = runner.run(members)
    singles = {}
    for case in cases.values():
        singles[case.name] = runner.run([case])
        yield from compare_structure(
            reference, case, runner.graphs[case.name], singles[case.name], limits
        )
    yield from compare_batch(reference, members, batched, singles, limits)


class Runner:
    """Runs one model on structures, all in one shape, so that one compilation serves all."""

    def __init__(
        self,
        reference: Reference,
        model: AtomicModel,
        cases: dict[str, Case],
        members: list[Case],
        dtype: str,
        salt: int,
    ):
        self.model, self.dtype, self.cases = model, dtype, cases
        self.graphs = {name: given_graphs(case) for name, case in cases.items()}
        sizes = Sizes.measure(list(self.graphs.values()))
        order = list(cases)
        groups = [np.array([order.index(case.name) for case in members])]
        groups += [np.array([i]) for i in range(len(order))]
        self.capacity = fit_capacity(sizes.needs(groups))
        batch = pack([], [], self.capacity, kind=CONFIG.kind)
        self.variables = rule_variables(model, reference, batch, salt)

    def run(
        self, cases: list[Case], dtype: str | None = None, vectors: str | None = None
    ) -> dict[str, np.ndarray]:
        """Outputs of the cases as one batch, from edge vectors rounded to ``vectors``."""
        dtype = dtype or self.dtype
        stored = np.dtype(vectors or dtype)
        graphs = [self.graphs[case.name] for case in cases]
        structures = [case.structure for case in cases]
        batch = pack(graphs, structures, self.capacity, dtype=stored, kind=CONFIG.kind)
        batch = jax.tree.map(lambda x: x.astype(dtype) if x.dtype == stored else x, batch)
        variables = jax.tree.map(lambda x: np.asarray(x, dtype), self.variables)
        return jax.device_get(outputs(self.model, variables, batch))


def rounding_errors(runner: Runner) -> dict[tuple[str, str], float]:
    """Relative changes of each structure's exact outputs from float32 rounding of edge vectors.

    The references record the originals' float32 error for energies and direct forces only. For the
    rest this is a lower bound of it, which the problem's conditioning sets: conservative forces of
    slabs, for one, hang on dihedrals of nearly collinear atoms.
    """
    errors = {}
    with jax.enable_x64(True):
        for case in runner.cases.values():
            exact = runner.run([case], "float64")
            rounded = runner.run([case], "float64", vectors="float32")
            for quantity, value in exact.items():
                errors[case.name, quantity] = relative_error(rounded[quantity], value)
    return errors


def compare_structure(
    reference: Reference,
    case: Case,
    graphs: InteractionGraphs,
    values: dict[str, np.ndarray],
    limits: Limits,
) -> Iterator[Result]:
    """All reference quantities of one structure, whose outputs on ``graphs`` are ``values``."""
    num_atoms = len(case.structure)
    mine = _places(edge_keys(graphs.main))
    # Of an edge that is not there, a place beyond all: its outputs are not a number.
    order = [mine.get(key, len(mine)) for key in symmetrised_keys(case)]
    stated = reference.settings["info"].get(case.name, {}).get("main_edges_symmetrised")
    if stated is not None:
        error = float(abs(stated - len(graphs.main.senders)))
        yield Result(reference.name, case.name, "symmetrised edges", error, 0.0)
    for quantity, value in values.items():
        expected = reference.get(case.name, quantity)
        if expected is None:
            continue
        if quantity.startswith(("m_block", "edge")):
            value = np.append(value[: len(mine)], np.full((1, *value.shape[1:]), np.nan), axis=0)
            value = value[order]
        elif quantity in GRAPH_QUANTITIES:
            value = value[:1]
        else:
            value = value[:num_atoms]
        # The larger references keep only the first rows of wide arrays.
        error = relative_error(value[: len(expected)], expected)
        limit = limits.of(case, quantity, reference)
        yield Result(reference.name, case.name, quantity, error, limit)


def compare_batch(
    reference: Reference,
    members: list[Case],
    batched: dict[str, np.ndarray],
    singles: dict[str, dict[str, np.ndarray]],
    limits: Limits,
) -> Iterator[Result]:
    """The batch against the reference's batch and against our own single structures."""
    start = 0
    for graph, case in enumerate(members):
        atoms, row = slice(start, start + len(case.structure)), slice(graph, graph + 1)
        start = atoms.stop
        for quantity in NODE_QUANTITIES + GRAPH_QUANTITIES:
            rows = row if quantity in GRAPH_QUANTITIES else atoms
            value, limit = batched[quantity][rows], limits.of(case, quantity, reference)
            expected = reference.get("batch", quantity)
            if expected is not None:
                error = relative_error(value, expected[rows])
                label = f"batch/{case.name}"
                yield Result(reference.name, label, quantity, error, limit)
            alone = singles[case.name][quantity][: len(value)]
            error = relative_error(value, alone)
            yield Result(reference.name, f"batch/{case.name}", f"{quantity} vs alone", error, limit)
