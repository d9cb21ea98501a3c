"""What tests of several readers use."""

import numpy as np

from atomjax.structures import Structure


def forces_of(structure: Structure) -> np.ndarray:
    """[N, 3], eV/Å; an error where there are none."""
    assert structure.forces is not None
    return structure.forces
