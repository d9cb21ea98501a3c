"""Names and shapes of the arrays that hold the conformations of a molecule."""

from collections.abc import Mapping
from dataclasses import dataclass

from atomjax.structures.readers.layouts.records import ReadError, ReadOptions


@dataclass(frozen=True)
class Layout:
    """Names of the arrays of a molecule with N atoms and n conformations.

    Attributes:
        numbers: [N], atomic numbers.
        positions: [n, N, 3].
        energy: [n] or [n, 1].
        forces: [n, N, 3].
        force_sign: -1 where gradients are stored.
    """

    numbers: str
    positions: str
    energy: str
    forces: str
    force_sign: float = 1.0

    def wanted(self, options: ReadOptions) -> list[str]:
        """Names of the arrays to read, the numbers first, without labels that are declined."""
        wanted = [self.numbers, self.positions]
        wanted += [self.energy] if options.energy_key != "" else []
        wanted += [self.forces] if options.forces_key != "" else []
        return wanted

    def count(self, shapes: Mapping[str, tuple[int, ...]], atoms: int, where: str) -> int:
        """Number of conformations in arrays that fit together.

        Args:
            shapes: name → shape, of the positions and of the labels to read.
            atoms: N.
            where: file, and molecule where there are several, for messages.

        Raises:
            ReadError: they do not.
        """
        count = next(iter(shapes[self.positions]), 0)
        expected = {
            self.positions: (count, atoms, 3),
            self.energy: (count,),
            self.forces: (count, atoms, 3),
        }
        for name, shape in expected.items():
            found = shapes.get(name, shape)
            if found != shape and (name, found) != (self.energy, (count, 1)):
                raise ReadError(
                    f"{where}: {name} has shape {list(found)}, expected {list(shape)} for {atoms}"
                    f" atoms ({self.numbers})"
                )
        return count
