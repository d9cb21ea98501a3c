"""A report is one file that says everything once, whatever names it holds."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from atomjax.command.__main__ import main
from atomjax.reporting.page import markdown_html
from atomjax.reporting.report import Document, write_report
from atomjax.runtime.run import Run
from tests.reporting.sample import HOSTILE, sample_document, write_sample

MOST_BYTES = 3_000_000
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements, addresses and text of a page; what is opened has to be closed."""

    def __init__(self, text: str):
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def addresses(self) -> set[str]:
        return {v for _, name, v in self.attributes if name in ("href", "src", "xlink:href")}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text())


def test_report_needs_nothing_but_itself(written: Path, page: Page) -> None:
    text = written.read_text()
    assert len(text.encode()) < MOST_BYTES
    assert "default-src 'none'" in text
    elsewhere = {a for a in page.addresses() if not a.startswith(("#", "data:"))}
    files = {a for a in elsewhere if "://" not in a}
    # What the text cites, and nothing that is loaded.
    assert elsewhere - files == {"https://arxiv.org/abs/2502.11085"}
    assert files == {"csi.csv", "config.json", "versions.json", "report.md", "csi/report.html"}
    loaded = {v for tag, n, v in page.attributes if n == "src" or (tag, n) == ("link", "href")}
    assert all(address.startswith("data:") for address in loaded)
    assert not re.search(r"url\((?!#)|@import", text)


def test_hostile_names_are_text(page: Page) -> None:
    assert page.names.count("script") == 1
    assert "img" not in page.names
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    # In title, heading, verdict, table, caption, legend and notes.
    assert page.text.count("<script>alert(1)</script>") >= 7
    shown = markdown_html("[a](javascript:alert(1)) <https://evil.example>", {})
    assert "href" not in shown


def test_report_has_all_its_parts(page: Page) -> None:
    assert page.names.count("h1") == 1
    assert page.names.count("svg") == 4
    assert page.names.count("figure") == page.names.count("figcaption") == 3
    for title in ("Configuration", "Versions and machine", "Files beside this report"):
        assert title in page.text
    assert '"seed": 0' in page.text
    assert "workflow csi · 20" in page.text
    assert "pretrained, seed 1\nstep 10\nforce MAE (meV/Å) 3" in page.text
    assert "mean of 2,000 rows" in page.text
    identifiers = [value for _, name, value in page.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers)) > 0
    used = {v.removeprefix("#") for v in page.addresses() if v.startswith("#")}
    assert used <= set(identifiers)


def test_markdown_says_the_same(written: Path) -> None:
    text = (written.parent / "report.md").read_text()
    assert "| ten | 10 ± 1 | 1:02:03 |" in text
    for name in ("curves", "map", "parity"):
        assert f"(plots/{name}.png)" in text
        assert (written.parent / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    cells = re.search(r"^\| set \| error \| (.*) \|$", text, re.MULTILINE)
    assert cells is not None
    assert cells[1] == HOSTILE.replace("|", "\\|")


def test_the_same_content_makes_the_same_file(written: Path) -> None:
    before = written.read_bytes()
    run = Run(written.parent, console=Console(quiet=True))
    write_report(sample_document, run)
    assert written.read_bytes() == before


def test_several_reports_are_joined(written: Path, tmp_path: Path, capsys) -> None:
    second = write_sample(tmp_path / "other run")
    config = json.loads((second.parent / "config.json").read_text())
    (second.parent / "config.json").write_text(json.dumps({**config, "seed": 7}))
    output = tmp_path / "joined" / "both.html"
    arguments = [str(written.parent), str(second.parent), f"--output={output}"]
    assert main(["report", *arguments]) == 0
    assert "2 runs" in capsys.readouterr().out
    text = output.read_text()
    page = Page(text)
    assert page.names.count("article") == 3
    assert page.names.count("script") == 1
    assert len(text.encode()) < MOST_BYTES
    assert "../other%20run/csi.csv" in page.addresses()
    assert {"#run-0", "#run-1"} <= page.addresses()
    assert "<td><code>seed</code></td>\n<td>0</td>\n<td>7</td>" in text


def test_runs_of_before_have_their_pictures(tmp_path: Path, capsys) -> None:
    run = Run(tmp_path / "old", {"workflow": "sweep"}, console=Console(quiet=True))
    write_report(lambda: Document(title="Sweep", lines=sample_document().lines), run)
    (tmp_path / "old" / "report.html").unlink()
    output = tmp_path / "a.html"
    assert main(["report", str(tmp_path / "old"), f"--output={output}"]) == 0
    page = Page(output.read_text())
    assert page.names.count("img") == 3
    assert "old/csi/report.html" in page.addresses()
    capsys.readouterr()
    (tmp_path / "nothing").mkdir()
    assert main(["report", str(tmp_path / "nothing"), f"--output={output}"]) == 1
    assert "holds no report and no results" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "old"), "--output=a.pdf"]) == 2
    assert "ends in .html" in capsys.readouterr().err
