"""The documentation says what is so: its code runs, its options and links exist."""

import ast
import re
from pathlib import Path

import pytest

from atomjax.command.launch import make_parser
from atomjax.data.settings import DatasetSettings
from atomjax.runtime.config import build, load_config
from atomjax.runtime.workflows import WORKFLOWS
from atomjax.similarity import MEASURES
from atomjax.similarity.measures.csi import CSI
from atomjax.structures.generate.kinds import KINDS
from atomjax.structures.readers import FORMATS, Format
from atomjax.structures.units import ENERGY_UNITS, LENGTH_UNITS
from atomjax.training.settings import RunSettings
from benchmarks.settings import reference, section_classes

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("launch/*.md")])
FRAME = "2\nProperties=species:S:1:pos:R:3 energy=-1.0\nH 0 0 0\nH 0 0 0.74\n"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", text))


# tests/test_ten_lines.py runs those of docs/python.md, which need trained models.
RUN_HERE = [p for p in DOCUMENTS if code_blocks(p) and p.name != "python.md"]


@pytest.mark.parametrize("path", RUN_HERE, ids=name)
def test_code_runs(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATOMJAX_CACHE_DIR", str(tmp_path))
    for file in ("frames.extxyz", "huge.extxyz"):
        (tmp_path / file).write_text(FRAME)
    import ml_collections

    # A document's blocks follow each other; what a reader is told to have is there already.
    given = load_config(ROOT / "configs" / "finetune" / "qmof.py")
    names: dict = {"config": ml_collections.ConfigDict(given)}
    monkeypatch.setattr("atomjax.studies.engine.WORKFLOWS", dict(WORKFLOWS))
    # What the documents register is forgotten again.
    monkeypatch.setitem(MEASURES, "my_mmd", CSI)
    monkeypatch.setitem(FORMATS, "dimers", Format())
    for block in code_blocks(path):
        tree = ast.parse(block)
        if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
            build(DatasetSettings, eval(block.strip(), names))
        else:
            exec(compile(block, str(path), "exec"), names)
    build(RunSettings, names["config"].to_dict())


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https://)([^)#]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_paths_in_the_checkout_exist(path: Path) -> None:
    paths = re.findall(
        r"(?:atomjax|configs|docs|launch|tests)/[\w/]+\.(?:py|md|sh)", path.read_text()
    )
    assert [file for file in paths if not (ROOT / file).exists()] == []


def test_every_option_of_the_command_line_is_described() -> None:
    options = {
        option
        for action in make_parser()._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    text = "".join(path.read_text() for path in DOCUMENTS)
    described = set(re.findall(r"(--[a-z][a-z-]+)", text))
    assert options <= described


def test_tables_of_configuration_list_what_there_is() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert {f'"{workflow}"' for workflow in WORKFLOWS} <= quoted(text)
    # Every class has a table: python -m benchmarks.documents writes them.
    assert "\n".join(reference()) in text
    for cls in section_classes():
        assert f"\n### {cls.__name__}\n" in text


def test_tables_of_data_list_what_there_is() -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    assert set(KINDS) <= quoted(text)
    assert set(FORMATS) <= quoted(text)


def test_units_are_all_listed() -> None:
    listed = quoted((ROOT / "docs" / "units.md").read_text())
    assert {*ENERGY_UNITS, *LENGTH_UNITS} <= listed
