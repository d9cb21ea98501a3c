"""Graph settings of a model: cutoffs, neighbour limits, and the rules that make graphs.

By default every atom within the cutoff is a neighbour. Such graphs do not depend on how a structure
is written down (order of atoms, choice of cell), and energies are smooth where the model's basis
ends at the cutoff. A neighbour limit is for those who ask: graphs stay free of order and cell where
whole shells are kept or left, but energies step where neighbours change rank.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Symmetrization = Literal["union", "intersection", "index"]
Shells = Literal["keep", "leave", "cut"]

# Graphs beside the main one, in the names of their fields.
OTHERS = ("a2ee2a", "qint", "a2a")


@dataclass(frozen=True)
class GraphKind:
    """Graphs that a batch holds; code that builds and packs them reads these fields, no names.

    Attributes:
        others: graphs beside the main one, of ``OTHERS``.
        symmetric: every main edge is there with its reverse.
    """

    others: tuple[str, ...] = ()
    symmetric: bool = False


# By the name that configs and checkpoints have; a backbone that reads other graphs adds a kind.
KINDS = {
    "gemnet_oc": GraphKind(OTHERS, symmetric=True),
    "nearest": GraphKind(),
}

# Values before there was a choice, which a stored config without these fields has.
PUBLISHED_RULE: dict[str, Any] = {
    "cutoff_a2ee2a": None,
    "cutoff_qint": None,
    "cutoff_a2a": None,
    "symmetrization": "index",
    "shells": "cut",
    "shell_tolerance": 0.01,
}


@dataclass(frozen=True)
class GraphConfig:
    """Settings for building the graphs of a data set.

    Attributes:
        kind: key of ``KINDS``: "gemnet_oc" for its four graphs; "nearest" for a main graph alone,
            in which an edge need not have a reverse.
        cutoff: Å, of the main graph.
        cutoff_molecule: Å, the same for structures without a periodic direction; None: ``cutoff``.
        cutoff_a2ee2a: Å, of the atom-to-edge graph; None: that of the main graph. This field and
            all others of these three graphs are read for kinds that have them only.
        cutoff_qint: Å, of the quadruplet graph; None: that of the main graph.
        cutoff_a2a: Å, of the atom-to-atom graph, which the others draw from; None: that of the main
            graph.
        max_neighbors: nearest senders of each receiver in the main graph, before its
            symmetrisation; None for no limit.
        max_neighbors_a2ee2a: the same in the atom-to-edge graph.
        max_neighbors_qint: the same in the quadruplet graph, before the tag filter.
        max_neighbors_a2a: the same in the atom-to-atom graph.
        symmetrization: rule for main edges whose reverse a limit leaves out: "union" takes both
            edges, "intersection" neither. "index" decides by the order of the atoms, as the
            original does.
        shells: rule for ties at a limit, neighbours as far away as the last one taken: "keep" takes
            them all, more than the limit, "leave" none of them, fewer than the limit. "cut" takes
            some by the order of the atoms, as the originals do.
        shell_tolerance: Å, distances that differ by less count as equal there.
        qint_tags: a quadruplet's middle edge must have at least one end with such a tag.
        edge_dropout: probability that an edge within the cutoff, and with it its copies in all
            graphs, is dropped in training, before the nearest are chosen. An edge and its reverse
            are dropped together, but each for itself by the rule "index" and in kinds that are not
            symmetric.
    """

    kind: str = "gemnet_oc"
    cutoff: float = 5.0
    cutoff_molecule: float | None = None
    cutoff_a2ee2a: float | None = None
    cutoff_qint: float | None = None
    cutoff_a2a: float | None = None
    max_neighbors: int | None = None
    max_neighbors_a2ee2a: int | None = None
    max_neighbors_qint: int | None = None
    max_neighbors_a2a: int | None = None
    symmetrization: Symmetrization = "union"
    shells: Shells = "keep"
    shell_tolerance: float = 0.01
    qint_tags: tuple[int, ...] = (1, 2)
    edge_dropout: float = 0.0

    def __post_init__(self):
        rules = {"symmetrization": get_args(Symmetrization), "shells": get_args(Shells)}
        for name, known in {"kind": tuple(KINDS), **rules}.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"GraphConfig.{name} is {value!r}: give one of {known}")
        for name in ("cutoff", "cutoff_molecule", *(f"cutoff_{graph}" for graph in OTHERS)):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"GraphConfig.{name} is {value}: give Å, above 0")
        for name in ("max_neighbors", *(f"max_neighbors_{graph}" for graph in OTHERS)):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"GraphConfig.{name} is {value}: give at least 1, or None")
        if not self.shell_tolerance >= 0:
            raise ValueError(
                f"GraphConfig.shell_tolerance is {self.shell_tolerance}: give Å, at least 0"
            )
        if not 0 <= self.edge_dropout < 1:
            raise ValueError(f"GraphConfig.edge_dropout is {self.edge_dropout}: give 0 <= p < 1")
        if "a2a" in KINDS[self.kind].others:
            self._check_a2a()

    def _check_a2a(self) -> None:
        """Makes sure that the graph which the others are chosen from holds them."""
        most = self.max_neighbors_a2a
        for name in ("max_neighbors", "max_neighbors_a2ee2a", "max_neighbors_qint"):
            value = getattr(self, name)
            if most is not None and value is not None and value > most:
                raise ValueError(
                    f"GraphConfig.{name} is {value}, more than max_neighbors_a2a ({most}), the "
                    "graph it draws from: raise the latter"
                )
        for periodic in (True, False):
            cutoffs = self.cutoffs(periodic)
            for graph, value in cutoffs.items():
                if value > cutoffs["a2a"]:
                    raise ValueError(
                        f"GraphConfig: the {graph} graph ends at {value} Å, farther than the a2a "
                        f"graph ({cutoffs['a2a']} Å), which it draws from: raise cutoff_a2a"
                    )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "GraphConfig":
        """The graphs in a checkpoint; fields missing in older ones are the published rule's."""
        fields = {**fields, "qint_tags": tuple(fields["qint_tags"])}
        return cls(**(fields if "symmetrization" in fields else {**PUBLISHED_RULE, **fields}))

    def cache_key(self) -> dict[str, Any]:
        """Fields for hashes that name files; those of ``PUBLISHED_RULE`` only where one differs."""
        fields = dataclasses.asdict(self)
        rule = {name: fields[name] for name in PUBLISHED_RULE}
        return {k: v for k, v in fields.items() if rule != PUBLISHED_RULE or k not in rule}

    def cutoffs(self, periodic: bool) -> dict[str, float]:
        """Graph → Å where it ends, "main" first.

        Args:
            periodic: whether the structures have a periodic direction.
        """
        whole = periodic or self.cutoff_molecule is None
        main = self.cutoff if whole else float(self.cutoff_molecule or 0)
        given = {graph: getattr(self, f"cutoff_{graph}") for graph in KINDS[self.kind].others}
        return {"main": main, **{g: main if own is None else own for g, own in given.items()}}


def limits_in_proportion(max_neighbors: int) -> dict[str, int]:
    """Limits in GemNet-OC's proportions (30 : 20 : 8 : 1000), by field of ``GraphConfig``."""
    return {
        "max_neighbors": max_neighbors,
        "max_neighbors_a2ee2a": int(max_neighbors * 20 / 30),
        "max_neighbors_qint": int(max_neighbors * 8 / 30),
        "max_neighbors_a2a": int(max_neighbors * 1000 / 30),
    }
