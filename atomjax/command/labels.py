"""Options that say where labels are and in which units, the same for every command."""

import argparse
from typing import Any

from atomjax.runtime.config import Argument

# Option of a file, a field of a data set or of its reader → its help.
LABELS = {
    "energy_key": "name of the energies; ASE's if left out",
    "forces_key": "name of the forces, likewise",
    "gradients_key": "name of gradients, where there are no forces",
    "stress_key": "name of the stresses",
    "virial_key": "name of virials, where there are no stresses",
    "energy_unit": "eV if left out",
    "length_unit": "Å if left out",
    "force_unit": "that of the energies and lengths if left out",
    "stress_unit": "likewise",
    "format": "format of the files, where their names do not tell",
    "ase_format": "ASE's name of the format, with --format ase",
    "on_error": "skip leaves records out that cannot be read",
    "use_tags": "false forgets tags, such as numbers of layers",
}


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Adds the options, ``--energy-key`` and so on."""
    for name, text in LABELS.items():
        kind = name.rpartition("_")[2].upper()
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=kind, help=text)


def given_labels(options: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, by the names that configs have for them."""
    given = {name: getattr(options, name) for name in LABELS}
    return {name: Argument(value) for name, value in given.items() if value is not None}
