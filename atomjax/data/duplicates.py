"""Duplicate structures: within the parts of a data set, and between them.

Training structures in the test part make test errors too small. Exact duplicates have the same
atoms at the same places. Near duplicates are the same arrangement written otherwise (moved, turned,
with its atoms in another order) or displaced by some thousandths of an Å: every atom has the same
surroundings.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from atomjax.data.settings import SPLITS
from atomjax.structures.store import Store
from atomjax.structures.structure import Structure, periodic_basis

# Å; digits beyond depend on the format of a file.
ROUNDING = 1e-5
# Structures of a data set that are searched for near duplicates; more are sampled.
NEAR_SAMPLE = 2_000
# Å: radius of an atom's neighbourhood, and the widths of the sums over it.
REACH = 5.0
WIDTHS = (1.0, 2.0)
ALONE = 1e-6
# Nearest neighbours of an atom that are compared one by one.
NEAREST = 12
# Å, by which the distances to an atom's neighbours may differ.
TOLERANCE = 0.01
# Comparisons of one formula before its search ends: frames of a trajectory are much alike.
MOST_COMPARISONS = 2_000_000
# Structures of a store that are read because others have their energy.
MOST_READ = 20_000


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Counts of duplicates of one data set."""

    within: Mapping[str, int]  # part → structures that an earlier one of the part equals
    near: Mapping[str, int]  # part → structures, beyond those, that an earlier one nearly equals
    # (part, other part) → structures of the first that equal one of the other.
    shared: Mapping[tuple[str, str], int]
    # The same of those that, beyond these, nearly equal one.
    near_shared: Mapping[tuple[str, str], int]
    sampled: bool = False  # whether near duplicates were searched in a sample alone
    unread: int = 0  # structures of stores that count as unique, since too many would be read

    def lines(self) -> list[str]:
        """Description of the duplicates, one line each; none without duplicates."""
        lines = []
        for part, count in self.within.items():
            if count or self.near[part]:
                lines.append(f"{part}: {_counted(count, self.near[part])} of earlier ones in it")
        for (part, other), count in self.shared.items():
            near = self.near_shared[part, other]
            if count or near:
                lines.append(f"{part}: {_counted(count, near)} of structures in {other}")
        if lines and self.sampled:
            lines.append(f"near duplicates are those among {NEAR_SAMPLE:,} drawn at random")
        if self.unread:
            lines.append(
                f"duplicates were not searched among {self.unread:,} structures of stores, whose "
                "energies do not tell them apart"
            )
        return lines


def describe_shared(sets: Mapping[str, Mapping[str, Sequence[Structure]]]) -> list[str]:
    """Lines about held-out structures of one data set that another is trained on.

    Args:
        sets: data set → part → structures; "train" is trained on, the others are held out.
    """
    # Training parts first: those that come later are looked for among those before.
    places = {f"{part} of {name}": (part, name) for part in SPLITS for name in sets}
    found = count_duplicates({key: sets[n].get(part, ()) for key, (part, n) in places.items()})
    lines = []
    for (held_out, other), count in found.shared.items():
        (part, name), (trained, source) = places[held_out], places[other]
        near = found.near_shared[held_out, other]
        if part != "train" and trained == "train" and name != source and (count or near):
            lines.append(f"{held_out}: {_counted(count, near)} of structures in {other}")
    return lines


def _counted(exact: int, near: int) -> str:
    counts = [f"{exact:,} duplicates"] if exact else []
    counts += [f"{near:,} near duplicates"] if near else []
    return " and ".join(counts)


def count_duplicates(parts: Mapping[str, Sequence[Structure]]) -> Duplicates:
    """Count the duplicates within and between the parts of a data set.

    Args:
        parts: "train" first, then those that should hold nothing of it.
    """
    names = [name for name, structures in parts.items() if len(structures)]
    keys, unread = _exact_keys({name: parts[name] for name in names})
    pairs = [(b, a) for i, a in enumerate(names) for b in names[i + 1 :]]
    samples = {name: _sample(len(parts[name])) for name in names}
    chosen = [(n, int(i)) for n in names for i in samples[n]]
    twins = _near_twins([parts[name][i] for name, i in chosen])
    near = dict.fromkeys(names, 0)
    near_shared = dict.fromkeys(pairs, 0)
    for place, (name, index) in enumerate(chosen):
        own = [chosen[other] for other in twins.get(place, ())]
        exact = {n for n, i in own if keys[n][i] == keys[name][index]}
        found = {n for n, _ in own} - exact
        near[name] += name in found
        for part, other in pairs:
            near_shared[part, other] += part == name and other in found
    return Duplicates(
        within={name: len(keys[name]) - len(set(keys[name])) for name in names},
        near=near,
        shared={(b, a): sum(map(set(keys[a]).__contains__, keys[b])) for b, a in pairs},
        near_shared=near_shared,
        sampled=any(len(samples[name]) < len(parts[name]) for name in names),
        unread=unread,
    )


