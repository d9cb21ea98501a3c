"""The notebooks: they run, agree with their sources, and open in Colab."""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from docs import notebooks

ROOT = Path(__file__).resolve().parents[1]
INSTALL = "cellView"


def name(path: Path) -> str:
    return path.stem


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def first_code(source: Path) -> str:
    cells = notebooks.notebook_of(source).cells
    assert cells[0].cell_type == "code"
    assert cells[0].metadata == {INSTALL: "form"}
    return cells[0].source


@pytest.mark.parametrize("source", notebooks.SOURCES, ids=name)
def test_notebooks_are_those_of_their_sources(source: Path) -> None:
    written = source.with_suffix(".ipynb").read_text("utf-8")
    assert written == notebooks.text_of(notebooks.notebook_of(source)), "run make notebooks"
    cells = json.loads(written)["cells"]
    assert all(cell.get("outputs", []) == [] for cell in cells)
    assert cells[-1]["source"], "the last cell says whether the science is right"
    assert "assert " in "".join(cells[-1]["source"])


def test_badges_open_every_notebook() -> None:
    opened = re.findall(r"colab[\w./]+/notebooks/(\w+)\.ipynb", (ROOT / "README.md").read_text())
    assert opened == [source.stem for source in notebooks.SOURCES]
    assert len(opened) == 5


def test_the_first_cells_are_one_and_install_with_pins_of_the_locks() -> None:
    (cell,) = {first_code(source) for source in notebooks.SOURCES}
    lock = (ROOT / "requirements" / "tpu.txt").read_text()
    pins = dict(re.findall(r"^jax==(\S+) ; python_full_version (<|>=) '3\.12'", lock, re.MULTILINE))
    new, old = sorted(pins, key=lambda pin: pins[pin] == "<")
    assert f'["jax[tpu]=={new}" if sys.version_info >= (3, 12) else "jax[tpu]=={old}"]' in cell
    (cuda,) = map(Requirement, project()["optional-dependencies"]["cuda12"])
    (stated,) = re.findall(r'"(jax\[cuda12\][^"]+)"', cell)
    assert Requirement(stated) == cuda


@pytest.mark.parametrize(
    ("seen", "gpu", "expected"),
    [
        ("0.10.2 0.10.2 cpu", False, ["jax==0.10.2", "jaxlib==0.10.2"]),
        ("0.12.0 0.12.0 gpu", True, ["jax==0.12.0", "jaxlib==0.12.0"]),
        ("0.5.3 0.5.1 cpu", False, ["jax>=0.10"]),
        ("", False, ["jax>=0.10"]),
        ("0.11.0 0.11.0 gpu", True, ["jax[cuda12]>=0.10,!=0.10.2,!=0.11.0"]),
        ("0.11.1 0.11.1 cpu", True, ["jax[cuda12]>=0.10,!=0.10.2,!=0.11.0"]),
    ],
    ids=["works", "works on a GPU", "too old", "none", "slow on GPUs", "sees no GPU"],
)
def test_in_colab_a_jax_that_works_stays(monkeypatch, seen: str, gpu: bool, expected) -> None:
    calls = []

    def run(command, **options):
        calls.append(command)
        return SimpleNamespace(stdout=seen)

    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("glob.glob", lambda pattern: [])
    monkeypatch.setattr("shutil.which", lambda program: program if gpu else None)
    exec(compile(first_code(notebooks.SOURCES[0]), "first cell", "exec"), {})
    look, install, after = calls
    assert install[:5] == [sys.executable, "-m", "pip", "install", "--quiet"]
    assert install[5:-1] == expected
    assert install[-1].startswith("atomjax[demo] @ git+https://")
    assert look == after


def test_elsewhere_the_first_cell_does_nothing(monkeypatch) -> None:
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setattr("subprocess.run", None)
    exec(compile(first_code(notebooks.SOURCES[0]), "first cell", "exec"), {})


def check_outputs(done) -> None:
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(scope="module")
def kernels() -> Iterator[list]:
    """One kernel for all notebooks of a process, so that what they import is imported once."""
    managers: list = []
    yield managers
    notebooks.shut_down(managers)


# The trainings of the others take minutes of tracing however small they are; the site, which a slow
# test builds, runs all of them like this.
FAST = ("1_which_data_set", "3_finetune_your_own_file", "4_features_and_similarity")


@pytest.mark.parametrize("name", FAST)
def test_notebooks_run_with_small_counts(name: str, kernels: list, tmp_path, monkeypatch) -> None:
    """As a reader does: a kernel runs all cells, none may fail, and pictures come."""
    monkeypatch.setenv("ATOMJAX_FAST", "1")
    check_outputs(notebooks.execute(ROOT / "notebooks" / f"{name}.py", tmp_path, kernels))


@pytest.mark.slow
@pytest.mark.parametrize("source", notebooks.SOURCES, ids=name)
def test_notebooks_run_whole(source: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("ATOMJAX_FAST", raising=False)
    # The programs that readers run.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    check_outputs(notebooks.execute(source, tmp_path))
