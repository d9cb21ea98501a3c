"""Digests of source code, so that what it computed before is not taken for what it computes now."""

import ast
import functools
import hashlib
import importlib.util
from pathlib import Path


@functools.cache
def code_digest(*names: str) -> str:
    """Digest of what modules and packages compute: their code without docstrings and comments.

    The same for every version of Python.

    Args:
        *names: full names of modules; a package stands for all modules in it.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    found = hashlib.sha256()
    for name in names:
        for path in _sources(name):
            found.update(f"{name} {path.name}\n{code_of(path.read_text('utf-8'))}\n".encode())
    return found.hexdigest()


def code_of(source: str) -> str:
    """The lines of a module that compute something."""
    lines = source.splitlines()
    texts, documentation = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation.update(_lines_of(node))
        elif isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno:
            # A line of a text may begin like a comment.
            texts.update(_lines_of(node))
    return "\n".join(
        line.rstrip()
        for number, line in enumerate(lines, 1)
        if number not in documentation
        and (number in texts or (line.strip() and not line.lstrip().startswith("#")))
    )


def _lines_of(node: ast.expr | ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _sources(name: str) -> list[Path]:
    """Source files of a module, or of all modules of a package."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {name!r} with a source file")
    path = Path(spec.origin)
    return sorted(path.parent.rglob("*.py")) if spec.submodule_search_locations else [path]
