"""Standard atomic masses by atomic number, for centres of mass."""

import numpy as np
from ase.data import atomic_masses

# [119] u; zero for padding, and where no isotope lives long enough to have one.
ATOMIC_MASSES = np.where(np.arange(len(atomic_masses)) > 0, np.nan_to_num(atomic_masses), 0.0)
