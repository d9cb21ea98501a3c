"""Figures of a report: panels that are drawn side by side as PNG, and one by one as inline SVG."""

import hashlib
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart on white and on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
LINES = ("-", "--", ":")
# More points than that are an image inside the SVG.
MOST_SHAPES = 400
# Radius of what the pointer has to meet, in points.
REACH = 5.0
POINTS_PER_INCH = 72.0
PNG_DPI = 120
_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.55",
    "axes.linewidth": 0.8,
    "axes.titlesize": "medium",
    "legend.frameon": False,
    "xtick.color": "0.55",
    "xtick.labelcolor": "black",
    "ytick.color": "0.55",
    "ytick.labelcolor": "black",
    # Text stays text, in the font of the page.
    "svg.fonttype": "none",
    "svg.hashsalt": "atomjax",
}


@dataclass(frozen=True)
class Note:
    """Numbers that are shown where the pointer is."""

    text: str  # the numbers
    # Place in data coordinates; of a box its lower left corner.
    x: float
    y: float
    # Extent of a box in data coordinates; without, a point is meant.
    width: float | None = None
    height: float | None = None


Draw = Callable[["Axes"], Sequence[Note]]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure of a report."""

    name: str  # name of its file in ``plots/``, without ending
    caption: str  # what it shows, in one or two sentences
    panels: Sequence[Draw]  # functions that draw on axes and return the notes of what they drew
    # Inches of one panel.
    width: float = 5.2
    height: float = 4.2

    @property
    def file(self) -> str:
        """The PNG, relative to the run directory."""
        return f"plots/{self.name}.png"

    @property
    def address(self) -> str:
        """The same as a link."""
        return quote(self.file)

    def draw(self) -> "Figure":
        """All panels side by side."""
        figure, axes = make_figure(len(self.panels), self.width, self.height)
        for ax, panel in zip(axes, self.panels, strict=True):
            panel(ax)
        return figure

    def write(self, path: Path) -> None:
        """Writes the panels side by side as a PNG."""
        save_figure(self.draw(), path)

    def svgs(self) -> list[str]:
        """The panels as elements of an HTML page, which puts as many in a row as there is room."""
        made = []
        for panel in self.panels:
            figure, (ax,) = make_figure(1, self.width, self.height)
            notes = panel(ax)
            made.append(inline_svg(figure, ax, notes, self.caption))
        return made


def make_figure(
    panels: int, width: float = 5.2, height: float = 4.2
) -> "tuple[Figure, Sequence[Axes]]":
    """A figure of panels side by side, each so many inches wide."""
    # The canvas is named outright: pyplot would look for a display and keep global state.
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width * panels, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])


def save_figure(figure: "Figure", path: Path | None) -> "Figure":
    """Writes a figure as PNG where there is a path, and returns it."""
    if path is not None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        path.parent.mkdir(parents=True, exist_ok=True)
        before, figure.dpi = figure.dpi, PNG_DPI
        # By the canvas itself: savefig draws everything twice.
        FigureCanvasAgg(figure).print_png(path)
        figure.dpi = before
    return figure


def inline_svg(figure: "Figure", ax: "Axes", notes: Sequence[Note], label: str) -> str:
    """A figure of one panel as an ``svg`` element that takes the colours and font of its page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = io.StringIO()
    figure.set_facecolor("none")
    ax.set_facecolor("none")
    # Points that are too many for shapes are an image, fine enough for a dense screen.
    figure.dpi = 2 * POINTS_PER_INCH
    with mpl.rc_context(_STYLE):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    text = file.getvalue()
    # Its style would be that of the whole page, which has the same for pictures.
    for gone in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"font-family: [^;\"]*;?"):
        text = re.sub(gone, "", text, flags=re.DOTALL)
    text = text[text.index("<svg") :]
    # Earlier versions of matplotlib write size and family as one.
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = text.replace("#000000", "currentColor")
    for i, color in enumerate(COLORS):
        text = text.replace(color.lower(), f"var(--color-{i},{color})")
    head, _, body = text.partition(">")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    assert found is not None
    width, height = map(float, found.groups())
    start = (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{1.4 * width:.0f}px" role="img"'
        f' aria-label="{html.escape(label)}">'
    )
    body = _with_own_ids(body)
    marks = "".join(_mark(note, ax, height) for note in notes)
    return start + body.replace("</svg>", f'<g class="notes">{marks}</g></svg>').rstrip()


def _mark(note: Note, ax: "Axes", height: float) -> str:
    """The element that the pointer meets, with its title, in coordinates of the picture."""
    scale = POINTS_PER_INCH / ax.figure.get_dpi()
    x, y = scale * ax.transData.transform((note.x, note.y))
    title = f"<title>{html.escape(note.text)}</title>"
    if note.width is None or note.height is None:
        return f'<circle cx="{x:.1f}" cy="{height - y:.1f}" r="{REACH:g}">{title}</circle>'
    end = scale * ax.transData.transform((note.x + note.width, note.y + note.height))
    left, right = sorted((x, end[0]))
    low, high = sorted((y, end[1]))
    return (
        f'<rect x="{left:.1f}" y="{height - high:.1f}" width="{right - left:.1f}" '
        f'height="{high - low:.1f}">{title}</rect>'
    )


def _with_own_ids(text: str) -> str:
    """The picture with identifiers that no other of a page has, and none that nothing refers to."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    names = {name: f"i{digest}-{i}" for i, name in enumerate(sorted(used))}
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", text)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda m: m[1] + names[m[2]], text)