def _exact_keys(
    parts: Mapping[str, Sequence[Structure]],
) -> tuple[dict[str, list[bytes]], int]:
    """Part → for each structure a key that is the same for exact duplicates alone.

    Of a store, only those are read whose energies, kept in the index, are found elsewhere, and of
    these the first; the number of the others comes second.
    """
    energies = {}
    if any(isinstance(part, Store) for part in parts.values()):
        energies = {name: _sizes_and_energies(part) for name, part in parts.items()}
    often: set[bytes] = set()
    if energies:
        rows, counts = np.unique(np.concatenate([*energies.values()]), axis=0, return_counts=True)
        often = {row.tobytes() for row in rows[counts > 1]}
    keys: dict[str, list[bytes]] = {}
    unread = 0
    for name, part in parts.items():
        if not isinstance(part, Store):
            keys[name] = [exact_key(structure) for structure in part]
            continue
        rows = [row.tobytes() for row in energies[name]]
        again = [i for i, row in enumerate(rows) if row in often]
        # Structures that are not read count as unique.
        keys[name] = [f"{name} {i}".encode() for i in range(len(part))]
        for i in again[:MOST_READ]:
            keys[name][i] = exact_key(part[i])
        unread += len(again[MOST_READ:])
    return keys, unread


def _sizes_and_energies(structures: Sequence[Structure]) -> np.ndarray:
    """[S, 2] numbers of atoms and energies, of a store from its index."""
    if isinstance(structures, Store):
        return np.stack([structures.n_atom.astype(np.float64), structures.energies], axis=1)
    # As in the index of a store, no energy is zero.
    return np.array([[len(s), s.energy or 0.0] for s in structures])


def exact_key(structure: Structure) -> bytes:
    """The same for structures of the same atoms at the same places."""
    digest = hashlib.blake2b(structure.atomic_numbers.tobytes(), digest_size=16)
    for array in (structure.positions, structure.cell * structure.pbc[:, None]):
        # Adding zero turns -0 into 0.
        digest.update((np.round(array / ROUNDING) + 0.0).tobytes())
    digest.update(structure.pbc.tobytes())
    return digest.digest()


def _sample(count: int) -> np.ndarray:
    if count <= NEAR_SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0xD0B1).choice(count, NEAR_SAMPLE, replace=False))


def _near_twins(structures: Sequence[Structure]) -> dict[int, set[int]]:
    """Place of a structure → places of earlier ones that it nearly equals."""
    groups: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    for place, structure in enumerate(structures):
        groups[structure.formula, structure.pbc.tobytes()].append(place)
    twins: dict[int, set[int]] = defaultdict(set)
    for members in groups.values():
        if len(members) > 1:
            order = np.array(members)
            vectors = np.array([surroundings(structures[i]) for i in members])
            for first, second in _close_pairs(vectors):
                early, late = sorted((int(order[first]), int(order[second])))
                twins[late].add(early)
    return twins


def _close_pairs(vectors: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows [n, d] no entry of which differs by more than the tolerance."""
    order = np.argsort(vectors.mean(axis=1), kind="stable")
    rows = vectors[order]
    means, compared = rows.mean(axis=1), 0
    for step in range(1, len(rows)):
        # Rows whose means differ by more have an entry that does; sorted, they lie further apart.
        close = np.flatnonzero(means[step:] - means[:-step] <= TOLERANCE)
        compared += len(close)
        if not len(close) or compared > MOST_COMPARISONS:
            return
        alike = np.abs(rows[close + step] - rows[close]).max(axis=1) <= TOLERANCE
        for i in close[alike]:
            yield int(order[i]), int(order[i + step])


def surroundings(structure: Structure) -> np.ndarray:
    """Descriptors of the atoms' neighbourhoods, free of order and orientation; [N (NEAREST + 2)].

    Of each atom the distances to its nearest neighbours, and, to distinguish their elements, the
    logarithm of Σ_j Z_j exp(-(r_j / w)²) over all within reach for two widths w; each of them
    sorted within the element.
    """
    numbers = structure.atomic_numbers
    places, sources = _with_images(structure)
    pairs = KDTree(structure.positions).sparse_distance_matrix(
        KDTree(places), REACH, output_type="coo_matrix"
    )
    apart = pairs.data > 0
    distances, atoms = pairs.data[apart], pairs.row[apart]
    smooth = (1 - (distances / REACH) ** 2) ** 2 * numbers[sources[pairs.col[apart]]]
    columns = [*_nearest(distances, atoms, len(numbers)).T]
    for width in WIDTHS:
        terms = smooth * np.exp(-((distances / width) ** 2))
        # An atom alone has no surroundings, whose logarithm is this.
        columns.append(np.log(np.bincount(atoms, terms, minlength=len(numbers)) + ALONE))
    return np.concatenate([column[np.lexsort((column, numbers))] for column in columns])


def _nearest(distances: np.ndarray, atoms: np.ndarray, count: int) -> np.ndarray:
    """[N, NEAREST] distances to the nearest neighbours; the reach where there are fewer."""
    table = np.full((count, NEAREST), REACH)
    order = np.lexsort((distances, atoms))
    sorted_atoms = atoms[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_atoms, sorted_atoms)
    kept = place < NEAREST
    table[sorted_atoms[kept], place[kept]] = distances[order][kept]
    return table


def _with_images(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Places of all atoms within reach of the structure's own, and whose images they are."""
    positions, count = structure.positions, len(structure)
    if not structure.is_periodic:
        return positions, np.arange(count)
    cell, pbc = structure.cell, structure.pbc
    basis = periodic_basis(cell, pbc)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(basis), axis=0)
    fractional = positions @ np.linalg.inv(basis)
    extent = np.ptp(fractional, axis=0)
    most = np.where(pbc, np.ceil(REACH / heights + extent), 0).astype(int)
    ranges = [np.arange(-n, n + 1) for n in most]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3) @ basis
    places = (positions[None] + shifts[:, None]).reshape(-1, 3)
    inside = np.all(
        (places > positions.min(axis=0) - REACH) & (places < positions.max(axis=0) + REACH), axis=1
    )
    return places[inside], np.tile(np.arange(count), len(shifts))[inside]
