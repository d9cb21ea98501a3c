"""Options that say where labels are and in which units, the same for every command."""

import argparse
from typing import Any

# Fields of a data set, and options of its reader.
LABELS = ("energy_key", "forces_key", "stress_key", "energy_unit", "length_unit", "force_unit")


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Adds the options, ``--energy-key`` and so on."""
    for name in LABELS:
        kind = name.rpartition("_")[2].upper()
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=kind,
            help="as in a config; eV, Å and ASE's names if left out",
        )


def given_labels(options: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, by the names that configs have for them."""
    return {name: value for name in LABELS if (value := getattr(options, name)) is not None}
