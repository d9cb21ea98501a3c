"""Puts the figures of result files into the documents.

    python -m benchmarks.documents            rewrites the tables of README.md and docs/*.md
    python -m benchmarks.documents --check    only says which are out of date, and fails

``docs/results/NAME.json`` are files that studies and benchmarks wrote. A table stands between a
comment that says what it holds and ``<!-- end -->``:

``<!-- table NAME: METRIC, METRIC; POINT = WORDS; POINT = WORDS -->``
    of a study: a column for each metric, mean ± standard deviation over the seeds, and a row for
    each point under the name that is given.
``<!-- errors NAME: POINT = WORDS; POINT = WORDS -->``
    of a study of several tasks: a column for each data set, with its error on the test part; after
    ``NAME, METRIC`` one of that metric, too.
``<!-- correlations NAME: MEASURE = WORDS; MEASURE = WORDS -->``
    of a survey: rank correlations of these measures with the errors, and the regret; and of the
    errors after a tenth of the budget, where the survey had such.
``<!-- benchmark NAME: TITLE; FIGURE, FIGURE -->``
    of ``benchmarks.all``: the rows whose titles begin so, a column for each figure.
``<!-- rows NAME: KEY = WORDS; KEY = WORDS -->``
    of a result file with rows: a column for each key under the name that is given.
``<!-- accuracy NAME -->``
    of ``benchmarks.accuracy``; of one set alone after ``NAME:``.
``<!-- outcomes NAME: PART -->``
    a part of a campaign of damaged files (``python -m tests.reliability``) or of kills
    (``python -m tests.kills``).
``<!-- formats official -->`` and ``<!-- formats general -->``
    the file formats, from what their readers say.
``<!-- downloads all -->``
    the published files that are known by name.
``<!-- settings all -->``
    every setting of every workflow (``python -m benchmarks.settings``).

Text, and the docstring of a config, that cites ``docs/results/NAME.json`` may say figures of it in
words: see :func:`wrong_figures`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.reporting.tables import markdown_table, mean_and_std
from atomjax.runtime.downloads import CATALOGUE, describe_bytes
from atomjax.structures.readers import BUILT_IN, FORMATS
from atomjax.studies.results import Results
from atomjax.studies.tables import correlation_cells, fractions, heading
from atomjax.training.running.metrics import METRICS
from benchmarks import accuracy
from benchmarks.settings import reference

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- (\w+) ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)
CITED = re.compile(r"docs/results/(\w+)\.json")
# Metric → its name and the unit to show it in, relative to that of the file.
WORDS = {
    "csi": ("CSI", 1.0),
    "noise_floor": ("noise floor", 1.0),
    "seconds": ("wall time (s)", 1.0),
    "trained_parameters": ("numbers trained", 1.0),
    "step_bytes": ("memory of a step (MB)", 1e-6),
}
# Relative differences that are rounding.
EQUAL = 1e-6
# Metrics of which a task has one, its error.
ERRORS = ("force_mae_mev_per_angstrom", "value_mae")
# A figure is a number with one of these units, and maybe a deviation: "156 ± 2 meV/Å".
FIGURE = re.compile(
    r"(\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?\s+(?:meV/Å|meV/atom|eV/unit\s+cell|kcal/mol)"
)


def documents(root: Path = ROOT) -> list[Path]:
    """The files whose tables are generated."""
    return [root / "README.md", *sorted(root.glob("docs/*.md"))]


def load(name: str, root: Path = ROOT) -> Results:
    """The result file of a name."""
    return Results.load(root / "docs" / "results" / f"{name}.json")


def with_tables(text: str, root: Path = ROOT) -> str:
    """The text of a document with its tables made anew.

    Raises:
        ValueError: a comment asks for a table of no known kind, or for what a file does not hold.
    """

    def made(found: re.Match[str]) -> str:
        begin, kind, what, end = found.groups()
        if kind not in KINDS:
            raise ValueError(f"<!-- {kind} {what} -->: tables are {', '.join(KINDS)}")
        return begin + "\n".join(["", *KINDS[kind](what.strip(), root), "", end])

    return BLOCK.sub(made, text)


def study_table(what: str, root: Path) -> list[str]:
    """Lines of "NAME: METRIC, METRIC; POINT = WORDS; POINT = WORDS"."""
    chosen, _, points = what.partition(";")
    name, _, metrics = chosen.partition(":")
    results = load(name, root)
    keys = [metric.strip() for metric in metrics.split(",")]
    heads = [heading(results, key) if key in METRICS else _words(key) for key in keys]
    rows = []
    for point, words in _pairs(points):
        cells = [_cell(results, point, key) for key in keys]
        if not any(cells):
            raise ValueError(f"docs/results/{name}.json has nothing of point '{point}'")
        rows.append([words, *cells])
    return markdown_table(["", *heads], rows)


def _words(metric: str) -> str:
    return WORDS.get(metric, (metric, 1.0))[0]


def _cell(results: Results, point: str, metric: str) -> str:
    factor = WORDS.get(metric, (metric, 1.0))[1]
    return _over_seeds([factor * value for value in results.values(point, metric).values()])


def _over_seeds(values: Sequence[float]) -> str:
    """Mean and standard deviation; one number where the seeds give the same."""
    if len(values) and np.ptp(values) <= EQUAL * abs(values[0]):
        return f"{values[0]:,.0f}" if abs(values[0]) >= 1e4 else mean_and_std(values[:1])
    return mean_and_std(values)


def errors_table(what: str, root: Path) -> list[str]:
    """Lines of "NAME, METRIC: POINT = WORDS; POINT = WORDS": the test error on every data set."""
    chosen, _, points = what.partition(":")
    name, *further = (part.strip() for part in chosen.split(","))
    results = load(name, root)
    found: dict[str, str] = {}
    for row in results.rows:
        if row.metric in ERRORS:
            found.setdefault(row.data_set, row.metric)
    heads = [f"{task}: {heading(results, metric, task)}" for task, metric in found.items()]
    rows = []
    for point, words in _pairs(points):
        cells = [_over_seeds(results.errors(point, metric, t)) for t, metric in found.items()]
        rows.append([words, *cells, *(_cell(results, point, metric) for metric in further)])
    return markdown_table(["", *heads, *map(_words, further)], rows)


def correlation_table(what: str, root: Path) -> list[str]:
    """Lines of "NAME: MEASURE = WORDS; MEASURE = WORDS", the last for a choice at random."""
    name, _, measures = what.partition(":")
    content = _json(name, root)
    at_random, after_tenth = content["regret_at_random"], content.get("a_tenth_of_the_budget", {})
    rows, heads = [], ["", *at_random, "mean", "interval", "regret"]
    for key, words in _pairs(measures):
        one = content["correlations"][key]
        rows.append([words, *correlation_cells(one), fractions(one["regret"])[-1]])
        if after_tenth:
            less = after_tenth["by_measure"][key]
            rows[-1] += [f"{less['mean']:.2f}", f"{less['regret']:.1%}"]
    blank = [""] * (len(at_random) + 2)
    rows.append(["a set at random", *blank, fractions(at_random)[-1]])
    if after_tenth:
        heads += ["mean after a tenth", "its regret"]
        rows[-1] += ["", f"{after_tenth['regret_at_random']:.1%}"]
    return markdown_table(heads, rows)


def _pairs(listed: str) -> list[tuple[str, str]]:
    """Items "KEY = WORDS", separated by semicolons; without words the key stands for them."""
    parts = [item.partition("=") for item in listed.split(";")]
    return [(key.strip(), words.strip() or key.strip()) for key, _, words in parts]


def benchmark_table(what: str, root: Path) -> list[str]:
    """Lines of "NAME: TITLE; FIGURE, FIGURE": rows of a benchmark whose titles begin so."""
    chosen, _, figures = what.partition(";")
    name, _, title = (part.strip() for part in chosen.partition(":"))
    keys = [figure.strip() for figure in figures.split(",")]
    parts = _json(name, root)["parts"].values()
    rows = [row for part in parts for row in part["rows"] if row["title"].startswith(title)]
    if not rows:
        raise ValueError(f"docs/results/{name}.json has no row that begins with '{title}'")
    cells = [[row["title"], *(_figure(row.get(key)) for key in keys)] for row in rows]
    return markdown_table(["", *(key.replace("_", " ") for key in keys)], cells)


def _figure(value: Any) -> str:
    """A number to three digits, words as they are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value or "")


