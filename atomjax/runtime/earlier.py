"""Runs of earlier versions: the meaning of settings fields that these did not have.

A field whose default changes the earlier behaviour gives the earlier value in its metadata:
``field(default=True, metadata={"before": False})``.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from atomjax.runtime.config import to_plain
from atomjax.runtime.files import CONFIG_MEND, read_json

T = TypeVar("T")


def as_it_began(settings: T, workdir: Path) -> tuple[T, list[str]]:
    """Settings with which a run continues as under the version that began it.

    Args:
        settings: settings of a config; values other than a default stay.
        workdir: directory of the run, which may be new.

    Returns:
        The settings, and the dotted keys that were changed with their values.
    """
    path = workdir / "config.json"
    notes: list[str] = []
    if not path.is_file():
        return settings, notes
    return _as_before(settings, read_json(path, CONFIG_MEND), "config", notes), notes


def _as_before(settings: Any, previous: Any, where: str, notes: list[str]) -> Any:
    if isinstance(settings, tuple) and isinstance(previous, list):
        pairs = zip(settings, previous, strict=False)
        begun = [_as_before(*pair, f"{where}.{i}", notes) for i, pair in enumerate(pairs)]
        return (*begun, *settings[len(begun) :])
    if not (_is_settings(settings) and isinstance(previous, dict)):
        return settings
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{where}.{field.name}"
        if field.name in previous:
            changes[field.name] = _as_before(value, previous[field.name], key, notes)
        elif "before" in field.metadata and value == field.default:
            changes[field.name] = field.metadata["before"]
            notes.append(f"{key}={field.metadata['before']}")
    return dataclasses.replace(settings, **changes)


def completed(previous: Any, settings: Any) -> Any:
    """A plain configuration of an earlier version with the fields that it did not have.

    Args:
        previous: the configuration as it was written.
        settings: present settings, whose fields give their earlier meaning, or have a default that
            did not change it.
    """
    if isinstance(previous, list) and isinstance(settings, list | tuple):
        pairs = itertools.zip_longest(previous, settings[: len(previous)])
        return [completed(*pair) for pair in pairs]
    if not (_is_settings(settings) and isinstance(previous, dict)):
        return previous
    complete = {
        name: completed(value, getattr(settings, name, None)) for name, value in previous.items()
    }
    for field in dataclasses.fields(settings):
        if field.name not in previous:
            complete[field.name] = _before(field)
    return complete


def _before(field: dataclasses.Field) -> Any:
    """The plain value of a field in runs that did not have it; None where it has no default."""
    value = None
    if field.default is not dataclasses.MISSING:
        value = field.metadata.get("before", field.default)
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    return json.loads(json.dumps(to_plain({"value": value})))["value"]


def _is_settings(value: Any) -> TypeGuard[Any]:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
