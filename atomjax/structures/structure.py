"""One labelled arrangement of atoms, checked when it is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from atomjax.structures.elements import MAX_ATOMIC_NUMBER, hill_formula

TAG_SUBSURFACE, TAG_SURFACE, TAG_ADSORBATE = 0, 1, 2

# Atoms nearer than this (Å) are one atom written twice: the shortest bond known, H2, is 0.74 Å.
COINCIDENT_DISTANCE = 1e-3
# Lattice vectors of unit length that span less than this have lost a dimension.
SINGULAR_VOLUME = 1e-6


class StructureError(ValueError):
    """A structure that cannot be right; the message names the structure and the field."""


@dataclass(frozen=True, eq=False, init=False)
class Structure:
    """Atoms, their surroundings and their labels; every array is a private, read-only copy.

    N is the number of atoms.

    Attributes:
        atomic_numbers: [N] int32, 1 to 118.
        positions: [N, 3] float64, Å.
        cell: [3, 3] float64, Å; rows are lattice vectors, zeros where there is none.
        pbc: [3] bool, the directions that repeat.
        tags: [N] int32, 0 below the surface, 1 at it, 2 adsorbate or molecule.
        fixed: [N] bool, atoms held in place, whose forces no error counts.
        energy: eV, or None where there is no label.
        forces: [N, 3] float64, eV/Å, or None where there is no label.
        stress: [3, 3] float64, eV/Å³, dE/dε / V, so that tension is positive; or None.
        targets: named properties: numbers in the units that their data set states, or classes.
        class_key: the unit of class balancing: a molecule, a reaction, a slab-adsorbate pair.
        source: name of the data set.
        identifier: name of the structure in errors, such as ``aspirin.xyz:17``.
    """

    atomic_numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    tags: np.ndarray
    fixed: np.ndarray
    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None
    targets: Mapping[str, float | str]
    class_key: str
    source: str
    identifier: str

    def __init__(
        self,
        *,
        atomic_numbers: ArrayLike,
        positions: ArrayLike,
        cell: ArrayLike | None = None,
        pbc: ArrayLike = False,
        tags: ArrayLike | None = None,
        fixed: ArrayLike | None = None,
        energy: float | None = None,
        forces: ArrayLike | None = None,
        stress: ArrayLike | None = None,
        targets: Mapping[str, float | str] | None = None,
        class_key: str = "",
        source: str = "",
        identifier: str = "",
    ) -> None:
        """Check and copy the fields.

        Args:
            atomic_numbers: [N].
            positions: [N, 3], Å.
            cell: [3, 3], Å, or None for no lattice.
            pbc: [3], or one bool for all three directions.
            tags: [N]; all 2 where not given.
            fixed: [N]; no atom where not given.
            energy: eV.
            forces: [N, 3], eV/Å.
            stress: [3, 3], eV/Å³, of a structure that repeats in all directions.
            targets: named numbers, and classes as text.
            class_key: the Hill formula where not given.
            source: name of the data set.
            identifier: name of the structure in errors.

        Raises:
            StructureError: a wrong shape, a number that is not finite, an unknown element, a cell
                that is singular in the periodic directions, or two atoms at one place.
        """
        self._set("source", str(source))
        self._set("identifier", str(identifier))
        self._set_atoms(atomic_numbers, positions, tags, fixed)
        self._set_lattice(cell, pbc)
        self._check_distances()
        self._set("energy", None if energy is None else self._number("energy", energy))
        shape = (len(self), 3)
        self._set(
            "forces", None if forces is None else self._array("forces", forces, np.float64, shape)
        )
        self._set_stress(stress)
        named = (targets or {}).items()
        self._set("targets", {str(name): self._target(str(name), v) for name, v in named})
        self._set("class_key", str(class_key) or self.formula)

    @classmethod
    def unchecked(cls, **fields: Any) -> Self:
        """A structure from all fields of one that was checked before, as a store keeps them.

        Args:
            **fields: every field, with the shape and type that the class documents; arrays are
                taken as they are and made read-only.
        """
        structure = object.__new__(cls)
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(structure, name, value)
        return structure

    def __len__(self) -> int:
        return int(self.atomic_numbers.shape[0])

    def __repr__(self) -> str:
        return f"Structure({self.identifier or self.source or 'unnamed'}: {self.formula})"

    @property
    def formula(self) -> str:
        """Hill formula, such as ``C2H6O``."""
        return hill_formula(self.atomic_numbers)

    @property
    def is_periodic(self) -> bool:
        """Whether the structure repeats in any direction."""
        return bool(np.any(self.pbc))

    def _fail(self, name: str, problem: str) -> StructureError:
        where = self.identifier or self.source or "unnamed structure"
        return StructureError(f"{where}: {name}: {problem}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _array(self, name: str, value: ArrayLike, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """A checked, read-only copy of one field's value."""
        try:
            given = np.asarray(value)
            # NaN has no integer: the comparison below finds it.
            with np.errstate(invalid="ignore"):
                array = given.astype(dtype)
        except (TypeError, ValueError) as error:
            raise self._fail(name, f"is not an array of {np.dtype(dtype)}: {error}") from error
        if array.shape != shape:
            raise self._fail(name, f"shape {list(array.shape)}, expected {list(shape)}")
        if np.issubdtype(dtype, np.floating):
            finite = np.isfinite(array)
            if not finite.all():
                first = [int(i) for i in np.argwhere(~finite)[0]]
                raise self._fail(
                    name,
                    f"{int((~finite).sum())} entries are not finite, the first at {first};"
                    " drop this record or mend its source",
                )
        elif not np.array_equal(given, array):
            raise self._fail(name, f"entries must be {np.dtype(dtype)}, got {given.dtype}")
        array.setflags(write=False)
        return array

    def _set_atoms(
        self,
        atomic_numbers: ArrayLike,
        positions: ArrayLike,
        tags: ArrayLike | None,
        fixed: ArrayLike | None,
    ) -> None:
        count = int(np.size(np.asarray(atomic_numbers)))
        if count == 0:
            raise self._fail("atomic_numbers", "there are no atoms")
        numbers = self._array("atomic_numbers", atomic_numbers, np.int32, (count,))
        unknown = (numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)
        if unknown.any():
            atom = int(np.argmax(unknown))
            raise self._fail(
                "atomic_numbers",
                f"atom {atom} has {int(numbers[atom])}, known are 1 to {MAX_ATOMIC_NUMBER}",
            )
        self._set("atomic_numbers", numbers)
        self._set("positions", self._array("positions", positions, np.float64, (count, 3)))
        layers = np.full(count, TAG_ADSORBATE) if tags is None else tags
        checked = self._array("tags", layers, np.int32, (count,))
        if checked.min() < TAG_SUBSURFACE or checked.max() > TAG_ADSORBATE:
            raise self._fail(
                "tags",
                f"values {sorted(set(checked.tolist()))}; 0 is below the surface, 1 at the surface,"
                " 2 an adsorbate or molecule (use_tags=false leaves tags that number layers out)",
            )
        self._set("tags", checked)
        held = np.zeros(count, dtype=bool) if fixed is None else fixed
        self._set("fixed", self._array("fixed", held, np.bool_, (count,)))

    def _set_lattice(self, cell: ArrayLike | None, pbc: ArrayLike) -> None:
        given = np.zeros((3, 3)) if cell is None else cell
        self._set("cell", self._array("cell", given, np.float64, (3, 3)))
        directions = np.full(3, pbc) if np.ndim(pbc) == 0 else pbc
        self._set("pbc", self._array("pbc", directions, np.bool_, (3,)))
        vectors = self.cell[self.pbc]
        lengths = np.linalg.norm(vectors, axis=1)
        if (lengths == 0).any():
            raise self._fail(
                "cell",
                f"a periodic direction (pbc {self.pbc.tolist()}) has a zero lattice vector;"
                " give the cell, or set pbc to False there",
            )
        unit = vectors / lengths[:, None]
        if np.sqrt(max(np.linalg.det(unit @ unit.T), 0.0)) < SINGULAR_VOLUME:
            raise self._fail(
                "cell",
                "singular: the lattice vectors of the periodic directions are linearly dependent",
            )

    def _set_stress(self, stress: ArrayLike | None) -> None:
        if stress is None:
            self._set("stress", None)
            return
        if not self.pbc.all():
            raise self._fail(
                "stress", f"pbc is {self.pbc.tolist()}; only what repeats in all directions has one"
            )
        array = self._array("stress", stress, np.float64, (3, 3))
        if not np.allclose(array, array.T, rtol=1e-3, atol=1e-6):
            raise self._fail("stress", f"is not symmetric: {array.tolist()}; mend its source")
        self._set("stress", array)

    def _check_distances(self) -> None:
        pair = coincident_atoms(self.positions, self.cell, self.pbc)
        if pair is not None:
            raise self._fail(
                "positions",
                f"atoms {pair[0]} and {pair[1]} are at the same place"
                f" (within {COINCIDENT_DISTANCE} Å, periodic images counted)",
            )

    def _target(self, name: str, value: Any) -> float | str:
        if not isinstance(value, str):
            return self._number(f"targets[{name!r}]", value)
        if not value.strip():
            raise self._fail(f"targets[{name!r}]", "is empty; leave out what has no class")
        return str(value)

    def _number(self, name: str, value: Any) -> float:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "fiu":
            raise self._fail(name, f"must be one number, got {value!r}")
        number = float(array.reshape(()))
        if not np.isfinite(number):
            raise self._fail(name, f"is {number}; drop this record or mend its source")
        return number


