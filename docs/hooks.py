"""Hooks of MkDocs: pages beside docs/ join the site, and links between pages hold there.

Notebooks are run for their pages, with small counts unless ``ATOMJAX_FAST=0``, and not at all with
``ATOMJAX_NOTEBOOKS=unrun``. The reports that they write make the gallery.
"""

import base64
import importlib.util
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

# Place in the checkout → place in the site.
BESIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "launch/README.md": "launch.md",
}
GALLERY = """# Gallery of reports

Pages that the notebooks wrote while this site was built, as every run does. Each is a file that
needs no network; [Reports](reports.md) describes what is in it."""
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that live beside docs/, those of the notebooks, and the gallery."""
    for source, target in BESIDE.items():
        files.append(File.generated(config, target, abs_src_path=source))
    os.environ.setdefault("ATOMJAX_FAST", "1")
    # mkdocs loads hooks by path, so that modules beside them cannot be imported by name.
    place = Path(__file__).with_name("notebooks.py")
    spec = importlib.util.spec_from_file_location("notebooks", place)
    assert spec is not None
    assert spec.loader is not None
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    gallery, kernels = [GALLERY], []
    with tempfile.TemporaryDirectory() as folders:
        for source in notebooks.SOURCES:
            folder = Path(folders, source.stem)
            folder.mkdir()
            if os.environ.get("ATOMJAX_NOTEBOOKS") == "unrun":
                done = notebooks.notebook_of(source)
            else:
                done = notebooks.execute(source, folder, kernels)
            lines, written = reports_of(folder, source.stem)
            page, pictures = page_of(done, source.stem)
            if lines:
                title = page.partition("\n")[0].removeprefix("# ")
                gallery += ["", f"## [{title}](notebooks/{source.stem}.md)", "", *lines]
            made = {f"{source.stem}.md": page, **pictures}
            written |= {f"notebooks/{name}": content for name, content in made.items()}
            for name, content in written.items():
                files.append(File.generated(config, name, content=content))
        notebooks.shut_down(kernels)
    files.append(File.generated(config, "gallery.md", content="\n".join(gallery)))
    return files


def reports_of(folder: Path, name: str) -> tuple[list[str], dict[str, str | bytes]]:
    """Links to the reports that a notebook wrote, and place → content of these and their files."""
    lines: list[str] = []
    written: dict[str, str | bytes] = {}
    for report in sorted(folder.glob("runs/*/report.html")):
        text = report.read_text("utf-8")
        place = f"gallery/{name}/{report.parent.name}/report.html"
        # Markdown would become pages of the site, and Python is left out of it.
        written[place] = re.sub(r'href="([^":#]+)\.(?:md|py)"', r'href="\1.txt"', text)
        for link in re.findall(r'href="([^":#]+)"', text):
            path = (report.parent / link).resolve()
            if path.is_file() and path.suffix != ".html":
                inside = str(path.relative_to(folder.resolve() / "runs"))
                inside = re.sub(r"\.(?:md|py)$", ".txt", inside)
                written[f"gallery/{name}/{inside}"] = path.read_bytes()
        title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
        assert title is not None
        lines.append(f"- [{title[1].strip()}]({place}): `{report.parent.name}`")
    return lines, written


def page_of(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook that was run, and name → content of its pictures."""
    lines: list[str] = []
    pictures: dict[str, bytes] = {}
    # The first cell is for Colab.
    for cell in notebook.cells[1:]:
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        for output in cell.outputs:
            data = output.get("data", {})
            text = output.get("text", "") if output.get("name") == "stdout" else ""
            if "image/png" in data:
                file = f"{name}-{len(pictures)}.png"
                pictures[file] = base64.b64decode(data["image/png"])
                lines += [f"![output of the cell above]({file})", ""]
            elif text or "text/plain" in data:
                shown = text or data["text/plain"]
                lines += ["```text", shown.rstrip(), "```", ""]
    return "\n".join(lines), pictures


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links of the checkout to where their pages are in the site."""
    inside = {target: source for source, target in BESIDE.items()}
    own = inside.get(page.file.src_uri, f"docs/{page.file.src_uri}").rpartition("/")[0]

    def moved(found: re.Match[str]) -> str:
        link, anchor = found[1], found[2] or ""
        if "://" in link or not link.endswith((".md", ".ipynb")):
            return found[0]
        place: list[str] = own.split("/") if own else []
        for part in link.split("/"):
            place = place[:-1] if part == ".." else [*place, part]
        path = "/".join(place)
        target = BESIDE.get(path, path.removeprefix("docs/")).replace(".ipynb", ".md")
        up = "../" * page.file.src_uri.count("/")
        return f"]({up}{target}{anchor})"

    return LINK.sub(moved, markdown)
