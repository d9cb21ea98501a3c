"""Readers that two threads share, as the loader's do."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.db import connect

from atomjax.structures.readers import open_file
from atomjax.structures.readers.layouts.structure_file import PerThread


class Slot:
    """An attribute after whose assignment two threads wait for each other."""

    def __init__(self) -> None:
        self.barrier: threading.Barrier | None = None
        self.value: Any = None

    def __get__(self, owner: object, kind: type | None = None) -> Any:
        return self.value

    def __set__(self, owner: object, value: Any) -> None:
        self.value = value
        if self.barrier is not None:
            self.barrier.wait(timeout=60)


def ani(folder: Path) -> tuple[Path, str]:
    """Two molecules, so that threads want different blocks."""
    path = folder / "ani1x-release.h5"
    with h5py.File(path, "w") as file:
        for number, name in ((1, "H2"), (2, "He2")):
            group = file.create_group(name)
            group["atomic_numbers"] = [number, number]
            group["coordinates"] = np.tile([[0.0, 0, 0], [0, 0, number]], (3, 1, 1))
            group["wb97x_dz.energy"] = np.zeros(3)
            group["wb97x_dz.forces"] = np.zeros((3, 2, 3))
    return path, "ani1x"


def oc20(folder: Path) -> tuple[Path, str]:
    """Two files, of which one is kept in memory."""
    for place, symbol in enumerate(("H", "He")):
        frame = f'2\nProperties=species:S:1:pos:R:3 energy=0.0 pbc="F F F"\n{symbol} 0 0 0\n'
        (folder / f"{place}.extxyz").write_text(3 * (frame + f"{symbol} 0 0 2\n"))
        (folder / f"{place}.txt").write_text(3 * f"random{place},frame0,0.0\n")
    return folder, "oc20_extxyz"


@pytest.mark.parametrize(("make", "attribute"), [(ani, "_block"), (oc20, "_current")])
def test_threads_get_what_they_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], tuple[Path, str]],
    attribute: str,
) -> None:
    """Both threads have kept what they read before either of them goes on."""
    slot, given = Slot(), make(tmp_path)
    monkeypatch.setattr(type(open_file(*given)), attribute, slot, raising=False)
    file = open_file(*given)
    slot.barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        first, last = pool.map(file.__getitem__, (0, 5))
    assert (first.atomic_numbers[0], last.atomic_numbers[0]) == (1, 2)


def test_each_thread_opens_an_sqlite_database_for_itself(tmp_path: Path) -> None:
    connect(tmp_path / "a.db").write(Atoms("H"))
    handle = PerThread(lambda: connect(tmp_path / "a.db"))
    assert handle.get() is handle.get()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handle.get).result() is not handle.get()
