"""OC20 S2EF as it is published: extended XYZ files, each with a text file of the same name.

Line i of ``0.txt`` is ``random<sid>,frame<fid>,<reference energy>`` and belongs to frame i of
``0.extxyz``; both may be compressed (``.xz``). A frame's energy is that of slab and adsorbate
together, eV; less the reference energy it is the adsorption energy (OCP, ``DATASET.md`` and
``scripts/preprocess_ef.py``).
"""

import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from atomjax.structures.readers.checks.bounded import read_text
from atomjax.structures.readers.format import LABEL_KEYS, Format
from atomjax.structures.readers.general.extxyz import frames, parse_frame
from atomjax.structures.readers.layouts.atoms import structure_from_atoms
from atomjax.structures.readers.layouts.catalyst_systems import (
    CatalystOptions,
    SystemTable,
    system_table,
)
from atomjax.structures.readers.layouts.records import ReadError, scalar
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.readers.open_catalyst import split_folder
from atomjax.structures.structure import Structure

FRAMES, LOGS = (".extxyz", ".extxyz.xz"), (".txt", ".txt.xz")
LOG_LINE = re.compile(r"random(\d+),frame(\d+)(?:,([^,\s]+))?\s*")


class TrajectoryFile(StructureFile):
    """The frames of one pair of files, or of all in a folder.

    The text files, which are small, say how many frames there are; a file of frames is read whole
    when one of its frames is wanted, and kept until another file is.
    """

    options: CatalystOptions

    def __init__(self, path: Path, options: CatalystOptions, systems: SystemTable) -> None:
        super().__init__(path, options)
        self._systems = systems
        self._pairs = _pairs(path)
        lengths = [len(_lines(log)) for _, log in self._pairs]
        self._ends = np.cumsum(lengths)
        self._current: tuple[int, list[list[str]], list[str]] | None = None

    def _count(self) -> int:
        return int(self._ends[-1])

    def _locate(self, record: int) -> tuple[int, int]:
        pair = int(np.searchsorted(self._ends, record, side="right"))
        return pair, record - int(self._ends[pair - 1] if pair else 0)

    def _identifier(self, record: int) -> str:
        pair, frame = self._locate(record)
        return f"{self._pairs[pair][0].name}:{frame}"

    def _structure(self, record: int) -> Structure:
        pair, frame = self._locate(record)
        texts, log = self._load(pair)
        system, number, reference = _parse_log(log[frame])
        atoms = parse_frame(texts[frame])
        key = self.options.energy_key or "energy"
        if atoms.calc is not None and key in atoms.calc.results:
            atoms.calc.results[key] = self._energy(atoms.calc.results[key], reference)
        elif key not in ("energy", "") and self.options.energy_kind != "total":
            raise ReadError(
                f"no result {key!r}, of which the reference could be taken off; write "
                "energy_kind='total' to read another entry as it is"
            )
        structure_class = self._systems.class_key(system)
        return structure_from_atoms(
            atoms,
            self.options,
            {"class_key": structure_class},
            f"{self._identifier(record)}:sid{system}:fid{number}",
            self.path.name.partition(".")[0],
        )

    def _energy(self, total: object, reference: float | None) -> float:
        energy = scalar(total)
        if energy is None:
            raise ReadError("the energy is not one number")
        if self.options.energy_kind == "total":
            return energy
        if reference is None:
            raise ReadError(
                "its line of the text file has no reference energy, so that there is no adsorption"
                " energy; energy_kind='total' reads the energy as it is"
            )
        return energy - reference

    def _load(self, pair: int) -> tuple[list[list[str]], list[str]]:
        # Threads share the last file: each looks at one it holds itself.
        current = self._current
        if current is None or current[0] != pair:
            path, log = self._pairs[pair]
            text = read_text(path)
            texts = list(frames(io.StringIO(text), path, len(text)))
            lines = _lines(log)
            if len(texts) != len(lines):
                raise ReadError(
                    f"{path}: {len(texts)} frames, but {log.name} has {len(lines)} lines; one of"
                    " the two is truncated, copy them again"
                )
            current = self._current = (pair, texts, lines)
        return current[1:]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_current": None}


def _pairs(path: Path) -> list[tuple[Path, Path]]:
    """Files of frames with their text files."""
    if path.is_file():
        files = [path]
    else:
        # Numbers are their names: 10.extxyz comes after 9.extxyz.
        files = [p for p in path.iterdir() if p.name.endswith(FRAMES)]
        files.sort(key=lambda p: (len(_stem(p)), p.name))
        if twice := [two.name for one, two in pairwise(files) if _stem(one) == _stem(two)]:
            raise ReadError(
                f"{path}: {', '.join(twice)} is there unpacked as well; remove one of the two"
            )
    if not files:
        folders = sorted(p.name for p in path.iterdir() if p.is_dir())
        raise ReadError(
            f"{path}: the folder has no file *{' or *'.join(FRAMES)}; give the folder of one split,"
            f" or split= with its name: {', '.join(folders) or 'there are none'}"
        )
    pairs = []
    for file in files:
        stem = _stem(file)
        log = next((p for p in (file.with_name(stem + s) for s in LOGS) if p.is_file()), None)
        if log is None:
            raise ReadError(
                f"{file}: lacks {stem}.txt or {stem}.txt.xz beside it, which says which system each"
                " frame is of"
            )
        pairs.append((file, log))
    return pairs


def _stem(file: Path) -> str:
    return file.name.partition(".extxyz")[0]


def _lines(log: Path) -> list[str]:
    return [line for line in read_text(log).splitlines() if line.strip()]


def _parse_log(line: str) -> tuple[int, int, float | None]:
    match = LOG_LINE.fullmatch(line)
    if match is None:
        raise ReadError(
            f"its line of the text file is {line[:60]!r}, expected random<sid>,frame<fid>,<energy>"
        )
    system, frame, reference = match.groups()
    return int(system), int(frame), None if reference is None else float(reference)


def records(path: Path, options: CatalystOptions) -> TrajectoryFile:
    """Opens the published files of OC20's S2EF task: one, or a folder of them."""
    folder = split_folder(path, options.split)
    if options.reference_energies is not None:
        raise ReadError("reference_energies= is for LMDB files; these files bring their own")
    table = system_table(options, "oc22" if options.energy_kind == "total" else "oc20")
    return TrajectoryFile(folder, options, table)


FORMAT = Format(
    name="oc20_extxyz",
    files="folders of `*.extxyz(.xz)` and `*.txt(.xz)`",
    about="class: as `oc20`",
    licence="CC BY 4.0",
    citation="Chanussot et al., ACS Catal. 11, 6059 (2021)",
    records=records,
    options=CatalystOptions,
    keys=LABEL_KEYS,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("adsorption", "total"),
    is_folder=True,
    splits="folders",
)
