"""The repository's address and the version, written where readers and hosts look for them.

    python docs/addresses.py    makes them those of pyproject.toml and the package

The address stands in ``[project.urls]`` of pyproject.toml alone; everything else follows it.
"""

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Files → what stands there, with the fields of values().
PLACES = {
    "notebooks/*.py": ['REPOSITORY, TAG = "{repository}", "v{version}"'],
    "README.md": ["https://colab.research.google.com/github/{name}/blob/v{version}/notebooks/"],
    "CITATION.cff": ["repository-code: {repository}", "type: software\nversion: {version}"],
    "mkdocs.yml": ["link: {repository}"],
    ".github/ISSUE_TEMPLATE/config.yml": ["url: {repository}/security/advisories/new"],
}
FIELDS = {
    "repository": r"https://[\w.-]+/[\w.-]+/[\w.-]+",
    "name": r"[\w.-]+/[\w.-]+",
    "version": r"\d[\w.]*",
}
HOST = "https://github.com/"


def values() -> dict[str, str]:
    """Address, name and version as they are to stand everywhere."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    package = (ROOT / "atomjax" / "__init__.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', package, re.MULTILINE)
    repository = urls["Repository"]
    # Colab opens notebooks of this host by their names.
    if not repository.startswith(HOST):
        sys.exit(f"pyproject.toml: Repository is {repository}, and has to begin with {HOST}")
    return {"repository": repository, "name": repository.removeprefix(HOST), "version": version}


def placed(text: str, templates: list[str], fields: Mapping[str, str]) -> str:
    """A file's text with the fields in their places.

    Raises:
        ValueError: a place is not there.
    """
    for template in templates:
        pattern = re.escape(template)
        for field, form in FIELDS.items():
            pattern = pattern.replace(re.escape(f"{{{field}}}"), form)
        filled = template.format(**fields)
        text, count = re.subn(pattern, lambda _, filled=filled: filled, text)
        if count == 0:
            raise ValueError(f"there is no place like {template}")
    return text


def write() -> None:
    """Rewrites the files that differ."""
    fields = values()
    for pattern, templates in PLACES.items():
        for path in ROOT.glob(pattern):
            text = path.read_text("utf-8")
            if (new := placed(text, templates, fields)) != text:
                path.write_text(new, "utf-8")


if __name__ == "__main__":
    write()
