"""The rules of CONTRIBUTING.md that a linter does not know."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "atomjax").rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of the modules a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def offenders(folder: str, *banned: str, allowed: str | None = None) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "atomjax" / folder).rglob("*.py"))
        if allowed is None or not path.is_relative_to(ROOT / "atomjax" / allowed)
        for name in sorted(imports(path))
        if any(name == module or name.startswith(f"{module}.") for module in banned)
    ]


def test_modules_have_at_most_400_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert {str(path): n for path, n in lengths.items() if n > 400} == {}


def test_functions_have_at_most_60_lines() -> None:
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 60:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_docstrings_begin_with_a_noun_phrase_or_an_imperative() -> None:
    riddle = re.compile(r'r?"""\s*(What|How|Which|Where|Who|When)\b')
    riddles = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in MODULES
        for line in path.read_text().splitlines()
        if riddle.match(line.strip())
    ]
    assert riddles == []


def test_nothing_is_called_utils() -> None:
    assert [path for path in MODULES if "util" in path.stem] == []


@pytest.mark.parametrize("folder", ["safe_pickle", "structures"])
def test_files_are_read_without_jax(folder: str) -> None:
    assert offenders(folder, "jax", "flax", "jraph") == []


def test_safe_pickle_knows_no_other_part() -> None:
    names = [path.stem for path in (ROOT / "atomjax").iterdir() if path.stem != "safe_pickle"]
    assert offenders("safe_pickle", *(f"atomjax.{name}" for name in names)) == []


def test_structures_need_no_jax() -> None:
    code = "import sys, atomjax.structures; print(sorted({'jax', 'flax'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_models_know_nothing_of_files_or_training() -> None:
    assert offenders("models", "atomjax.training", "atomjax.structures", "h5py", "ase") == []


def test_only_graphs_imports_jraph() -> None:
    assert offenders("", "jraph", allowed="graphs") == []


def test_only_runtime_speaks_to_other_processes() -> None:
    importing = [path for path in MODULES if "multihost_utils" in path.read_text()]
    assert {path.parent.name for path in importing} == {"cluster"}


def test_similarity_reaches_training_where_it_trains_or_reads_a_checkpoint_alone() -> None:
    allowed = {
        "settings.py",  # the settings of the pretraining that a recommendation implies
        "features/extractor.py",
        "features/cache.py",
    }
    found = {
        line.split()[0].split("similarity/", 1)[1]
        for line in offenders("similarity", "atomjax.training", allowed="similarity/workflow")
    }
    assert found <= allowed


# What each folder of a floor may import, beside what the folders that it may import may.
FLOORS = {
    "runtime": set(),
    "safe_pickle": set(),
    "reporting": {"runtime"},
    "structures": {"runtime", "safe_pickle"},
    "ops": set(),
    "graphs": {"ops", "structures"},
    "models": {"graphs"},
    "batching": {"graphs"},
    "data": {"batching"},
    "training": {"data", "models"},
    "similarity": {"training", "reporting"},
    "inference": {"similarity"},
    "convert": {"training"},
    "parity": {"convert", "similarity"},
    "recipes": {"inference"},
    "studies": {"similarity", "recipes"},
    "command": {"convert", "inference"},
    "launch": {"command"},
}


def below(folder: str) -> set[str]:
    """All that a folder may import."""
    direct = FLOORS[folder]
    return direct.union(*(below(other) for other in direct))


def arrows() -> dict[tuple[str, str], list[str]]:
    """Which folders, or modules beside them, import which, and where."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in MODULES:
        room = path.relative_to(ROOT / "atomjax").with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "atomjax":
                names = [f"atomjax.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                first, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                if first == "atomjax" and other in FLOORS and room not in (other, "__init__"):
                    found.setdefault((room, other), []).append(str(path.relative_to(ROOT)))
    return found


def test_nothing_imports_upward() -> None:
    upward = {key: places for key, places in arrows().items() if key[1] not in below(key[0])}
    assert upward == {}


def test_the_house_stays_small_enough_to_know() -> None:
    rooms = {path.relative_to(ROOT / "atomjax").with_suffix("").parts[0] for path in MODULES}
    assert rooms - {"__init__"} == set(FLOORS)
    assert len(rooms) <= 19
    assert len(arrows()) <= 65


def test_a_folder_holds_at_most_14_modules() -> None:
    counts: dict[Path, int] = {}
    for path in MODULES:
        if path.name != "__init__.py":
            counts[path.parent] = counts.get(path.parent, 0) + 1
    assert {str(folder): count for folder, count in counts.items() if count > 14} == {}


def test_nothing_unpickles() -> None:
    assert offenders("", "pickle", "cloudpickle", "dill", "shelve") == []
