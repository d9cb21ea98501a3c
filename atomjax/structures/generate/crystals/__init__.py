"""Bulk crystals over most of the periodic table, labelled by a published potential, CHGNet.

Twelve prototypes are filled with elements whose charges balance, scaled by radii, relaxed in volume
by the potential, and then strained, rattled and now and then robbed of an atom. Energies, forces
and stresses are those of a model (Deng et al., Nat. Mach. Intell. 5, 1031, 2023), not of DFT.
"""

from atomjax.structures.generate.crystals.frames import LABELS, PACKAGES, Options, begin, plan

__all__ = ["LABELS", "PACKAGES", "Options", "begin", "plan"]
