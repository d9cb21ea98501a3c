"""Configs that earlier versions stored in workdirs and checkpoints: their keys and their meaning.

A field that went to a section below keeps its name, so :func:`translated` finds it there; other
changes are the ``from_earlier`` of a settings class. A field whose default changes the earlier
behaviour gives the earlier value in its metadata, as in
``field(default=True, metadata={"before": False})``.
"""

import dataclasses
import itertools
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from atomjax.runtime.config import Settings, is_settings, section_type, to_plain
from atomjax.runtime.files import CONFIG_MEND, PARSE_ERRORS, DamagedFile, read_json
from atomjax.runtime.workflows import WORKFLOWS, find_workflow, resolve

T = TypeVar("T")


def read_config(path: Path, settings: Any = None) -> dict[str, Any]:
    """A stored config, ``config.json`` of a workdir, with the keys of now.

    Args:
        path: the file.
        settings: type of the settings; None for that of its workflow.

    Raises:
        DamagedFile: it is no configuration.
    """
    previous = read_json(path, CONFIG_MEND)
    try:
        if not isinstance(previous, dict):
            raise TypeError("it holds no keys and values")
        return translated(settings, previous) if settings else translated_config(previous)
    except PARSE_ERRORS as error:
        raise DamagedFile(f"{path} is damaged: {error}; {CONFIG_MEND}") from error


def translated_config(previous: dict[str, Any]) -> dict[str, Any]:
    """A stored config of a workflow with the keys of now."""
    if previous.get("workflow") not in WORKFLOWS:
        return previous
    return translated(resolve(find_workflow(previous).settings), previous)


def translated_changes(workflow: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key → value of changes to a config of a workflow, with the keys of now."""
    found = {}
    for key, value in changes.items():
        nested: Any = _HERE
        for part in reversed(key.split(".")):
            nested = {part: nested}
        found[_path_of_here(translated_config({"workflow": workflow, **nested}))] = value
    return found


_HERE = object()


def _path_of_here(config: dict[str, Any]) -> str:
    """Dotted path of the marker in a config."""
    for key, value in config.items():
        if value is _HERE:
            return key
        if isinstance(value, dict) and (path := _path_of_here(value)):
            return f"{key}.{path}"
    return ""


def translated(hint: Any, previous: Any) -> Any:
    """A stored value of a field with the keys of now."""
    cls, kinds = section_type(hint), typing.get_args(hint)
    if isinstance(previous, list) and kinds:
        return [translated(kinds[0], item) for item in previous]
    if isinstance(previous, dict) and typing.get_origin(hint) is dict:
        return {key: translated(kinds[1], item) for key, item in previous.items()}
    if cls is None or not isinstance(previous, dict):
        return previous
    if issubclass(cls, Settings):
        previous = dict(cls.from_earlier(previous))
    hints = typing.get_type_hints(cls)
    sections = {
        field.name: name
        for name, hint in hints.items()
        if (section := section_type(hint)) is not None
        for field in dataclasses.fields(section)
        if field.name not in hints
    }
    moved: dict[str, dict[str, Any]] = {}
    for key in [key for key in previous if key in sections]:
        moved.setdefault(sections[key], {})[key] = previous.pop(key)
    given = {**previous, **{name: {**previous.get(name, {}), **moved[name]} for name in moved}}
    return {key: translated(hints.get(key), value) for key, value in given.items()}


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
    previous = read_config(path, type(settings))
    return _as_before(settings, previous, "config", notes), notes


def _as_before(settings: Any, previous: Any, where: str, notes: list[str]) -> Any:
    if isinstance(settings, tuple) and isinstance(previous, list):
        pairs = zip(settings, previous, strict=False)
        begun = [_as_before(*pair, f"{where}.{i}", notes) for i, pair in enumerate(pairs)]
        return (*begun, *settings[len(begun) :])
    if not (is_settings(settings) and isinstance(previous, dict)):
        return settings
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{where}.{field.name}"
        if field.name in previous:
            changes[field.name] = _as_before(value, previous[field.name], key, notes)
        elif "before" in field.metadata and value == field.default:
            changes[field.name] = field.metadata["before"]
            notes.append(f"{key}={field.metadata['before']}")
        elif is_settings(value):
            changes[field.name] = _as_before(value, {}, key, notes)
    return dataclasses.replace(settings, **changes)


def completed(previous: Any, settings: Any) -> Any:
    """A plain configuration of an earlier version with the fields that it did not have.

    Args:
        previous: the configuration as it was written, with the keys of now.
        settings: present settings, whose fields give their earlier meaning, or have a default that
            did not change it.
    """
    if isinstance(previous, list) and isinstance(settings, list | tuple):
        pairs = itertools.zip_longest(previous, settings[: len(previous)])
        return [completed(*pair) for pair in pairs]
    if not (is_settings(settings) and isinstance(previous, dict)):
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
        if is_settings(value):
            return completed({}, value)
    return json.loads(json.dumps(to_plain({"value": value})))["value"]
