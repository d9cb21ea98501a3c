"""A page of HTML that needs nothing but itself: no network, no file beside it."""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

_HERE = Path(__file__).parent


def page(title: str, articles: Sequence[str]) -> str:
    """The whole page.

    Its policy lets a browser load nothing and run no script but the page's own, whatever names of
    data sets and paths may hold.
    """
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            *articles,
            "</main>",
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def markdown_html(text: str, figures: Mapping[str, str]) -> str:
    """HTML of Markdown, in which HTML is text like any other.

    Args:
        text: Markdown.
        figures: address of a picture → elements in its place.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("autolink")
    parser.add_render_rule("table_open", lambda *_: '<div class="table"><table>')
    parser.add_render_rule("table_close", lambda *_: "</table></div>")

    def figure(self: RendererHTML, tokens: Any, index: int, options: Any, environment: Any) -> str:
        token = tokens[index]
        drawn = figures.get(token.attrs["src"])
        caption = html.escape(self.renderInlineAsText(token.children, options, environment))
        if drawn is None:
            return f"<em>{caption}</em>"
        return (
            f'<figure><div class="panels">{drawn}</div><figcaption>{caption}</figcaption></figure>'
        )

    parser.add_render_rule("image", figure)
    tokens = parser.parse(text)
    for i, token in enumerate(tokens):
        children = token.children or []
        if len(children) == 1 and children[0].type == "image":
            # A figure is a block of its own, not a part of a paragraph.
            tokens[i - 1].hidden = tokens[i + 1].hidden = True
        for child in children:
            if child.type == "link_open" and str(child.attrs["href"]).endswith("report.md"):
                child.attrs["href"] = str(child.attrs["href"]).removesuffix("md") + "html"
    return parser.renderer.render(tokens, parser.options, {})
