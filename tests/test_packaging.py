"""The package, its locks and the commands that install it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("cpu", "dev", "cuda12", "cuda13", "tpu", "convert")
IMPORT_NAMES = {
    "absl-py": "absl",
    "e3nn-jax": "e3nn_jax",
    "markdown-it-py": "markdown_it",
    "ml-collections": "ml_collections",
    "orbax-checkpoint": "orbax",
    "pyyaml": "yaml",
    "tensorboardx": "tensorboardX",
}
# jaxlib is stated beside jax because the two must be upgraded together.
NEVER_IMPORTED = {"jaxlib"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def extras(lock: str) -> list[str]:
    return {"cpu": ["demo"], "dev": ["demo", "dev"]}.get(lock, ["demo", lock])


def locked(lock: str) -> list[tuple[Requirement, str]]:
    """Each requirement of a lock with the whole entry it stands in."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE))
    return [(Requirement(entry.split("\\")[0].strip()), entry) for entry in entries]


def third_party_imports(*folders: str) -> set[str]:
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"atomjax", "benchmarks", "docs", "tests"}


def import_names(requirements: Iterable[str]) -> set[str]:
    names = {canonicalize_name(Requirement(text).name) for text in requirements}
    return {IMPORT_NAMES.get(name, name) for name in names}


def test_dependencies_are_what_is_imported() -> None:
    imported = third_party_imports("atomjax", "configs", "benchmarks")
    # The packages of [demo] and [convert] are imported by name, where they are needed.
    assert imported == import_names(project()["dependencies"]) - NEVER_IMPORTED


def test_tests_import_only_declared_packages() -> None:
    extras = project()["optional-dependencies"]
    declared = import_names([*project()["dependencies"], *extras["demo"], *extras["dev"]])
    # packaging comes with pytest.
    assert third_party_imports("tests") - declared == {"packaging"}


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_hashed_and_names_no_address(lock: str) -> None:
    for requirement, entry in locked(lock):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="]
        assert "--hash=sha256:" in entry
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    assert "index" not in text.replace("importlib", "")


def test_cpu_build_of_pytorch_is_pinned_with_what_the_dev_lock_lacks() -> None:
    lines = (ROOT / "requirements" / "torch-cpu.txt").read_text().splitlines()
    pins = {pin.name: pin for pin in (Requirement(x) for x in lines if not x.startswith("#"))}
    assert all([s.operator for s in pin.specifier] == ["=="] for pin in pins.values())
    (declared,) = map(Requirement, project()["optional-dependencies"]["convert"])
    version = next(iter(pins["torch"].specifier)).version
    assert version.endswith("+cpu")
    assert declared.specifier.contains(version)
    # The lock that has PyTorch from PyPI says what PyTorch needs; the rest of it is CUDA.
    needed = {pin.name for pin, _ in locked("convert")} - {pin.name for pin, _ in locked("dev")}
    assert pins.keys() == {n for n in needed if not n.startswith(("nvidia-", "cuda-", "triton"))}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_the_declared_dependencies(lock: str, python: str) -> None:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    versions: dict[str, str] = {}
    for requirement, _ in locked(lock):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in versions, "two versions for one environment"
            versions[requirement.name] = next(iter(requirement.specifier)).version
    declared = list(project()["dependencies"])
    for extra in extras(lock):
        declared += project()["optional-dependencies"][extra]
    for text in declared:
        requirement = Requirement(text)
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), text


def test_wheel_holds_the_package_and_its_type_marker(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend comes with the locks")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("atomjax-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "atomjax/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"atomjax"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["quickstart"], "-m atomjax.launch --config configs/quickstart.py --workdir runs/quickst"),
        (["quickstart", "EXTRA=cuda12"], "requirements/sync.sh cuda12"),
        (["test"], "-m pytest"),
    ],
)
def test_make_targets(arguments: list[str], expected: str, tmp_path: Path) -> None:
    for name in ("Makefile", "requirements", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    plan = subprocess.run(
        ["make", "-n", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert expected in plan
    assert "requirements/sync.sh" in plan, "a fresh checkout has to be installed first"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with nothing but the installer and the locks, and no uv on PATH."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


def sync(checkout: Path, lock: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [checkout / "requirements" / "sync.sh", lock],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": "/usr/bin:/bin", **environment},
    )


def test_sync_names_the_locks_when_the_lock_is_unknown(checkout: Path) -> None:
    result = sync(checkout, "cuda11")
    assert result.returncode == 2
    assert "no lock requirements/cuda11.txt" in result.stderr
    assert "requirements/cuda12.txt" in result.stderr
    assert "torch-cpu" not in result.stderr


def test_sync_says_what_to_install_without_a_python(checkout: Path) -> None:
    if shutil.which("uv", path="/usr/bin:/bin"):
        pytest.skip("uv is installed system-wide and brings its own Python")
    result = sync(checkout, "cpu", PYTHON="no-such-python")
    assert result.returncode == 1
    assert "no Python >= 3.11" in result.stderr
    assert "no-such-python" in result.stderr
    assert "PYTHON=/path/to/python" in result.stderr


@pytest.mark.parametrize("found", [True, False], ids=["wheel", "no wheel"])
def test_sync_adds_a_cpu_build_of_pytorch_where_there_is_one(checkout: Path, found: bool) -> None:
    """The commands that sync.sh runs, recorded by an interpreter that does nothing else."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    message = "ERROR: No matching distribution found for torch"
    refusal = "" if found else f"case \"$*\" in *torch==*) echo '{message}' >&2; exit 1;; esac"
    python.write_text(f'#!/bin/sh\necho "$@" >> calls\n{refusal}\nexit 0\n')
    python.chmod(0o755)
    result = sync(checkout, "dev")
    assert result.returncode == 0, result.stderr
    calls = (checkout / "calls").read_text().splitlines()
    # PyTorch's own index is asked for PyTorch alone.
    (asked,) = (call for call in calls if "download.pytorch.org" in call)
    assert asked.endswith(" torch==2.13.0+cpu")
    assert any(call.endswith("-r requirements/torch-cpu.txt") for call in calls) == found
    assert (message in result.stderr) == (not found)
    assert ("test_with_torch.py" in result.stderr) == (not found)
    (checkout / "calls").unlink()
    assert sync(checkout, "cpu").returncode == 0
    assert "torch" not in (checkout / "calls").read_text()
