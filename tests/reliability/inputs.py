"""One small input of every format that is read or written."""

import gzip
import hashlib
import json
import lzma
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
from ase import Atoms
from ase.db import connect

from atomjax.runtime.files import (
    append_checksum,
    map_npy,
    read_json,
    read_npz,
    write_json,
    write_npz,
)
from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.coverage import Coverage
from atomjax.similarity.features.extracted import ExtractedSet, read_set, write_set
from atomjax.similarity.features.structure_sums import StructureSums
from atomjax.similarity.measures.statistics import Statistics
from atomjax.similarity.statistics import SetStatistics, read_statistics, write_statistics
from atomjax.structures import Structure
from atomjax.structures.archive import load_archive, save_archive
from atomjax.structures.readers import read
from atomjax.structures.store import Store, write_store
from atomjax.structures.store.shards import read_part, write_shard
from atomjax.training.running.checkpoint import load_checkpoint, save_converted
from tests.recipes.native_files import CHAIN, chains, labels
from tests.safe_pickle.torch_pickles import (
    Tensor,
    pyg_pickle,
    write_legacy_archive,
    write_torch_archive,
)
from tests.structures.readers.test_cif_csv import cif, write_table
from tests.structures.readers.test_crystals import pymatgen_structure, write_qmof, write_task
from tests.structures.readers.test_lmdb import ase_row, graph, write_graphs, write_lmdb
from tests.structures.readers.test_qm9 import geometric_molecule, write_folder
from tests.structures.readers.test_text_frames import frame, write_pair

MEND = "make it again"
LEVEL = "wB97x_6-31G(d)"


