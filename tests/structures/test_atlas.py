"""The atlas: families of structures that come with the package."""

from pathlib import Path

import atomjax
from atomjax.runtime.config import load_config
from atomjax.structures.archive import load_archive
from atomjax.structures.atlas import COUNT, FAMILIES
from atomjax.structures.elements import SYMBOLS

ROOT = Path(__file__).resolve().parents[2]
PERIODIC = {"slabs", "alloys", "metals", "covalent", "ionic"}


def test_families_are_there_without_labels():
    files = atomjax.atlas()
    assert list(files) == list(FAMILIES)
    elements = {}
    for name, path in files.items():
        structures, about = load_archive(path)
        assert len(structures) == COUNT
        assert all(one.energy is None and one.forces is None for one in structures)
        assert {one.is_periodic for one in structures} == {name in PERIODIC}
        # Intervals draw classes, so each family has several.
        assert len({one.class_key for one in structures}) >= 5
        kinds = {spec["kind"] for spec in about["specs"]}
        assert kinds == {FAMILIES[name].kind}
        elements[name] = {SYMBOLS[z] for one in structures for z in one.atomic_numbers}
    assert elements["conformers"] <= {"H", "C", "N", "O"}
    assert len(set().union(*elements.values())) > 70
    # They are data of the package, and small.
    assert sum(path.stat().st_size for path in files.values()) < 1e6


def test_a_task_alone_is_compared_with_the_atlas(tmp_path):
    (tmp_path / "mine.xyz").touch()
    config = load_config(f"{ROOT / 'configs' / 'csi' / 'own.py'}:task={tmp_path / 'mine.xyz'}")
    assert [entry["name"] for entry in config["candidates"]] == list(FAMILIES)
    assert config["downstream"][0]["name"] == "mine"
