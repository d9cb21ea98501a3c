"""Small organic molecules: which there are, and how they lie in space."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atomjax.structures.generate.errors import GenerateError, LabelError, missing_package
from atomjax.structures.generate.geometry import check_clashes
from atomjax.structures.generate.labels import XtbLabeler, check_force
from atomjax.structures.structure import Structure

# Two to ten heavy atoms of C, N and O: the common functional groups, rings and biochemical pieces.
SMILES: tuple[str, ...] = (
    *"CC CCC CCCC CC(C)C CCCCC CC(C)(C)C CCCCCC C=C CC=C CC(C)=C C=CC=C CC=CC C=C=C".split(),
    *"C#C CC#C CC#CC C=CC#C C1CC1 C1CCC1 C1CCCC1 C1CCCCC1 C1=CC1 C1=CCC1 C1=CCCC1".split(),
    *"C1=CCC=C1 C1=CCCCC1 CC1CC1 CO CCO CCCO CC(C)O CCCCO CC(C)(C)O OCCO OCC(O)CO".split(),
    *"COC CCOC CCOCC COCOC C1CO1 CC1CO1 C1COC1 C1CCOC1 C1CCOCC1 C1COCCO1".split(),
    *"C=O CC=O CCC=O CC(C)=O CCC(C)=O O=CC=O CC(=O)C=O CC(=O)C(C)=O C=CC=O C=CC(C)=O".split(),
    *"O=C1CCC1 O=C1CCCC1 O=C1CCCCC1 C=C=O OC=C OC=CC=O CC(=O)CC(C)=O O=CO CC(=O)O".split(),
    *"CCC(=O)O OCC(=O)O CC(O)C(=O)O CC(=O)C(=O)O OC(=O)C(=O)O C=CC(=O)O COC=O CC(=O)OC".split(),
    *"CC(=O)OCC O=C1CCCO1 COC(=O)OC CC(=O)OC(C)=O CN CCN CCCN CC(C)N CNC CN(C)C".split(),
    *"CCNCC CCN(CC)CC NCCN NCCO C1CN1 C1CNC1 C1CCNC1 C1CCNCC1 C1CNCCN1 C1COCCN1".split(),
    *"NN CNN NO CON C=N CC=N C=NO CC(C)=NO CC#N CCC#N C=CC#N N#CC#N OCC#N NCC#N".split(),
    *"N#CCC#N NC=O CNC=O CN(C)C=O CC(N)=O CC(=O)NC CC(=O)N(C)C NC(N)=O CNC(=O)NC".split(),
    *"NC(N)=N NC(=O)C=C O=C1CCCN1 O=C1CCN1 NC(=O)C(N)=O CN=C=O C[N+](=O)[O-]".split(),
    *"CC[N+](=O)[O-] NCC(=O)O CC(N)C(=O)O CC(N)C(N)=O OCC(N)C(=O)O CNCC(=O)O NCC(N)=O".split(),
    *"c1ccccc1 Cc1ccccc1 Oc1ccccc1 Nc1ccccc1 COc1ccccc1 C=Cc1ccccc1 O=Cc1ccccc1".split(),
    *"N#Cc1ccccc1 CC(=O)c1ccccc1 OC(=O)c1ccccc1 Oc1ccccc1O Nc1ccc(N)cc1 C#Cc1ccccc1".split(),
    *"c1ccncc1 Cc1ccncc1 Nc1ccncc1 Oc1ccccn1 c1cnccn1 c1ccnnc1 c1cncnc1 c1ncncn1".split(),
    *"c1cc[nH]c1 c1c[nH]cn1 c1cn[nH]c1 Cc1c[nH]cn1 c1ccoc1 Cc1ccoc1 c1cocn1 c1conc1".split(),
    *"O=Cc1ccco1 OCc1ccco1 c1nc[nH]n1 c1nn[nH]n1 O=c1cc[nH]c(=O)[nH]1".split(),
    *"Nc1cc[nH]c(=O)n1 Cc1c[nH]c(=O)[nH]c1=O c1ccc2[nH]ccc2c1 c1ccc2occc2c1".split(),
    *"c1ccc2ncccc2c1 Nc1ncnc2[nH]cnc12 c1ccc2ccccc2c1 O=C1C=CC(=O)C=C1".split(),
)
NAMED: dict[str, str] = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "azobenzene": "c1ccc(N=Nc2ccccc2)cc1",
    "benzene": "c1ccccc1",
    "ethanol": "CCO",
    "malonaldehyde": "O=CCC=O",
    "naphthalene": "c1ccc2ccccc2c1",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "salicylic_acid": "O=C(O)c1ccccc1O",
    "toluene": "Cc1ccccc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
}
SUBSTITUENTS = ("C", "O", "N", "C#N", "C=O")
# Groups that fall apart on the bench: peroxides, N-N-N and N-O chains, two hetero-atoms on sp3 C.
UNSTABLE = ("[O;X2][O;X2]", "N[N;X3]N", "[N;X3][N;X3]", "[N;X3][O;X2]", "[CX4]([OH,NH2])[OH,NH2]")
EMBED_ATTEMPTS = 20


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecule with a place for each atom.

    Attributes:
        smiles: SMILES of the molecule.
        atomic_numbers: [N], hydrogens last.
        positions: [N, 3] Å, after a force field.
        rotors: for each bond that turns, its two atoms and the atoms that turn with the second.
    """

    smiles: str
    atomic_numbers: np.ndarray
    positions: np.ndarray
    rotors: tuple[tuple[int, int, np.ndarray], ...]


