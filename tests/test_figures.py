"""Figures in documents and configs are those of the committed result files."""

import ast
import json
import re
from pathlib import Path

import pytest

from atomjax.studies import Results, Row
from benchmarks.documents import documents, with_tables, wrong_figures

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(ROOT.glob("configs/**/*.py"))
FORCE = "force_mae_mev_per_angstrom"


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_tables_are_what_the_result_files_say(path: Path) -> None:
    text = path.read_text()
    assert with_tables(text) == text


def test_figures_in_words_are_in_the_result_files_that_are_cited() -> None:
    texts = {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in CONFIGS}
    for path in documents():
        texts |= {
            path.with_suffix(f".{i}"): t for i, t in enumerate(path.read_text().split("\n\n"))
        }
    wrong = {str(path.relative_to(ROOT)): wrong_figures(text) for path, text in texts.items()}
    assert {path: figures for path, figures in wrong.items() if figures} == {}


def test_every_result_file_says_where_it_comes_from() -> None:
    for path in ROOT.glob("docs/results/*.json"):
        content = json.loads(path.read_text())
        if "study" not in content:  # of a benchmark
            command = r"python -m (benchmarks\.\w+|tests\.(reliability|kills))"
            assert re.match(command, content["command"])
            assert content["machine"]
            continue
        results = Results.load(path)
        assert results.rows
        for start in results.starts:
            assert {"started", "command", "device", "jax", "atomjax"} <= set(start)
            assert not re.search(r"(^|[ =])/", start["command"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with one result file."""
    rows = [
        Row(point, seed, "task", FORCE, value + seed, "meV/Å")
        for point, value in {"near": 60.0, "scratch": 100.24}.items()
        for seed in (0, 2)
    ]
    rows.append(Row("near", None, "task", "csi", 1.25))

    class Folder:
        def write_text(self, name: str, text: str) -> None:
            path = tmp_path / "docs" / "results" / name.replace("results", "toy")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    Results(rows, "toy", []).write(Folder())  # pyright: ignore[reportArgumentType]
    return tmp_path


def test_a_table_is_made_of_a_result_file(root: Path) -> None:
    begin = f"<!-- table toy: csi, {FORCE}; near = the nearest; scratch -->\n"
    text = f"before\n{begin}old\n<!-- end -->\nafter"
    made = with_tables(text, root)
    assert "|  | CSI | force MAE (meV/Å) |" in made
    assert "| the nearest | 1.25 | 61 ± 1.4 |" in made
    assert "| scratch |  | 101.2 ± 1.4 |" in made
    assert made.startswith("before\n")
    assert made.endswith("<!-- end -->\nafter")
    assert with_tables(made, root) == made
    with pytest.raises(ValueError, match="nothing of point 'far'"):
        with_tables(text.replace("scratch", "far"), root)


def test_a_table_of_outcomes_is_made_of_a_campaign(tmp_path: Path) -> None:
    (tmp_path / "docs" / "results").mkdir(parents=True)
    content = {
        "inputs": {"xyz": {"clear error": 3, "hang": 0}, "npz": {"clear error": 4, "hang": 1}}
    }
    (tmp_path / "docs" / "results" / "toy.json").write_text(json.dumps(content))
    made = with_tables("<!-- outcomes toy: inputs -->\nold\n<!-- end -->", tmp_path)
    assert "|  | clear error | hang |" in made
    assert "| xyz | 3 |  |" in made
    assert "| all | 7 | 1 |" in made
    assert "old" not in made
    assert with_tables(made, tmp_path) == made


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("61 meV/Å, or 61 ± 1 meV/Å", []),
        ("seeds: 60 meV/Å and 62.0 meV/Å", []),
        ("101.2 ± 1.4 meV/Å", []),
        ("102 meV/Å and 60.1 meV/Å", ["60.1 meV/Å"]),
        ("61 ± 2 meV/Å", ["61 ± 2 meV/Å"]),
        ("0.5 eV and 7 minutes", []),
    ],
)
def test_figures_in_words_are_compared_to_their_digits(root: Path, words: str, wrong) -> None:
    assert wrong_figures(f"{words} (docs/results/toy.json)", root) == wrong
    assert wrong_figures(words, root) == []


def test_figures_of_benchmarks_are_any_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "docs" / "results").mkdir(parents=True)
    content = {"command": "", "rows": [{"set": "a", "force_mae_mev": 62.96, "held": True}]}
    (tmp_path / "docs" / "results" / "speed.json").write_text(json.dumps(content))
    words = "63 meV/Å and 64 meV/Å (docs/results/speed.json)"
    assert wrong_figures(words, tmp_path) == ["64 meV/Å"]
