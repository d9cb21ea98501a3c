"""The site builds, and no page or reference is missing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r"- ([\w/]+\.md)", menu))
    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    assert pages <= listed


def build_strictly(folder: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site needs the packages of requirements/dev.txt")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr


def test_no_reference_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("ATOMJAX_NOTEBOOKS", "unrun")
    build_strictly(tmp_path / "site")


@pytest.mark.slow
def test_the_site_builds_with_its_notebooks(tmp_path):
    build_strictly(tmp_path / "site")
    reference = (tmp_path / "site" / "reference" / "python" / "index.html").read_text("utf-8")
    assert 'id="atomjax.inference.calculator.AtomjaxCalculator"' in reference
    # The reports of the notebooks, with the files that they link to.
    gallery = (tmp_path / "site" / "gallery" / "index.html").read_text("utf-8")
    reports = re.findall(r'href="(\d_\w+/\w+/report\.html)"', gallery)
    assert "1_which_data_set/csi/report.html" in reports
    assert "2_pretrain_finetune_compare/compared/report.html" in reports
    for report in reports:
        page = tmp_path / "site" / "gallery" / report
        assert page.stat().st_size < 3e6
        links = re.findall(r'href="([^":#]+)"', page.read_text("utf-8"))
        assert [link for link in links if not (page.parent / link).is_file()] == []
    # Nothing is fetched from elsewhere when a page is opened.
    start = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://(?!squidfunk)', start)