def coincident_atoms(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> tuple[int, int] | None:
    """The first two atoms that share a place, periodic images counted, or None.

    Args:
        positions: [N, 3] Å.
        cell: [3, 3] Å, rows are lattice vectors.
        pbc: [3] bool.
    """
    if len(positions) < 2:
        return None
    basis = periodic_basis(cell, pbc)
    fractional = positions @ np.linalg.inv(basis)
    fractional[:, pbc] -= np.floor(fractional[:, pbc])
    # -1e-20 floors to 1.0, which the tree's box excludes.
    fractional[:, pbc] %= 1.0
    lengths = np.linalg.norm(basis, axis=1)
    tree = KDTree(fractional * lengths, boxsize=np.where(pbc, lengths, 0.0))
    # A skewed cell bends distances in these coordinates: search wider, then measure.
    pairs = tree.query_pairs(10 * COINCIDENT_DISTANCE, output_type="ndarray")
    if len(pairs) == 0:
        return None
    delta = fractional[pairs[:, 0]] - fractional[pairs[:, 1]]
    delta[:, pbc] -= np.round(delta[:, pbc])
    close = np.linalg.norm(delta @ basis, axis=1) < COINCIDENT_DISTANCE
    if not close.any():
        return None
    return min((int(i), int(j)) for i, j in pairs[close])


def periodic_basis(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The periodic lattice vectors, completed by unit vectors normal to them; [3, 3] Å."""
    basis = np.array(cell, dtype=np.float64)
    periodic = basis[pbc]
    if len(periodic) < 3:
        rows = np.linalg.svd(periodic).Vh if len(periodic) else np.eye(3)
        basis[~pbc] = rows[len(periodic) :]
    return basis