@dataclass(frozen=True)
class Input:
    """A file or folder, and what reads it.

    Attributes:
        write: makes it in a folder that is there.
        read: reads it whole, out of the same folder.
        own: whether this project writes the format for itself, so that no change is silent.
        bombs: what makes small files that ask for much, instead of the input's.
        slow: whether reading takes much longer than that of others; it is tried less often.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    own: bool = False
    bombs: Sequence[Callable[[Path], Any]] = ()
    slow: bool = field(default=False, kw_only=True)


def digest(value: Any) -> str:
    """A hash of everything in a value: structures, arrays, plain data."""
    state = hashlib.sha256()
    for part in _flat(value):
        state.update(part)
    return state.hexdigest()


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Structure) or (is_dataclass(value) and not isinstance(value, type)):
        for one in fields(value):
            yield one.name.encode()
            yield from _flat(getattr(value, one.name))
    elif isinstance(value, Mapping):
        for key in value:
            yield repr(key).encode()
            yield from _flat(value[key])
    elif isinstance(value, list | tuple | Store):
        yield f"[{len(value)}".encode()
        for part in value:
            yield from _flat(part)
    else:
        yield repr(value).encode()


def structures() -> list[Structure]:
    """Six chains with labels, the last in a cell."""
    positions = chains(6, len(CHAIN))
    energies, forces = labels(positions)
    cells = [None] * 5 + [np.diag([9.0, 9.0, 9.0])]
    return [
        Structure(
            atomic_numbers=CHAIN,
            positions=positions[i],
            cell=cells[i],
            pbc=cells[i] is not None,
            energy=float(energies[i]),
            forces=forces[i],
            targets={"gap": i / 4},
            class_key=f"class {i % 2}",
            source="set",
            identifier=f"chain:{i}",
        )
        for i in range(6)
    ]


def _atoms(count: int = 3) -> list[Atoms]:
    return [frame(-1.0 - i) for i in range(count)]


def _write_hdf5(path: Path, names: Mapping[str, Any], compression: str | None = None) -> None:
    """Two molecules, four conformations each; `names` says what lies where."""
    positions = chains(4, len(CHAIN))
    energies, forces = labels(positions)
    values = {
        "numbers": CHAIN.astype(np.uint8),
        "species": np.array([b"C", b"O", b"H", b"C", b"H"]),
        "positions": positions,
        "energies": energies,
        "forces": forces,
        "gradients": -forces,
        "subset": np.array([b"Dipeptides"]),
    }
    with h5py.File(path, "w") as file:
        for group in names["groups"]:
            for name, kind in names["arrays"].items():
                array = values[kind]
                chunked = {"compression": compression} if array.ndim > 1 else {}
                file.create_dataset(f"{group}/{name}", data=array, **chunked)


ANI1X = {
    "groups": ("C2H2O", "C2OH2"),
    "arrays": {
        "atomic_numbers": "numbers",
        "coordinates": "positions",
        "wb97x_dz.energy": "energies",
        "wb97x_dz.forces": "forces",
    },
}
COMP6 = {
    "groups": ("one", "two"),
    "arrays": {
        "species": "species",
        "coordinates": "positions",
        "energies": "energies",
        "forces": "gradients",
    },
}
SPICE = {
    "groups": ("a", "b"),
    "arrays": {
        "subset": "subset",
        "atomic_numbers": "numbers",
        "conformations": "positions",
        "dft_total_energy": "energies",
        "formation_energy": "energies",
        "dft_total_gradient": "gradients",
    },
}
TRANSITION1X = {
    "groups": ("data/C2H2O/rxn0", "data/C2H2O/rxn1"),
    "arrays": {
        "atomic_numbers": "numbers",
        "positions": "positions",
        f"{LEVEL}.energy": "energies",
        f"{LEVEL}.forces": "forces",
    },
}


def _hdf5_bomb(path: Path, names: Mapping[str, Any]) -> None:
    """Arrays of terabytes that nobody wrote, which HDF5 gives as zeros."""
    count = 10**10
    shapes = {"positions": (count, 5, 3), "forces": (count, 5, 3), "gradients": (count, 5, 3)}
    with h5py.File(path, "w") as file:
        for group in names["groups"]:
            for name, kind in names["arrays"].items():
                if kind in ("species", "subset"):
                    file[f"{group}/{name}"] = np.array([b"H"] * 5)
                    continue
                shape = shapes.get(kind, (5,) if kind == "numbers" else (count,))
                chunks = (1000, *shape[1:]) if kind != "numbers" else None
                file.create_dataset(f"{group}/{name}", shape, "f4", chunks=chunks)


def _write_npz(path: Path, names: str, *, compressed: bool = False) -> None:
    positions = chains(8, len(CHAIN))
    energies, forces = labels(positions)
    values = dict(zip(names.split(), (CHAIN, positions, energies, forces), strict=True))
    (np.savez_compressed if compressed else np.savez)(path, **values)


def _npz_bomb(path: Path, names: str) -> None:
    count = 1 << 21
    arrays = [CHAIN, np.zeros((count, 5, 3)), np.zeros(count), np.zeros((count, 5, 3))]
    np.savez_compressed(path, **dict(zip(names.split(), arrays, strict=True)))


def _gzip_bomb(path: Path) -> None:
    """Two gigabytes of spaces, compressed."""
    path.write_bytes(gzip.compress(bytes([32]) * (1 << 26)) * 32)


def _json_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(b'{"data": [' + b"[" * 1_000_000))


def _xz_bomb(folder: Path) -> None:
    write_pair(folder, "0", 1)
    (folder / "0.extxyz.xz").write_bytes(lzma.compress(bytes([32]) * (1 << 26)) * 32)


def _xyz_bomb(path: Path) -> None:
    path.write_text("9999999999\nProperties=species:S:1:pos:R:3\n" + "H 0 0 0\n" * 20)


def _graph_bombs() -> list[Callable[[Path], Any]]:
    """Graphs whose field is deep, wide, long, or one part twice, and that twice, and so on."""
    deep = b"(" * 300_000 + b"t" * 300_000
    text = b"X" + (1 << 23).to_bytes(4, "little") + b"x" * (1 << 23)
    wide = b"](" + b"K\x01" * 2_000_000 + b"e"
    twice = b"K\x01" + b"2\x86" * 28
    whole = pyg_pickle(graph(1, pos="PLACE"), version=1, protocol=2)
    mark = b"X\x05\x00\x00\x00PLACE"
    assert mark in whole
    return [partial(_write_bomb, whole.replace(mark, field)) for field in (deep, text, wide, twice)]


def _write_bomb(program: bytes, folder: Path) -> None:
    write_lmdb(folder / "0.lmdb", {"0": program, "length": pickle.dumps(1)})


def _row_bomb(folder: Path) -> None:
    content = zlib.compress(b" " * (1 << 30), 1)
    write_lmdb(folder / "a.aselmdb", {"1": content, "nextid": zlib.compress(b"2")})


def _write_aselmdb(folder: Path) -> None:
    number = partial(lambda value: zlib.compress(json.dumps(value).encode()))
    rows = {str(i): ase_row(frame(-float(i)), -float(i), newer=i == 2) for i in (1, 2, 4)}
    entries = {**rows, "nextid": number(5), "deleted_ids": number([3]), "metadata": number({})}
    write_lmdb(folder / "a.aselmdb", entries)


def _write_database(path: Path) -> None:
    database: Any = connect(str(path), use_lock_file=False)
    for atoms in _atoms():
        database.write(atoms, gap=1.5, data={"array": np.arange(3.0)})


def _write_tensors(path: Path, *, legacy: bool = False) -> None:
    one = geometric_molecule()
    entry = {"z": Tensor(one["z"], np.int64), "pos": Tensor(one["pos"]), "y": Tensor(one["y"])}
    (write_legacy_archive if legacy else write_torch_archive)(path, [entry, entry])


def _graph(frame_number: int) -> dict[str, Any]:
    """Of 150 atoms, so that its record has pages of its own in an LMDB file."""
    places = 1.5 * np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)[:150]
    rows = {"pos": places, "force": places / 10, "atomic_numbers": np.full(150, 29.0)}
    marks = {"tags": np.full(150, 1.0), "fixed": np.zeros(150), "natoms": 150}
    return graph(7, frame_number, cell=np.diag([9.0] * 3)[None], **rows, **marks)


def _write_oc20(folder: Path, version: int) -> None:
    write_graphs(folder / "0.lmdb", [_graph(i) for i in range(3)], version)


def _write_md22(path: Path) -> None:
    positions = chains(4, len(CHAIN))
    energies, forces = labels(positions)
    with path.open("w") as file:
        for i, rows in enumerate(positions):
            file.write(f"5\nProperties=species:S:1:pos:R:3:forces:R:3 Energy={energies[i]:.8f}\n")
            for symbol, place, force in zip("COHCH", rows, forces[i], strict=True):
                file.write(f"{symbol} " + " ".join(f"{x:.8f}" for x in (*place, *force)) + "\n")


def _write_cif(path: Path) -> None:
    path.write_text(cif() + cif().replace("data_image0", "data_image1"))


def _foreign(name: str, format_name: str, **options: Any) -> Callable[[Path], Any]:
    """A function that reads `name` in a folder; all of it where `name` is empty."""
    return lambda folder: read(folder / name if name else folder, format_name, **options)


def _in(
    name: str, write: Callable[..., Any], *arguments: Any, **named: Any
) -> Callable[[Path], Any]:
    return lambda folder: write(folder / name, *arguments, **named)


UNITS = {"energy_unit": "eV", "length_unit": "Å"}
RMD17, MD22 = "nuclear_charges coords energies forces", "z R E F"
FOREIGN = {
    "extxyz": Input(
        _in("a.extxyz", lambda path: ase.io.write(path, _atoms())),
        _foreign("a.extxyz", "extxyz", **UNITS),
        bombs=[_in("a.extxyz", _xyz_bomb)],
    ),
    "ase_db": Input(_in("a.db", _write_database), _foreign("a.db", "ase_db", **UNITS)),
    "traj": Input(
        _in("a.traj", lambda path: ase.io.write(path, _atoms())),
        _foreign("a.traj", "ase", **UNITS),
    ),
    "cif": Input(_in("a.cif", _write_cif), _foreign("a.cif", "ase", energy_key="")),
    "vasp": Input(
        _in("a.vasp", lambda path: ase.io.write(path, _atoms()[0], format="vasp")),
        _foreign("a.vasp", "ase", energy_key=""),
    ),
    "aselmdb": Input(_write_aselmdb, _foreign("a.aselmdb", "aselmdb", **UNITS), bombs=[_row_bomb]),
    "oc20 (PyG 1)": Input(
        partial(_write_oc20, version=1), _foreign("0.lmdb", "oc20"), bombs=_graph_bombs()
    ),
    "oc20 (PyG 2)": Input(partial(_write_oc20, version=2), _foreign("0.lmdb", "oc20")),
    "oc20 (text)": Input(
        lambda folder: write_pair(folder, "0", 3, compress=False), _foreign("", "oc20_extxyz")
    ),
    "oc20 (text, xz)": Input(
        lambda folder: write_pair(folder, "0", 3), _foreign("", "oc20_extxyz"), bombs=[_xz_bomb]
    ),
    "ani1x": Input(
        _in("a.h5", _write_hdf5, ANI1X),
        _foreign("a.h5", "ani1x"),
        bombs=[_in("a.h5", _hdf5_bomb, ANI1X)],
    ),
    "comp6": Input(
        _in("a.h5", _write_hdf5, COMP6, "gzip"),
        _foreign("a.h5", "comp6"),
        bombs=[_in("a.h5", _hdf5_bomb, COMP6)],
    ),
    "spice": Input(
        _in("a.hdf5", _write_hdf5, SPICE, "gzip"),
        _foreign("a.hdf5", "spice"),
        bombs=[_in("a.hdf5", _hdf5_bomb, SPICE)],
    ),
    "transition1x": Input(
        _in("a.h5", _write_hdf5, TRANSITION1X),
        _foreign("a.h5", "transition1x"),
        bombs=[_in("a.h5", _hdf5_bomb, TRANSITION1X)],
    ),
    "rmd17": Input(_in("rmd17_a.npz", _write_npz, RMD17), _foreign("rmd17_a.npz", "rmd17")),
    "md22 (npz)": Input(
        _in("md22_DHA.npz", _write_npz, MD22, compressed=True),
        _foreign("md22_DHA.npz", "md22"),
        bombs=[_in("md22_DHA.npz", _npz_bomb, MD22)],
    ),
    "md22 (xyz)": Input(
        _in("md22_DHA.xyz", _write_md22),
        _foreign("md22_DHA.xyz", "md22"),
        bombs=[_in("md22_DHA.xyz", _xyz_bomb)],
    ),
    "qm9 (folder)": Input(lambda folder: write_folder(folder / "qm9", 4), _foreign("qm9", "qm9")),
    "qm9 (tensors)": Input(_in("a.pt", _write_tensors), _foreign("a.pt", "qm9")),
    "qm9 (old tensors)": Input(_in("a.pt", _write_tensors, legacy=True), _foreign("a.pt", "qm9")),
    "qmof (cif)": Input(
        lambda folder: write_qmof(folder / "q", 3, as_cif=True), _foreign("q", "qmof")
    ),
    "qmof (json)": Input(
        lambda folder: write_qmof(folder / "q", 3, as_cif=False), _foreign("q", "qmof")
    ),
    "matbench": Input(
        _in(
            "matbench_phonons.json.gz",
            write_task,
            [[pymatgen_structure(1 + i / 100), 100.5 + i] for i in range(4)],
            ["structure", "last phdos peak"],
        ),
        _foreign("matbench_phonons.json.gz", "matbench"),
        bombs=[_in("matbench_phonons.json.gz", b) for b in (_gzip_bomb, _json_bomb)],
    ),
    "cif_csv": Input(
        _in("a.csv", write_table, [cif(), cif()], {"material_id": ["a", "b"], "heat": [1.5, 2.5]}),
        _foreign("a.csv", "cif_csv"),
    ),
}


def _read_store(folder: Path) -> Any:
    store = Store(folder / "store")
    columns = [store.n_atom, store.energies, store.checksums, store.class_ids, store.periodic]
    return [store, *columns, store.class_keys, store.references().to_dict(), store.manifest]


def _features() -> ExtractedSet:
    rng = np.random.default_rng(0)
    part: Any = Statistics(np.array(9), rng.normal(size=3), np.eye(3))
    sums = StructureSums(
        np.ones(4), rng.normal(size=(4, 3)), rng.normal(size=(4, 6)), np.zeros(3), np.ones(4, int)
    )
    features = SetFeatures((part, part), sums, {6: part}, 20, 4, 4.0)
    coverage = {"random": Coverage(np.array([2, 2]), np.array([1, 1]), 2)}
    return ExtractedSet(
        name="set",
        available=4,
        classes=2,
        unit="structure",
        units=4,
        heaviest=1.0,
        coverage=coverage,
        variants={"flat": features},
        rows=rng.normal(size=(5, 3)).astype(np.float32),
    )


STATISTICS = SetStatistics(
    _features(),
    {"extractor": "0", "variants": ["flat"], "summaries": []},
    {"origin": "a.xyz", "elements": ["C"], "licence": "", "citation": ""},
)


def _write_checkpoint(folder: Path) -> None:
    weights = {"a": {"kernel": np.arange(40, dtype=np.float32)}, "b": np.ones(3, np.float32)}
    save_converted(folder / "run", weights, weights, {}, {"step": 5, "model": {"name": "tiny"}})


def _write_npy(path: Path) -> None:
    with path.open("w+b") as file:
        np.save(file, np.arange(60, dtype=np.int32).reshape(10, 6))
        append_checksum(file)


RECORD = {"results": {"energy_mae": 0.25, "forces": [1.5, 2.0]}, "wall_seconds": 1.5, "text": "Å"}
OWN = {
    "store": Input(
        lambda folder: write_store(folder / "store", structures(), shard_size=4), _read_store, True
    ),
    "shard of a conversion": Input(
        lambda folder: write_shard(folder, "0000-000000", structures(), "float32", []),
        lambda folder: read_part(folder, "0000-000000"),
        True,
    ),
    "archive": Input(
        _in("a.npz", save_archive, structures(), {"seed": 3}),
        lambda folder: load_archive(folder / "a.npz"),
        True,
    ),
    "features": Input(
        lambda folder: write_set(folder / "set", _features()),
        lambda folder: read_set("set", folder / "set"),
        True,
    ),
    "statistics": Input(
        _in("a.statistics.npz", write_statistics, STATISTICS),
        lambda folder: read_statistics(folder / "a.statistics.npz"),
        True,
    ),
    "checkpoint": Input(
        _write_checkpoint, lambda folder: load_checkpoint(folder / "run"), True, slow=True
    ),
    "record": Input(
        _in("a.json", write_json, RECORD), lambda folder: read_json(folder / "a.json", MEND), True
    ),
    "arrays": Input(
        _in("a.npz", write_npz, {"x": np.arange(9.0), "name": np.array("ü")}),
        lambda folder: read_npz(folder / "a.npz", MEND),
        True,
    ),
    "sizes": Input(
        _in("a.npy", _write_npy), lambda folder: np.array(map_npy(folder / "a.npy", MEND)), True
    ),
}
INPUTS: dict[str, Input] = {**FOREIGN, **OWN}
