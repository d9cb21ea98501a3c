"""Figures are drawn without a display, and say their numbers."""

import re

import numpy as np
import pytest

from atomjax.reporting.drawing import Note, Plot, make_figure
from atomjax.reporting.plots import (
    MOST_NOTES,
    Comparison,
    Curve,
    Panel,
    comparison_plot,
    curve_plot,
    point_plot,
)
from atomjax.similarity.workflow.figures import draw_heat


def test_curves_share_color_and_legend_entry_by_label() -> None:
    curves = [
        Curve(label=label, name=f"seed {i}", steps=[1, 2], values=[4.0, 1.0 + i])
        for i, label in enumerate(("tuned", "tuned", "raw"))
    ]
    plot = curve_plot("a", "", [Panel(title="t", y_label="y (meV)", curves=curves)])
    (ax,) = plot.draw().axes
    tuned, again, raw = ax.lines
    assert tuned.get_color() == again.get_color() != raw.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["tuned", "raw"]
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "y (meV)"
    (svg,) = plot.svgs()
    assert svg.count("<circle") == 6
    assert "<title>tuned, seed 1\nstep 2\ny (meV) 2</title>" in svg


def test_long_curves_keep_their_ends() -> None:
    steps = list(range(1, 5001))
    curve = Curve(label="a", steps=steps, values=[1.0 + 1 / s for s in steps])
    (draw,) = curve_plot("a", "", [Panel(title="t", y_label="y", curves=[curve])]).panels
    notes = draw(Plot(name="b", caption="", panels=[draw]).draw().axes[0])
    assert len(notes) <= MOST_NOTES
    assert notes[0].x == 5000


def test_empty_panel_and_non_positive_values_are_drawn(tmp_path) -> None:
    panels = [
        Panel(title="empty", y_label="y", curves=[]),
        Panel(title="signed", y_label="y", curves=[Curve(label="a", steps=[1], values=[-1.0])]),
        Panel(title="gone", y_label="y", curves=[Curve(label="a", steps=[1], values=[np.nan])]),
    ]
    assert "nan" not in point_plot("a", "", panels[2:]).svgs()[0]
    assert point_plot(
        "a", "", [Panel(title="t", y_label="y", curves=[Curve(label="a", steps=[], values=[])])]
    ).svgs()
    plot = curve_plot("a", "", panels)
    plot.write(tmp_path / "deep" / "a.png")
    assert (tmp_path / "deep" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "nothing logged" in plot.svgs()[0]


def test_comparison_states_the_error_and_names_the_worst() -> None:
    true = np.zeros((10_000, 3))
    off = true + 0.25
    off[7, 1] = 2.0
    names = [f"frame {i}" for i in range(10_000)]
    known = {"true": true, "quantity": "force", "unit": "eV/Å", "names": names}
    items = [
        Comparison(label="tuned", predicted=true + 0.25, **known),
        Comparison(label="raw", predicted=off, **known),
    ]
    plot = comparison_plot("parity", "", items)
    first, second = plot.draw().axes
    assert first.get_title() == "tuned: MAE 0.25 eV/Å"
    assert first.get_xlim() == second.get_xlim()
    assert len(first.collections[0].get_offsets()) <= 20_000
    svg = plot.svgs()[1]
    assert "<title>frame 7\ntrue 0, predicted 2 eV/Å</title>" in svg
    # Thirty thousand points are a picture.
    assert len(svg) < 200_000
    assert svg.count("<circle") == MOST_NOTES


def test_a_mark_is_where_its_point_is() -> None:
    """The point's own shape and what the pointer meets have one place."""
    curve = Curve(label="a", steps=[3.0], values=[7.0])
    (svg,) = point_plot("a", "", [Panel(title="t", y_label="y", curves=[curve])]).svgs()
    drawn = re.findall(r'<use xlink:href="#[^"]+" x="([\d.]+)" y="([\d.]+)"', svg)
    (mark,) = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    x, y = map(float, mark)
    assert any(abs(float(a) - x) < 0.2 and abs(float(b) - y) < 0.2 for a, b in drawn)


def test_boxes_are_marked_too() -> None:
    def draw(ax):
        ax.set(xlim=(0, 4), ylim=(4, 0))
        return [Note("<b> & co", 1, 1, 2, 1)]

    (svg,) = Plot(name="a", caption='"quoted"', panels=[draw]).svgs()
    (box,) = re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)">', svg)
    width, height = map(float, box)
    assert width > 0
    assert height > 0
    assert "<title>&lt;b&gt; &amp; co</title>" in svg
    assert 'aria-label="&quot;quoted&quot;"' in svg


def test_pictures_take_color_font_and_size_of_the_page() -> None:
    curve = Curve(label="a", steps=[1, 2], values=[1.0, 5.0])
    (svg,) = curve_plot("a", "", [Panel(title="t", y_label="y", curves=[curve])]).svgs()
    for own in ("#000000", "font-family", "<metadata", "<style"):
        assert own not in svg
    assert " width=" not in svg.split(">")[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_set_is_as_near_to_its_copy_as_colours_go(sign: int) -> None:
    _, (ax,) = make_figure(1)
    values = np.array([[0.0, -1e-9, np.nan], [228.0, 0.3, np.nan], [0.0, 0.3, np.nan]])
    draw_heat(ax, values, ["w", "u", "v"], ["w", "u", "x"], "CSI", sign)
    shades = np.array([box.get_alpha() for box in ax.patches]).reshape(values.shape)
    best = values[:, :2] == (sign * values[:, :2]).min(axis=0) * sign
    assert (shades[:, :2][best] == 0.6).all()
    assert (shades[:, :2][~best] < 0.6).all()
    assert (shades[:, 2] == 0).all()