def heavy_atoms(smiles: str) -> int:
    """Number of atoms other than hydrogen."""
    return _parse(smiles).GetNumAtoms()


def library(min_heavy: int, max_heavy: int) -> list[str]:
    """`SMILES` with a number of heavy atoms in the given range, both ends included."""
    return [s for s in SMILES if min_heavy <= heavy_atoms(s) <= max_heavy]


def enumerate_smiles(min_heavy: int, max_heavy: int, at_least: int) -> list[str]:
    """Different molecules: the library, then those with small groups in place of hydrogens.

    Groups are attached once, then twice, and so on, until there are `at_least` molecules or no
    new ones within `max_heavy`. The order is fixed: generation by generation, by size and name.
    """
    seeds = {_canonical(_parse(s)) for s in SMILES}
    found = sorted(
        (s for s in seeds if min_heavy <= heavy_atoms(s) <= max_heavy),
        key=lambda s: (heavy_atoms(s), s),
    )
    frontier, known = sorted(seeds), set(seeds)
    while len(found) < at_least and frontier:
        children = {c for s in frontier for c in _substituted(s) if heavy_atoms(c) <= max_heavy}
        frontier = sorted(children - known, key=lambda s: (heavy_atoms(s), s))
        known.update(frontier)
        found.extend(s for s in frontier if heavy_atoms(s) >= min_heavy)
    return found


def embed(smiles: str, rng: np.random.Generator) -> Molecule:
    """A random conformer (ETKDG), relaxed by MMFF94 where that has parameters for the atoms.

    Raises:
        LabelError: no conformer was found; another draw may find one.
    """
    chem = _rdkit("Chem")
    conformers = _rdkit("Chem.AllChem")
    molecule = chem.AddHs(_parse(smiles))
    seed = int(rng.integers(2**31 - 1))
    if conformers.EmbedMolecule(molecule, randomSeed=seed, maxAttempts=EMBED_ATTEMPTS) != 0:
        raise LabelError("no conformer")
    conformers.MMFFOptimizeMolecule(molecule, maxIters=200)
    return Molecule(
        smiles,
        np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()]),
        np.array(molecule.GetConformer().GetPositions(), dtype=np.float64),
        _rotors(chem, molecule),
    )


