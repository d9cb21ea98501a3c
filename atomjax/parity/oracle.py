"""Reading a folder of reference numbers."""

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.structures import Structure

GRAPHS = ("main", "a2a", "a2ee2a", "qint")


class OracleError(ValueError):
    """The folder of reference numbers lacks something or contradicts itself."""


@dataclasses.dataclass(frozen=True)
class EdgeSet:
    """Reference edges of one graph: [2, E] source and target, [E, 3] offsets, [E] Å, [E, 3]."""

    edge_index: np.ndarray
    offsets: np.ndarray
    distances: np.ndarray
    vectors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Case:
    """One structure with its reference edges."""

    name: str
    structure: Structure
    edges: dict[str, EdgeSet]

    @property
    def is_crystal(self) -> bool:
        """Periodic, and no atom is marked as surface, sub-surface or adsorbate apart from others.

        In such bulk cells edges to opposite images of an atom are exactly collinear, so the
        originals take angles of cross products that are pure rounding.
        """
        return bool(self.structure.pbc.all()) and len(set(self.structure.tags.tolist())) == 1


@dataclasses.dataclass(frozen=True)
class Reference:
    """Reference outputs of one model: its settings and the arrays "structure/quantity"."""

    name: str
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def get(self, structure: str, quantity: str) -> np.ndarray | None:
        """The array, or None where the reference does not have it."""
        return self.arrays.get(f"{structure}/{quantity}")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file; raises OracleError if the file is missing."""
    if not path.is_file():
        raise OracleError(f"{path} is missing; --oracle names a folder with structures.npz in it.")
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def read_cases(folder: Path) -> dict[str, Case]:
    """The structures of ``structures.npz`` with their reference edges, in file order."""
    arrays = read_arrays(folder / "structures.npz")
    names = list(dict.fromkeys(key.split("/")[0] for key in arrays))
    cases = {}
    for name in names:
        structure = Structure(
            atomic_numbers=arrays[f"{name}/atomic_numbers"],
            positions=arrays[f"{name}/positions"],
            cell=arrays[f"{name}/cell"] if arrays[f"{name}/pbc"].any() else None,
            pbc=arrays[f"{name}/pbc"],
            tags=arrays[f"{name}/tags"],
            identifier=name,
        )
        edges = {
            graph: EdgeSet(
                edge_index=arrays[f"{name}/{graph}/edge_index"].astype(np.int64),
                offsets=arrays[f"{name}/{graph}/cell_offset"].astype(np.int64),
                distances=arrays[f"{name}/{graph}/distance"],
                vectors=arrays[f"{name}/{graph}/vector"],
            )
            for graph in GRAPHS
        }
        cases[name] = Case(name=name, structure=structure, edges=edges)
    return cases


def read_reference(folder: Path, name: str) -> Reference:
    """Settings and arrays of one model."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise OracleError(f"{path} is missing: no reference numbers for the model {name!r}.")
    settings = json.loads(path.read_text())
    return Reference(name=name, settings=settings, arrays=read_arrays(folder / f"{name}.npz"))


def rule_uniform(name: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    """Numbers in U(-1, 1) that depend on the parameter's name and the salt alone, float64."""
    seed = [salt, zlib.crc32(name.encode())]
    return np.random.default_rng(seed).uniform(-1, 1, shape)
