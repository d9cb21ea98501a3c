"""The systems of OC20 and OC22: their classes, and the energies that make OC20's total.

Both come in pickled dictionaries, which are read without unpickling. Keys are ``"random<sid>"`` in
OC20's files and the number itself in OC22's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atomjax.safe_pickle import ARRAYS, PLAIN, PickleError, load
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions


@dataclass(frozen=True, kw_only=True)
class CatalystOptions(ReadOptions):
    """Options of OC20 and OC22.

    Attributes:
        energy_kind: meaning of the energies: "adsorption" (OC20 as stored) or "total"
            (OC22 as stored; OC20 needs ``reference_energies``).
        reference_energies: ``oc20_ref.pkl``, the energies that make adsorption energies total.
        mapping: ``oc20_data_mapping.pkl`` or ``oc22_metadata.pkl``, from which classes come.
        class_by: "system" (slab with adsorbate) or "bulk", with a mapping; without one every
            trajectory is its own class.
    """

    energy_kind: Literal["adsorption", "total", None] = None
    reference_energies: Path | None = None
    mapping: Path | None = None
    class_by: Literal["system", "bulk"] = "system"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_by == "bulk" and self.mapping is None:
            raise ReadError(
                "class_by='bulk' needs mapping=, the path of oc20_data_mapping.pkl or"
                " oc22_metadata.pkl"
            )


@dataclass(frozen=True)
class SystemTable:
    """Class and reference energy of each system, by its number.

    Attributes:
        classes: system to class, or None for one class a system.
        references: system to the energy to add, eV, or None.
    """

    classes: Mapping[int, str] | None = None
    references: Mapping[int, float] | None = None

    def class_key(self, system: int | None) -> str:
        """The class of a system; empty where the record has no number.

        Raises:
            ReadError: the mapping lacks it.
        """
        if self.classes is None:
            return "" if system is None else f"sid{system}"
        if system is None or system not in self.classes:
            raise ReadError(f"the system sid={system} is not in the mapping")
        return self.classes[system]

    def energy(self, stored: float | None, system: int | None) -> float | None:
        """The energy of the requested kind, eV.

        Raises:
            ReadError: the reference energies lack the system.
        """
        if stored is None or self.references is None:
            return stored
        if system is None or system not in self.references:
            raise ReadError(f"the system sid={system} is not among the reference energies")
        return stored + self.references[system]


def system_table(options: CatalystOptions, dataset: Literal["oc20", "oc22"]) -> SystemTable:
    """Reads the dictionaries that the options name.

    Raises:
        ReadError: a file is damaged or something else, or the energies that are asked for cannot
            be had.
    """
    if dataset == "oc22" and options.energy_kind == "adsorption":
        raise ReadError("energy_kind='adsorption': OC22 has total energies only; write 'total'")
    references = None
    if dataset == "oc20" and options.energy_kind == "total":
        if options.reference_energies is None:
            raise ReadError(
                "energy_kind='total' for OC20 needs reference_energies=, the path of oc20_ref.pkl;"
                " without it OC20's energies are adsorption energies"
            )
        references = _numbered(options.reference_energies)
        for system, value in references.items():
            if not isinstance(value, float | int):
                raise ReadError(f"{options.reference_energies}: sid={system} has no number")
    classes = None
    if options.mapping is not None:
        described = _numbered(options.mapping)
        classes = {
            system: class_name(entry, options.class_by, options.mapping)
            for system, entry in described.items()
        }
    return SystemTable(classes, references)


def class_name(entry: Any, class_by: str, where: Path) -> str:
    """The class of a system from its entry in the mapping.

    A system is its slab (bulk, Miller indices, and in OC20 cut and side) and its adsorbate,
    wherever on the slab that was placed.

    Raises:
        ReadError: the entry lacks what is needed.
    """
    if not isinstance(entry, dict) or "bulk_symbols" not in entry:
        raise ReadError(f"{where}: an entry without bulk_symbols; is this the data set's mapping?")
    if class_by == "bulk":
        return str(entry["bulk_symbols"])
    bulk = entry.get("bulk_mpid", entry.get("bulk_id", ""))
    parts = [entry["bulk_symbols"], bulk, _indices(entry.get("miller_index"))]
    if "shift" in entry:
        parts += [f"{float(entry['shift']):.3f}", "top" if entry.get("top") else "bottom"]
    parts.append(entry.get("ads_symbols", "clean"))
    return "|".join(str(part) for part in parts)


def _indices(miller: Any) -> str:
    return "" if miller is None else ",".join(str(index) for index in miller)


def _numbered(path: Path) -> dict[int, Any]:
    """A dictionary by system number."""
    file = Path(path).expanduser()
    try:
        content = load(file.read_bytes(), {**PLAIN, **ARRAYS})
    except FileNotFoundError:
        raise ReadError(f"{file}: no such file") from None
    except PickleError as error:
        raise ReadError(f"{file}: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ReadError(f"{file}: is no dictionary of systems")
    try:
        return {int(str(key).removeprefix("random")): value for key, value in content.items()}
    except ValueError as error:
        raise ReadError(f"{file}: a key is no system number ({error})") from error
