"""A report in a real browser: it opens from disk, sorts, fits a phone, in light and dark."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from atomjax.studies.joined import join_reports
from tests.reporting.browser import Browser, browser, missing
from tests.reporting.sample import write_sample

pytestmark = pytest.mark.slow

COLUMN = """
const place = arguments[0];
return [...document.querySelectorAll("tbody")[0].rows].map(row => row.cells[place].textContent);
"""
HEAD = """
const head = document.querySelectorAll("thead th")[arguments[0]];
head.scrollIntoView({block: "center"});
const box = head.getBoundingClientRect();
return [box.left + 8, box.top + box.height / 2];
"""
MARK = """
const mark = document.querySelector(".notes circle");
mark.scrollIntoView({block: "center"});
const box = mark.getBoundingClientRect();
return [box.left + box.width / 2, box.top + box.height / 2];
"""
# Luminance of a colour from 0 to 1 (sRGB coefficients, without the gamma).
LIGHT = """
const light = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).map(Number);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
};
const text = document.querySelector(".panels svg text");
return [light(getComputedStyle(document.body).backgroundColor),
  light(getComputedStyle(document.body).color), light(getComputedStyle(text).fill)];
"""


@pytest.fixture(scope="module")
def window(tmp_path_factory) -> Iterator[Browser]:
    if missing():
        pytest.skip(f"not installed: {missing()} (Debian's chromium and chromium-driver)")
    with browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> list[Path]:
    """A report, and two of them joined."""
    folder = tmp_path_factory.mktemp("reports")
    first, second = (write_sample(folder / name) for name in ("first", "second run"))
    join_reports([first.parent, second.parent], folder / "both.html")
    return [first, folder / "both.html"]


@pytest.mark.parametrize(("which", "width"), list(itertools.product((0, 1), (1200, 390))))
def test_page_fits_the_window_and_the_console_is_silent(window, pages, which, width) -> None:
    colors = {}
    for scheme in ("light", "dark"):
        window.open(pages[which], width, scheme)
        assert window.run("return document.readyState") == "complete"
        assert window.run("return document.documentElement.scrollWidth") <= width
        assert window.run("return document.querySelectorAll('.panels svg').length") >= 4
        assert window.run("return document.querySelectorAll('.notes title').length") == 0
        colors[scheme] = window.run(LIGHT)
        assert window.console() == []
    paper, ink, label = zip(colors["light"], colors["dark"], strict=True)
    assert paper[0] > 0.9 > 0.2 > paper[1]
    assert ink[0] < 0.3 < 0.7 < ink[1]
    assert label == ink


def test_a_click_sorts_a_table(window, pages) -> None:
    window.open(pages[0])
    assert window.run(COLUMN, 0) == ["ten", "nine", "none"]
    orders = {
        1: (["9.5 ± 2", "10 ± 1", "–"], ["10 ± 1", "9.5 ± 2", "–"]),
        2: (["0:59", "2:00", "1:02:03"], ["1:02:03", "2:00", "0:59"]),
        0: (["nine", "none", "ten"], ["ten", "none", "nine"]),
    }
    for column, (rising, falling) in orders.items():
        for order, direction in ((rising, "ascending"), (falling, "descending")):
            window.click(*window.run(HEAD, column))
            assert window.run(COLUMN, column) == order
            sorted_by = "return [...document.querySelectorAll('th')].map(h => h.ariaSort)"
            assert window.run(sorted_by).count(direction) == 1
    assert window.console() == []


def test_numbers_are_shown_where_the_pointer_is(window, pages) -> None:
    window.open(pages[0])
    assert window.run("return document.getElementById('note').hidden")
    window.click(*window.run(MARK))
    assert not window.run("return document.getElementById('note').hidden")
    assert "force MAE (meV/Å)" in window.run("return document.getElementById('note').textContent")


def test_no_script_of_a_name_runs(window, pages) -> None:
    """Not even one that has got into the file runs: the page's policy forbids it."""
    spoilt = pages[0].with_name("spoilt.html")
    attack = (
        "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
    )
    spoilt.write_text(pages[0].read_text().replace("<main>", f"<main>{attack}"))
    window.open(spoilt)
    assert window.run("return document.title") != "taken"
    assert any("Content Security Policy" in message for message in window.console())
