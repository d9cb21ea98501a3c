"""Plots are files that need no display."""

import numpy as np

from atomjax.reporting.plots import Comparison, Curve, Panel, plot_comparisons, plot_curves


def test_curves_share_color_and_legend_entry_by_label(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "atomjax.reporting.plots.save_figure", lambda figure, path: drawn.append(figure)
    )
    curves = [
        Curve(label=label, steps=[1, 2], values=[2.0, 1.0]) for label in ("tuned", "tuned", "raw")
    ]
    plot_curves([Panel(title="t", y_label="y (meV)", curves=curves)], tmp_path / "a.png")
    (ax,) = drawn[0].axes
    tuned, again, raw = ax.lines
    assert tuned.get_color() == again.get_color() != raw.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["tuned", "raw"]
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "y (meV)"


def test_empty_panel_and_non_positive_values_are_drawn(tmp_path):
    panels = [
        Panel(title="empty", y_label="y", curves=[]),
        Panel(title="signed", y_label="y", curves=[Curve(label="a", steps=[1], values=[-1.0])]),
    ]
    plot_curves(panels, tmp_path / "deep" / "a.png")
    assert (tmp_path / "deep" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_comparison_states_the_error(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "atomjax.reporting.plots.save_figure", lambda figure, path: drawn.append(figure)
    )
    true = np.zeros((30_000, 3))
    items = [
        Comparison(label="tuned", true=true, predicted=true + 0.25),
        Comparison(label="raw", true=true, predicted=true + 0.5),
    ]
    plot_comparisons(items, "force", "eV/Å", tmp_path / "a.png")
    assert [ax.get_title() for ax in drawn[0].axes] == [
        "tuned: MAE 0.25 eV/Å",
        "raw: MAE 0.5 eV/Å",
    ]
    assert len(drawn[0].axes[0].collections[0].get_offsets()) <= 20_000
