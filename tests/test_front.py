"""The picture at the top of README.md shows the committed results."""

import re
from pathlib import Path

import numpy as np

from benchmarks import front


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
    readme = (front.ROOT / "README.md").read_text()
    assert "](docs/results/front.svg)" in readme.partition("\n## ")[0]
