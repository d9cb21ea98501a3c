"""Checks of CIF files that a parser does not make: whether they are whole."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ase.formula import Formula
from ase.io.cif import CIFBlock, NoStructureData, parse_cif
from ase.spacegroup.spacegroup import SpacegroupError

from atomjax.structures.readers.layouts.records import ReadError

_CUT = "the file is cut short or damaged, copy it again"


@contextmanager
def groups_explained() -> Iterator[None]:
    """Raise ReadError for an unknown space group, in place of ASE's error of no common type."""
    try:
        yield
    except SpacegroupError as error:
        raise ReadError(f"its space group is unknown: {error}") from error


def check_cif(text: str) -> None:
    """Refuse CIF text that is cut short.

    A block with a cell has atoms, and so has the last one if it states a formula or nothing at all.
    Where the atoms are the last thing in the file, as in files that programs write, they are a
    multiple of the formula.

    Raises:
        ReadError: they do not.
    """
    blocks = list(parse_cif(io.StringIO(text)))
    for block in blocks:
        begun = block is blocks[-1] and (not len(block) or "_chemical_formula_sum" in block)
        if (begun or "_cell_length_a" in block) and not block.has_structure():
            what = "a cell" if "_cell_length_a" in block else "a beginning"
            raise ReadError(f"block {block.name!r} has {what} and no atoms: {_CUT}")
    if blocks and _ends_with_atoms(text):
        _compare_formula(blocks[-1])


def _ends_with_atoms(text: str) -> bool:
    """Check that the last loop is that of the atoms, and nothing follows it."""
    last = text.rfind("loop_")
    return last >= 0 and re.match(r"loop_\s+_atom_site_(?!aniso)", text[last:]) is not None


def _compare_formula(block: CIFBlock) -> None:
    stated = block.get("_chemical_formula_sum")
    try:
        formula = Formula(str(stated).replace(" ", "")).count()
        found = block.get_atoms().symbols.formula.count()
    # Formulas of other programs' making, and atoms that a reader will complain of.
    except (ValueError, KeyError, NoStructureData, AssertionError, RuntimeError, SpacegroupError):
        return
    units = {found.get(symbol, 0) / count for symbol, count in formula.items() if count}
    is_multiple = len(units) == 1 and units.pop().is_integer() and formula.keys() == found.keys()
    if formula and not is_multiple:
        atoms = "".join(f"{symbol}{count}" for symbol, count in found.items())
        raise ReadError(f"the atoms {atoms} do not add up to the formula {stated}: {_CUT}")
