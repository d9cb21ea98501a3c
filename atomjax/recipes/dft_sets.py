"""Published sets of a few hundred structures with DFT labels, which studies finetune on."""

from atomjax.recipes.sections import Section, read


def s66x8(path: str, name: str = "s66x8") -> Section:
    """S66x8 of COMP6, non-covalent dimers with ωB97x energies and forces, from its HDF5 file."""
    dataset = read(name, path, "comp6")
    dataset.energy_unit, dataset.length_unit, dataset.energy_kind = "Ha", "Å", "total"
    return dataset


def li_electrode(path: str, name: str = "li_electrode") -> Section:
    """The Li-Mn-O cathode of MatterTune, periodic, from its extended XYZ file."""
    dataset = read(name, path, "extxyz")
    dataset.energy_unit, dataset.length_unit, dataset.energy_kind = "eV", "Å", "total"
    return dataset
