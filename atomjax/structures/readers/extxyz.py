"""Extended XYZ: text frames with a lattice, per-atom columns and labels."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

from ase.io.extxyz import read_xyz

from atomjax.structures.readers.atoms import structure_from_atoms
from atomjax.structures.readers.records import ReadError, ReadOptions
from atomjax.structures.structure import Structure


def records(path: Path, options: ReadOptions) -> Iterator[tuple[str, Callable[[], Structure]]]:
    """The frames of a file, read one at a time.

    Raises:
        ReadError: a frame does not begin with its number of atoms, so that what follows cannot be
            told apart.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        index = 0
        while (line := file.readline()) != "":
            if not line.strip():
                continue
            identifier = f"{path.name}:{index}"
            try:
                count = int(line)
            except ValueError as error:
                raise ReadError(
                    f"{path}: frame {index} should begin with its number of atoms, found"
                    f" {line.strip()[:60]!r}; the frame before it has more atom lines than it"
                    " says, or this is no XYZ file"
                ) from error
            lines = [line, *(file.readline() for _ in range(count + 1))]
            yield identifier, _Frame(lines, options, identifier, path.stem)
            index += 1


class _Frame:
    """The lines of one frame, parsed when called."""

    def __init__(self, lines: list[str], options: ReadOptions, identifier: str, source: str):
        self.lines = lines
        self.options = options
        self.identifier = identifier
        self.source = source

    def __call__(self) -> Structure:
        expected, found = len(self.lines) - 2, sum(line != "" for line in self.lines) - 2
        if found < expected:
            raise ReadError(
                f"the file ends after {max(found, 0)} of {expected} atoms: it is truncated"
            )
        # Structure's own error is clearer than the parser's.
        if expected == 0:
            raise ReadError("there are no atoms")
        atoms = next(iter(read_xyz(io.StringIO("".join(self.lines)), 0)))
        return structure_from_atoms(atoms, self.options, atoms.info, self.identifier, self.source)
