"""The reader of CONTRIBUTING.md, run as somebody would who wrote it."""

import json
import re
from pathlib import Path

import pytest

from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.launch import main
from atomjax.structures.readers import BUILT_IN, FORMATS, ReadError, read, register_format
from atomjax.structures.units import energy_factor

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def dimers(tmp_path, monkeypatch):
    """The module and its data, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^## Adding a reader\n.*?^```python\n(.*?)^```", text, re.DOTALL | re.M)
    Path("dimers.py").write_text(code)
    Path("downloads").mkdir()
    lines = [f"C O {1.0 + 0.02 * i} {-250.0 + i}" for i in range(8)]
    lines += [f"H H {0.7 + 0.02 * i} {-100.0 + i}" for i in range(8)]
    Path("downloads", "all.dimers").write_text("\n".join(lines))
    Path("downloads", "atoms.json").write_text(json.dumps({"C": -100.0, "O": -200.0, "H": -10.0}))
    yield Path("downloads", "all.dimers")
    for name in set(FORMATS) - BUILT_IN:
        del FORMATS[name]


def test_a_reader_in_one_file_is_trained_on(dimers, monkeypatch):
    small = {"num_blocks": 1, "lmax": 1, "mmax": 1, "grid_resolution": 4}
    command = ["--config=dimers.py", "--workdir=run", f"--config.model.overrides={small}"]
    assert main(command) == 0
    assert (Path("run") / "checkpoints" / "best").is_dir()
    config = json.loads(Path("run", "config.json").read_text())
    (data,) = config["data"]["train"]
    # Paths are told by their type, and saved configs name the files themselves.
    assert (data["path"], data["arguments"]) == (str(dimers), {"atoms": "downloads/atoms.json"})
    assert (data["energy_unit"], data["length_unit"], data["energy_kind"]) == (
        "kcal/mol",
        "Å",
        "total",
    )

    structures = read(dimers, atoms="downloads/atoms.json")
    assert [s.identifier for s in structures[:2]] == ["all.dimers:1", "all.dimers:2"]
    assert structures[0].energy == pytest.approx(-550 * energy_factor("kcal/mol"))
    assert structures[8].positions[1, 2] == pytest.approx(0.7)
    monkeypatch.syspath_prepend(Path.cwd())
    Path("mine.py").write_text("from atomjax.structures.readers import FORMATS\n"
                               "DIMERS = FORMATS['dimers']\n")  # fmt: skip
    assert len(read(dimers, "mine:DIMERS")) == 16
    with pytest.raises(ReadError, match="'mine:TRIMERS' cannot be imported"):
        read(dimers, "mine:TRIMERS")
    with pytest.raises(ReadError, match=r"no option 'atom'; did you mean 'atoms'\?"):
        read(dimers, atom="downloads/atoms.json")
    with pytest.raises(ReadError, match="'dimers' fixes its units"):
        read(dimers, energy_unit="eV")
    with pytest.raises(ValueError, match='"qm9" comes with atomjax'):
        register_format(FORMATS["qm9"])


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("rmd17", ("splits_folder",)),
        ("qm9", ("uncharacterized",)),
        ("oc20", ("reference_energies", "mapping")),
        ("oc20_extxyz", ("reference_energies", "mapping")),
        ("extxyz", ()),
    ],
)
def test_options_that_are_paths_follow_the_root(name, paths):
    assert FORMATS[name].path_options == paths
    given = {**dict.fromkeys(paths, "beside"), "source": "beside"}
    units = {} if FORMATS[name].fixes_units else {"length_unit": "Å", "energy_kind": "none"}
    data = DatasetSettings(name="a", kind="read", path="a", format=name, arguments=given, **units)
    (joined,) = DataSettings(train=(data,), root="/data").train
    assert joined.path == "/data/a"
    assert joined.arguments == {**dict.fromkeys(paths, "/data/beside"), "source": "beside"}
