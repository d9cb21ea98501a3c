"""The properties of QM9: their order in files, their units, and the energies of free atoms."""

from collections.abc import Mapping, Sequence

import numpy as np

from atomjax.structures.readers.layouts.records import ReadError
from atomjax.structures.units import HARTREE

# In the order of the published files, after the number of the molecule.
RAW_ORDER: Sequence[str] = "A B C mu alpha homo lumo gap r2 zpve U0 U H G Cv".split()
# In the order of PyTorch Geometric's tensors.
TARGETS: Sequence[str] = [
    *"mu alpha homo lumo gap r2 zpve U0 U H G Cv".split(),
    *"U0_atom U_atom H_atom G_atom A B C".split(),
]
IN_HARTREE = ("homo", "lumo", "gap", "zpve", "U0", "U", "H", "G")
# Hartree, of free atoms; https://doi.org/10.6084/m9.figshare.1057643
ATOM_ENERGIES: Mapping[str, Mapping[int, float]] = {
    "U0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730},
    "U": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "H": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.716370},
    "G": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
}
# SchNetPack's name → ours.
DATABASE_NAMES: Mapping[str, str] = {
    "rotational_constant_A": "A",
    "rotational_constant_B": "B",
    "rotational_constant_C": "C",
    "dipole_moment": "mu",
    "isotropic_polarizability": "alpha",
    "homo": "homo",
    "lumo": "lumo",
    "gap": "gap",
    "electronic_spatial_extent": "r2",
    "zpve": "zpve",
    "energy_U0": "U0",
    "energy_U": "U",
    "enthalpy_H": "H",
    "free_energy": "G",
    "heat_capacity": "Cv",
}


def with_atomisation(numbers: np.ndarray, properties: Mapping[str, float]) -> dict[str, float]:
    """Properties in Hartree with energies in eV, and the atomisation energies added.

    Args:
        numbers: [N] atomic numbers.
        properties: by the names of `RAW_ORDER`.

    Raises:
        ReadError: an element that QM9 does not have.
    """
    foreign = sorted(set(numbers.tolist()) - set(ATOM_ENERGIES["U0"]))
    if foreign:
        raise ReadError(f"atomic numbers {foreign}; QM9 has H, C, N, O and F only")
    result = {
        name: value * HARTREE if name in IN_HARTREE else value for name, value in properties.items()
    }
    for name, energies in ATOM_ENERGIES.items():
        if name in properties:
            atoms = sum(energies[int(number)] for number in numbers)
            result[f"{name}_atom"] = (properties[name] - atoms) * HARTREE
    return result