def accuracy_table(what: str, root: Path) -> list[str]:
    """Lines of "NAME: SET", the table of ``benchmarks.accuracy``; of all sets without one."""
    name, _, chosen = what.partition(":")
    rows = _json(name.strip(), root)["rows"]
    return accuracy.table([r for r in rows if chosen.strip() in ("", r["set"])]).splitlines()


def rows_table(what: str, root: Path) -> list[str]:
    """Lines of "NAME: KEY = WORDS; KEY = WORDS": these keys of every row of a result file."""
    name, _, columns = what.partition(":")
    keys, heads = zip(*_pairs(columns), strict=True)
    rows = [[_figure(row[key]) for key in keys] for row in _json(name.strip(), root)["rows"]]
    return markdown_table(list(heads), rows, left=0)


def campaign_table(what: str, root: Path) -> list[str]:
    """Lines of "NAME: PART" of a campaign of damaged files."""
    name, _, part = what.partition(":")
    return outcome_table(_json(name, root)[part.strip()])


def _json(name: str, root: Path) -> Any:
    return json.loads((root / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def outcome_table(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines of a table of outcomes, the sums last."""
    kinds = list(next(iter(counts.values())))
    rows = [[name, *(str(own[kind] or "") for kind in kinds)] for name, own in counts.items()]
    sums = [str(sum(own[kind] for own in counts.values())) for kind in kinds]
    return markdown_table(["", *kinds], [*rows, ["all", *sums]])


def format_table(*, official: bool) -> list[str]:
    """The formats that come with atomjax: those of published data sets, or those of any files."""
    rows = []
    for name, known in FORMATS.items():
        if name not in BUILT_IN or bool(known.citation) != official:
            continue
        cells = [f"`{name}`", known.files]
        if official:
            none = known.energy_kinds == ("none",)
            units = known.length_unit if none else f"{known.energy_unit}, {known.length_unit}"
            cells += [str(units), " or ".join(known.energy_kinds)]
        cells.append(known.about)
        if official:
            cells += [known.licence or "see its source", known.citation]
        rows.append(cells)
    heads = ["`format`", "files", "units", "energy", "targets, classes and splits", "licence"]
    heads = [*heads, "published in"] if official else ["format", "files", "read"]
    return markdown_table(heads, rows, left=len(heads))


def download_table() -> list[str]:
    """The downloads by publication: names, sizes together, kinds of hashes, licences and pages."""
    rows = []
    for facts in dict.fromkeys(entry.collection for entry in CATALOGUE.values()):
        entries = [entry for entry in CATALOGUE.values() if entry.collection == facts]
        remotes = {r for entry in entries for r in (entry.remote, *entry.beside)}
        sizes = [remote.size for remote in remotes if remote.size is not None]
        kinds = sorted({(remote.hash or "none").partition(":")[0] for remote in remotes})
        size = describe_bytes(sum(sizes)) if len(sizes) == len(remotes) else ""
        names = ", ".join(f"`{entry.name}`" for entry in entries)
        rows.append([names, facts.title, size, ", ".join(kinds), facts.licence, f"<{facts.page}>"])
    heads = ["names", "what", "all together", "stated hash", "licence", "page"]
    return markdown_table(heads, rows, left=len(heads))


KINDS: dict[str, Callable[[str, Path], list[str]]] = {
    "table": study_table,
    "errors": errors_table,
    "correlations": correlation_table,
    "benchmark": benchmark_table,
    "accuracy": accuracy_table,
    "outcomes": campaign_table,
    "rows": rows_table,
    "formats": lambda what, root: format_table(official=what == "official"),
    "downloads": lambda what, root: download_table(),
    "settings": lambda what, root: reference(),
}


def wrong_figures(text: str, root: Path = ROOT) -> list[str]:
    """Figures in a text that the result files which it cites do not hold.

    A figure is right if it is the mean (with the standard deviation, where that is given) or a
    single value of some point and metric, to the digits that are shown.
    """
    cited = CITED.findall(text)
    if not cited:
        return []
    known = [values for name in cited for values in _known(name, root)]
    wrong = []
    for found in FIGURE.finditer(text):
        mean, std = found.groups()
        if std is None:
            right = any(_shows(mean, v) for own in known for v in (*own, float(np.mean(own))))
        else:
            right = any(
                _shows(mean, float(np.mean(own))) and _shows(std, float(np.std(own, ddof=1)))
                for own in known
                if len(own) > 1
            )
        if not right:
            wrong.append(found.group())
    return wrong


def _known(name: str, root: Path) -> Iterator[list[float]]:
    """Values of a study's file, see :func:`_values`; of a benchmark's each number by itself."""
    content = json.loads((root / "docs" / "results" / f"{name}.json").read_text())
    if "study" in content:
        yield from _values(load(name, root))
    else:
        yield from ([number] for number in _numbers(content))


def _numbers(content: Any) -> Iterator[float]:
    if isinstance(content, dict | list):
        for item in content.values() if isinstance(content, dict) else content:
            yield from _numbers(item)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield float(content)


def _values(results: Results) -> Iterator[list[float]]:
    """Values over the seeds of every point, data set and metric."""
    for point, data_set, metric in dict.fromkeys((r[0], r[2], r[3]) for r in results.rows):
        yield list(results.values(point, metric, data_set).values())


def _shows(text: str, value: float) -> bool:
    """Whether a number in a text is a value, rounded."""
    digits = len(text.partition(".")[2])
    return abs(float(text) - value) <= 0.5 * 10.0**-digits + 1e-9 * abs(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrites or checks the documents; the exit status."""
    parser = argparse.ArgumentParser(description="Puts results into the documents.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if out of date")
    check = parser.parse_args(arguments).check
    changed = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        made = with_tables(text)
        if made != text:
            changed.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(made, encoding="utf-8")
    print("\n".join(changed) or "all tables are up to date")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
