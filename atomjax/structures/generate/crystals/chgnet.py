"""Labels of CHGNet, whose weights come inside its wheel."""

import contextlib
import functools
import importlib
import importlib.metadata
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from atomjax.structures.generate.errors import GenerateError, LabelError, missing_package
from atomjax.structures.generate.labels import Label, check_finite
from atomjax.structures.units import STRESS_UNITS

# Another version may hold other weights, and so make another set under the same name.
VERSION = "0.4.2"
WEIGHTS = "0.3.0"


class ChgnetLabeler:
    """CHGNet of MPtrj (Deng et al., Nat. Mach. Intell. 5, 1031, 2023), on the CPU in float32.

    Energies are on the scale of the Materials Project's corrected total energies.

    Raises:
        GenerateError: chgnet is missing, or of another version.
    """

    def __init__(self) -> None:
        self._model, self._pymatgen = _load()

    def energies(self, crystals: Sequence[Atoms]) -> np.ndarray:
        """Energies [C] of crystals, eV; infinite where an atom has no neighbour within 6 Å."""
        graphs, places = self._graphs(crystals)
        energies = np.full(len(crystals), np.inf)
        for i, values in zip(places, self._predict(graphs, "e"), strict=True):
            energies[i] = float(values["e"]) * len(crystals[i])
        return energies

    def label(self, crystals: Sequence[Atoms]) -> list[Label | LabelError]:
        """Labels of crystals, all in one evaluation, or the reason why one has none."""
        graphs, places = self._graphs(crystals)
        outcomes: list[Label | LabelError] = [
            LabelError("an atom without neighbours") for _ in crystals
        ]
        for i, values in zip(places, self._predict(graphs, "efs"), strict=True):
            stress = np.asarray(values["s"], float) * STRESS_UNITS["GPa"]
            label = Label(
                energy=float(values["e"]) * len(crystals[i]),
                forces=np.asarray(values["f"], float),
                # Symmetric but for rounding.
                stress=(stress + stress.T) / 2,
            )
            try:
                outcomes[i] = check_finite(label)
            except LabelError as error:
                outcomes[i] = error
        return outcomes

    def _graphs(self, crystals: Sequence[Atoms]) -> tuple[list[Any], list[int]]:
        """Graphs of those crystals in which every atom has neighbours, and their places."""
        graphs, places = [], []
        for i, atoms in enumerate(crystals):
            crystal = self._pymatgen.Structure(
                atoms.cell.array, atoms.numbers, atoms.positions, coords_are_cartesian=True
            )
            with contextlib.suppress(ValueError):
                graphs.append(self._model.graph_converter(crystal))
                places.append(i)
        return graphs, places

    def _predict(self, graphs: list[Any], task: str) -> list[dict[str, np.ndarray]]:
        if not graphs:
            return []
        found = self._model.predict_graph(graphs, task=task, batch_size=len(graphs))
        # One graph alone gives no list.
        return found if isinstance(found, list) else [found]


@functools.cache
def _load() -> tuple[Any, Any]:
    """The model and the module of its crystals, loaded once in a process."""
    try:
        version = importlib.metadata.version("chgnet")
        model = importlib.import_module("chgnet.model")
        pymatgen = importlib.import_module("pymatgen.core")
    except ImportError as error:
        raise missing_package("chgnet") from error
    if version != VERSION:
        raise GenerateError(
            f"crystals are labelled by chgnet {VERSION}, found is {version};"
            " run: pip install 'atomjax[crystals]'"
        )
    # It announces itself on the output, which may be the one that results are printed on.
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = model.CHGNet.load(model_name=WEIGHTS, use_device="cpu", verbose=False)
    return loaded, pymatgen
