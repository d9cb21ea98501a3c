"""The report of a run, written once: ``report.md`` with pictures, and ``report.html`` by itself."""

import base64
import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from atomjax.reporting.drawing import Plot
from atomjax.reporting.page import markdown_html, page
from atomjax.reporting.tables import markdown_table
from atomjax.runtime.files import CONFIG_MEND, read_json
from atomjax.runtime.run import Run, repetition

# Files of a run that a report links to, as patterns below its directory.
RESULTS = ("*.json", "*.jsonl", "*.csv", "*.py", "report.md", "predictions/*.npz", "*/report.html")


@dataclass(frozen=True, kw_only=True)
class Document:
    """Content of a report."""

    title: str  # title of the report
    lines: Sequence[str | Plot]  # lines of Markdown, and figures in their places

    @property
    def plots(self) -> list[Plot]:
        """The figures."""
        return [line for line in self.lines if isinstance(line, Plot)]

    def markdown(self) -> str:
        """The text, with links to the figures' files."""
        lines = [f"# {self.title}", ""]
        for line in self.lines:
            if isinstance(line, Plot):
                lines += [f"![{line.caption}]({line.address})", ""]
            else:
                lines.append(line)
        return "\n".join(lines)


def write_report(compose: Callable[[], Document], run: Run) -> None:
    """Writes ``report.md``, ``report.html`` and the figures.

    Args:
        compose: gives the content. The first process alone calls it, as it alone writes the files
            that reports tell of.
        run: its directory takes the files.
    """
    if not run.primary:
        return
    document = compose()
    for plot in document.plots:
        plot.write(run.path(*plot.file.split("/")))
    text = "\n".join([document.markdown(), *repetition()])
    run.write_text("report.md", text)
    drawn = {plot.address: "".join(plot.svgs()) for plot in document.plots}
    run.write_text("report.html", page(document.title, [article(run.workdir, text, drawn)]))


def article(folder: Path, text: str, drawn: Mapping[str, str]) -> str:
    """A report in Markdown, which begins with its title, as an element of a page."""
    title, _, rest = text.partition("\n")
    config, start = stored_config(folder), last_start(folder)
    return "\n".join(
        [
            "<article>",
            f"<h1>{html.escape(title.removeprefix('# '))}</h1>",
            f'<p class="facts">{html.escape(" · ".join(_facts(config, start)))}</p>',
            markdown_html(rest, drawn),
            '<div class="details">',
            *_details(folder, config, start),
            "</div>",
            "</article>",
        ]
    )


def stored_article(folder: Path) -> str:
    """The report of a run as an element of a page, of whichever version wrote it.

    Raises:
        FileNotFoundError: there is no report in the folder.
    """
    written = folder / "report.html"
    if written.exists():
        text = written.read_text(encoding="utf-8")
        return text[text.index("<article>") : text.rindex("</article>") + len("</article>")]
    text = (folder / "report.md").read_text(encoding="utf-8")
    drawn = {
        quote(f"plots/{file.name}"): f'<img src="data:image/png;base64,{_encoded(file)}" alt="">'
        for file in sorted(folder.glob("plots/*.png"))
    }
    return article(folder, text, drawn)


def stored_config(folder: Path) -> dict[str, Any]:
    """The config of a run; empty where it has none."""
    path = folder / "config.json"
    return read_json(path, CONFIG_MEND) if path.exists() else {}


def last_start(folder: Path) -> dict[str, Any]:
    """Time, command, versions and machine of the last start of a run; empty without any."""
    path = folder / "versions.json"
    starts = read_json(path, "delete it; every start is added") if path.exists() else []
    return starts[-1] if starts else {}


def started(start: Mapping[str, Any]) -> str:
    """Date and time of a start; empty without one."""
    return f"{start['started'][:16].replace('T', ' ')} UTC" if start else ""


def _facts(config: Mapping[str, Any], start: Mapping[str, Any]) -> Iterator[str]:
    """Workflow, time, version and device of a run."""
    if "workflow" in config:
        yield f"workflow {config['workflow']}"
    if start:
        yield started(start)
        yield f"atomjax {start['atomjax']}"
        yield str(start["device"])


def _details(folder: Path, config: Mapping[str, Any], start: Mapping[str, Any]) -> Iterator[str]:
    """Config, versions, and links to the files of a run, each of which opens at a click."""
    files = sorted({file for pattern in RESULTS for file in folder.glob(pattern)})
    names = [str(file.relative_to(folder).as_posix()) for file in files]
    if config:
        shown = json.dumps(config, indent=2, ensure_ascii=False)
        yield _detail("Configuration", f"<pre>{html.escape(shown)}</pre>")
    if start:
        cells = [[f"`{key}`", str(value)] for key, value in start.items() if value is not None]
        table = markdown_table(["", "last start"], cells, left=2)
        yield _detail("Versions and machine", markdown_html("\n".join(table), {}))
    links = "".join(f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>' for name in names)
    yield _detail("Files beside this report", f'<ul class="files">{links}</ul>')


def _detail(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n{content}\n</details>"


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
