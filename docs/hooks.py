"""Hooks of MkDocs: pages beside docs/ join the site, and links between pages hold there."""

import re
from typing import Any

from mkdocs.structure.files import File, Files

# Place in the checkout → place in the site.
BESIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "launch/README.md": "launch.md",
}
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that live beside docs/."""
    for source, target in BESIDE.items():
        files.append(File.generated(config, target, abs_src_path=source))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links of the checkout to where their pages are in the site."""
    inside = {target: source for source, target in BESIDE.items()}
    own = inside.get(page.file.src_uri, f"docs/{page.file.src_uri}").rpartition("/")[0]

    def moved(found: re.Match[str]) -> str:
        link, anchor = found[1], found[2] or ""
        if "://" in link or not link.endswith(".md"):
            return found[0]
        place: list[str] = own.split("/") if own else []
        for part in link.split("/"):
            place = place[:-1] if part == ".." else [*place, part]
        path = "/".join(place)
        target = BESIDE.get(path, path.removeprefix("docs/"))
        up = "../" * page.file.src_uri.count("/")
        return f"]({up}{target}{anchor})"

    return LINK.sub(moved, markdown)
