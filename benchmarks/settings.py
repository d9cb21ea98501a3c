"""Every setting of every workflow, from the declarations of the settings classes.

    python -m benchmarks.settings

prints the part of ``docs/configuration.md`` that ``python -m benchmarks.documents`` puts there.
"""

import dataclasses
import inspect
import types
import typing
from typing import Any

from atomjax.reporting.tables import markdown_table
from atomjax.runtime.config import Documented, documented, section_type
from atomjax.runtime.workflows import WORKFLOWS, resolve

WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "none"}


def reference() -> list[str]:
    """Lines with a table of each config, then of each section in them."""
    lines: list[str] = []
    for cls, names in workflow_classes().items():
        quoted = " and ".join(f'`"{name}"`' for name in names)
        kind = "Workflow" if len(names) == 1 else "Workflows"
        lines += ["", f"### {kind} {quoted}", "", *section_table(cls)]
    for cls in section_classes():
        lines += ["", f"### {cls.__name__}", "", *section_table(cls)]
    return lines[1:]


def workflow_classes() -> dict[type, list[str]]:
    """Settings class → names of its workflows."""
    found: dict[type, list[str]] = {}
    for name, workflow in WORKFLOWS.items():
        found.setdefault(resolve(workflow.settings), []).append(name)
    return found


def section_classes() -> list[type]:
    """The sections in configs, each once, in the order in which they first come."""
    found: list[type] = []

    def visit(cls: type) -> None:
        for field in documented(cls):
            for inner in inner_sections(field.hint):
                if inner not in found:
                    found.append(inner)
                    visit(inner)

    for cls in workflow_classes():
        visit(cls)
    return found


def inner_sections(hint: Any) -> list[type]:
    """Settings classes in an annotation, such as ``tuple[X, ...]``."""
    cls = section_type(hint)
    if cls is not None:
        return [cls]
    return [cls for part in typing.get_args(hint) for cls in inner_sections(part)]


def section_table(cls: type) -> list[str]:
    """Description of a section, and a table of its fields."""
    rows = [[f"`{f.name}`", values(f), default(f), f.text] for f in documented(cls)]
    text = inspect.getdoc(cls) or ""
    heads = ["field", "values", "default", ""]
    return [*text.splitlines(), "", *markdown_table(heads, rows, left=4)]


def values(field: Documented) -> str:
    """The values that a field may have."""
    words = words_of(field.hint)
    return words if field.bounds is None else f"{words}, {field.bounds}"


def words_of(hint: Any) -> str:
    """A type annotation in words, with a link for a section."""
    if hint in WORDS:
        return WORDS[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(words_of, inner))
    if origin is typing.Literal:
        return ", ".join(f'`"{value}"`' for value in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"({', '.join(map(words_of, inner))})"
    if origin in (tuple, list):
        return f"list of {words_of(inner[0])}"
    if origin is dict:
        return "any keys" if inner[1] is Any else f"names, each with {words_of(inner[1])}"
    if dataclasses.is_dataclass(hint):
        name = typing.cast(type, hint).__name__
        return f"[{name}](#{name.lower()})"
    return str(hint)


def default(field: Documented) -> str:
    """The default of a field; empty where it has none or is a section."""
    value = field.field.default
    if value is dataclasses.MISSING:
        return "" if field.field.default_factory is dataclasses.MISSING else "its defaults"
    if value is None:
        return "none"
    return f"`{list(value) if isinstance(value, tuple) else value!r}`"


if __name__ == "__main__":
    print("\n".join(reference()))
