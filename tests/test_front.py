"""First sight of readers and hosts: the picture of README.md, the address, files of the host."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import front
from docs import addresses

ROOT = front.ROOT


def test_the_picture_is_that_of_the_results(tmp_path: Path) -> None:
    front.draw(tmp_path / "front.svg")
    drawn, kept = ((p / "front.svg").read_text() for p in (tmp_path, front.PATH.parent))
    words = [re.findall(r">([^<>\n]+)</text>", text) for text in (drawn, kept)]
    assert words[0] == words[1], "run python -m benchmarks.front"
    distances, errors = front.figures()
    shown = [f"{value:.0f}" for value, _ in distances.values()]
    shown += [f"{np.mean(values):.0f}" for values in errors.values()]
    assert {*shown} <= {word.strip() for word in words[1]}
    assert front.PATH.stat().st_size < 200_000
    readme = (ROOT / "README.md").read_text()
    assert "](docs/results/front.svg)" in readme.partition("\n## ")[0]


@pytest.mark.parametrize("pattern", addresses.PLACES)
def test_address_and_version_are_those_of_pyproject_and_the_package(pattern: str) -> None:
    paths = list(ROOT.glob(pattern))
    assert paths
    for path in paths:
        text = path.read_text("utf-8")
        placed = addresses.placed(text, addresses.PLACES[pattern], addresses.values())
        assert text == placed, "run make notebooks"
        moved = {"repository": "https://github.com/a/b", "name": "a/b", "version": "9"}
        old = addresses.values()["name"]
        assert old not in addresses.placed(text, addresses.PLACES[pattern], moved)


def test_the_address_stands_nowhere_else() -> None:
    known = {path for pattern in addresses.PLACES for path in ROOT.glob(pattern)}
    known |= {path.with_suffix(".ipynb") for path in known} | {ROOT / "pyproject.toml"}
    folders = ("atomjax", "benchmarks", "configs", "docs", "launch", "notebooks", "requirements")
    paths = [*ROOT.glob("*.*"), *(ROOT / ".github").rglob("*.*")]
    paths += [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    kinds = {".cff", ".ipynb", ".md", ".py", ".sh", ".toml", ".yml"}
    address = addresses.values()["name"]
    stating = {p for p in paths if p.suffix in kinds and address in p.read_text("utf-8")}
    assert stating <= known


# Files for hosts → the schemas of check-jsonschema, which come with it.
LINTED = {
    ".github/workflows/checks.yml": "github-workflows",
    ".github/ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/idea.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    "CITATION.cff": "citation-file-format",
}


def complaints(path: Path, schema: str) -> str:
    command = ["-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("path", LINTED)
def test_files_for_hosts_pass_their_linter(path: str, tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="the linter is in requirements/dev.txt")
    assert complaints(ROOT / path, LINTED[path]) == ""
    spoilt = tmp_path / Path(path).name
    spoilt.write_text((ROOT / path).read_text() + "\nnonsense: true\n")
    assert "nonsense" in complaints(spoilt, LINTED[path])


def test_the_workflow_runs_what_there_is_on_every_supported_python() -> None:
    assert {p.relative_to(ROOT).as_posix() for p in (ROOT / ".github").rglob("*.yml")} <= {*LINTED}
    matrix = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    matrix = matrix["jobs"]["checks"]["strategy"]["matrix"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert matrix["python"] == [c.split()[-1] for c in classifiers if ":: 3." in c]
    assert [one["what"] for one in matrix["include"]] == matrix["what"]
    makefile = (ROOT / "Makefile").read_text()
    for one in matrix["include"]:
        program, target, *rest = one["command"].split()
        if program == "make":
            assert f"\n{target}: " in makefile
        for file in [program, *(word.removeprefix("ARGS=") for word in rest)]:
            assert "/" not in file or (ROOT / file).exists()