def turn_rotors(
    positions: np.ndarray,
    rotors: Sequence[tuple[int, int, np.ndarray]],
    rng: np.random.Generator,
) -> np.ndarray:
    """`positions` [N, 3] Å with every rotor at a random angle."""
    positions = positions.copy()
    for first, second, moved in rotors:
        axis = positions[second] - positions[first]
        axis /= np.linalg.norm(axis)
        angle = rng.uniform(-np.pi, np.pi)
        arms = positions[moved] - positions[second]
        along = (arms @ axis)[:, None] * axis
        across = arms - along
        positions[moved] = (
            positions[second]
            + along
            + np.cos(angle) * across
            + np.sin(angle) * np.cross(axis, across)
        )
    return positions


def labelled_frame(
    labeler: XtbLabeler,
    atomic_numbers: np.ndarray,
    positions: np.ndarray,
    max_force: float,
    class_key: str,
) -> Structure:
    """The labelled structure of atoms [N] at `positions` [N, 3] Å.

    Raises:
        LabelError: atoms overlap, there is no label, or a force is larger than `max_force` eV/Å.
    """
    check_clashes(atomic_numbers, positions)
    label = check_force(labeler.label(positions), max_force)
    return Structure(
        atomic_numbers=atomic_numbers,
        positions=positions,
        energy=label.energy,
        forces=label.forces,
        class_key=class_key,
    )


def _rdkit(module: str) -> Any:
    try:
        logger = importlib.import_module("rdkit.RDLogger")
        # Parsing candidates that turn out impossible is part of the enumeration, not news.
        logger.DisableLog("rdApp.*")
        return importlib.import_module(f"rdkit.{module}")
    except ImportError as error:
        raise missing_package("rdkit") from error


def _parse(smiles: str) -> Any:
    molecule = _rdkit("Chem").MolFromSmiles(smiles)
    if molecule is None:
        raise GenerateError(f"{smiles!r} is no SMILES that RDKit understands")
    return molecule


def _canonical(molecule: Any) -> str:
    return _rdkit("Chem").MolToSmiles(molecule)


def _substituted(smiles: str) -> set[str]:
    chem = _rdkit("Chem")
    base = _parse(smiles)
    unstable = [chem.MolFromSmarts(pattern) for pattern in UNSTABLE]
    children = set()
    for group in SUBSTITUENTS:
        joined = chem.CombineMols(base, _parse(group))
        for atom in base.GetAtoms():
            if atom.GetTotalNumHs() == 0:
                continue
            child = chem.RWMol(joined)
            child.AddBond(atom.GetIdx(), base.GetNumAtoms(), chem.BondType.SINGLE)
            for end in (atom.GetIdx(), base.GetNumAtoms()):
                # An aromatic NH writes its hydrogen out: the new bond takes its place.
                child.GetAtomWithIdx(end).SetNumExplicitHs(0)
            if chem.SanitizeMol(child, catchErrors=True) != 0:
                continue
            if not any(child.HasSubstructMatch(pattern) for pattern in unstable):
                children.add(_canonical(child))
    return children


def _rotors(chem: Any, molecule: Any) -> tuple[tuple[int, int, np.ndarray], ...]:
    """Single bonds outside rings between heavy atoms that both carry more."""
    pattern = chem.MolFromSmarts("[!#1;!D1]-;!@[!#1;!D1]")
    rotors = []
    for first, second in molecule.GetSubstructMatches(pattern):
        moved = _side(molecule, first, second)
        rotors.append((int(first), int(second), np.array(sorted(moved))))
    return tuple(rotors)


def _side(molecule: Any, first: int, second: int) -> set[int]:
    """Atoms that hang on `second` once its bond to `first` is cut."""
    side, frontier = {second}, [second]
    while frontier:
        atom = molecule.GetAtomWithIdx(frontier.pop())
        for neighbor in atom.GetNeighbors():
            index = neighbor.GetIdx()
            if index not in side and index != first:
                side.add(index)
                frontier.append(index)
    return side
