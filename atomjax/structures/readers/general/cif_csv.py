"""Tables (CSV) of crystals as CIF text with scalar properties, such as CDVAE's Perov-5.

A column named ``cif`` holds the crystal; every other column of numbers is a target, kept in the
table's unit. Perov-5 (Castelli et al., Energy Environ. Sci. 5, 9034, 2012), Carbon-24 and MP-20
come in this layout (Xie et al., ICLR 2022). CIF states lengths in Å.
"""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io.cif import parse_cif

from atomjax.structures.readers.checks.cif_blocks import check_cif, groups_explained
from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.structure import Structure

IDENTITY = "x,y,z"


@dataclass(frozen=True, kw_only=True)
class CifCsvOptions(ReadOptions):
    """Options of tables of crystals.

    Attributes:
        cif_column: holds the crystals.
        identifier_column: names them; without such a column they are numbered.
    """

    cif_column: str = "cif"
    identifier_column: str = "material_id"


class CifTable(StructureFile):
    """The crystals of a table, in its order."""

    options: CifCsvOptions

    def __init__(self, path: Path, options: CifCsvOptions) -> None:
        super().__init__(path, options)
        # A crystal's text is longer than the field that the parser allows by default.
        csv.field_size_limit(sys.maxsize)
        columns, self._rows = read_table(path)
        if options.cif_column not in columns:
            raise ReadError(
                f"{path}: has no column {options.cif_column!r} with crystals; its columns are: "
                f"{', '.join(filter(None, columns)) or 'none'} (cif_column= names another)"
            )

    def _count(self) -> int:
        return len(self._rows)

    def _identifier(self, record: int) -> str:
        own = self._rows[record].get(self.options.identifier_column)
        return f"{self.path.name}:{own or record}"

    def _structure(self, record: int) -> Structure:
        row, options = self._rows[record], self.options
        with groups_explained():
            atoms = crystal(row[options.cif_column] or "")
        others = {name: text for name, text in row.items() if name and text}
        for name in (options.cif_column, options.identifier_column):
            others.pop(name, None)
        numbers = {n: t if n in options.classes else number(t) for n, t in others.items()}
        return options.structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=True,
            targets=numbers,
            identifier=self._identifier(record),
            source=options.source or self.path.stem,
        )


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV file, and its rows; raises ReadError where a row is damaged."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        try:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
        except csv.Error as error:
            raise ReadError(f"{path}: is no table ({error}); copy it again") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ReadError(
                f"{path}: row {number} has not the {len(columns)} fields of the header: it is"
                " damaged or cut short, copy it again"
            )
    return columns, rows


def crystal(text: str) -> Atoms:
    """The atoms of a CIF's first block.

    Raises:
        ReadError: there is no block with atoms, or a site is shared by elements.
    """
    check_cif(text)
    block = next((b for b in parse_cif(io.StringIO(text)) if b.has_structure()), None)
    if block is None:
        raise ReadError("its CIF holds no crystal")
    occupancies = block.get("_atom_site_occupancy")
    if isinstance(occupancies, list) and any(float(share) != 1.0 for share in occupancies):
        raise ReadError("sites of its CIF are occupied in part, which no single structure shows")
    operations = block.get("_symmetry_equiv_pos_as_xyz")
    if isinstance(operations, list) and [str(o).replace(" ", "") for o in operations] == [IDENTITY]:
        # All atoms are listed, and applying the space group would only take time.
        return block.get_unsymmetrized_structure()
    return block.get_atoms()


def number(text: str) -> float | None:
    """The number that a field holds, or None."""
    try:
        return float(text)
    except ValueError:
        return None


FORMAT = Format(
    name="cif_csv",
    files="`.csv`",
    about="tables with crystals in a column `cif`, such as Perov-5; columns of numbers are "
    "targets, as they are",
    records=CifTable,
    options=CifCsvOptions,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("none",),
    suffixes=(".csv",),
)
