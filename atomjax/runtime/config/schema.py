"""Plain values into settings dataclasses, strictly.

Errors name the dotted key and the nearest valid name.
"""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atomjax.runtime.config.plain import Argument, ConfigError, kind_of, nearest

# Similarity of a name and one of its section from which it is that one, mistyped.
MISTYPED = 0.85


class UnknownKey(ConfigError):
    """A key that a section does not have; sections around it may know where it belongs."""

    def __init__(self, where: str, key: str, cls: type):
        self.where, self.key = where, key
        own, below = _field_types(cls), _names_below(cls)
        self.advice = nearest(key, (*own, *below), _last)
        if not self.advice.startswith(" Did"):
            self.advice = nearest(key, own)
        self.found = ""
        self.look_in(cls, where)
        # "epoch" means "epochs" here, whatever has that name elsewhere.
        self._mistyped = bool(difflib.get_close_matches(key, own, cutoff=MISTYPED))

    def look_in(self, cls: type, where: str) -> None:
        """Finds the key among the fields of a section and of those below it."""
        paths = (*_field_types(cls), *_names_below(cls))
        place = next((path for path in paths if _last(path) == self.key), None)
        # A field of a section further up is nearer than one deep below.
        nearer = place == self.key and self.found.count(".") > 1
        if place is not None and (not self.found or nearer):
            self.advice, self.found = f" Write {where}.{place}.", place

    def look_around(self, cls: type, where: str) -> None:
        """:meth:`look_in` for a section around that of the key."""
        if self.found or not self._mistyped:
            self.look_in(cls, where)

    def __str__(self) -> str:
        return f"{self.where}.{self.key}: unknown key '{self.key}'.{self.advice}"


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def build(cls: type, mapping: Any, where: str = "config") -> Any:
    """Builds a settings dataclass from plain values, strictly.

    Args:
        cls: a dataclass whose fields are dataclasses, scalars, ``X | None``, ``Literal``,
            ``tuple[X, ...]``, ``list[X]``, ``dict[str, X]`` or ``Any``.
        mapping: the values; fields left out take their default.
        where: dotted path of ``mapping``, for messages.

    Returns:
        An instance of ``cls``.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, or a ValueError of the dataclass.
    """
    if isinstance(mapping, cls):
        return mapping
    if not hasattr(mapping, "items"):
        raise ConfigError(f"{where} must be a section with keys, got {kind_of(mapping)}")
    hints = _field_types(cls)
    for key in mapping:
        if key not in hints:
            raise UnknownKey(where, str(key), cls)
    try:
        given = mapping.items()
        values = {key: convert(value, hints[key], f"{where}.{key}") for key, value in given}
    except UnknownKey as error:
        error.look_around(cls, where)
        raise
    for field in dataclasses.fields(cls):
        name = field.name
        absent = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if absent and name not in values:
            raise ConfigError(
                f"{where}.{name}: missing; set it in the config file or with "
                f"--{where}.{name}=<{describe(hints[name])}>"
            )
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def section_type(hint: Any) -> Any:
    """The settings dataclass in an annotation such as ``X`` or ``X | None``; None without one."""
    options = (hint, *typing.get_args(hint)) if _is_union(hint) else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


@functools.cache
def _field_types(cls: Any) -> dict[str, Any]:
    """Field → type."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


@functools.cache
def _names_below(cls: type) -> dict[str, Any]:
    """Dotted path of each field of the sections below one → type, the uppermost first."""
    own = {name: section_type(hint) for name, hint in _field_types(cls).items()}
    sections = {name: section for name, section in own.items() if section is not None}
    found = {
        f"{name}.{field}": hint
        for name, section in sections.items()
        for field, hint in _field_types(section).items()
    }
    for name, section in sections.items():
        for path, hint in _names_below(section).items():
            found.setdefault(f"{name}.{path}", hint)
    return found


def convert(value: Any, hint: Any, where: str) -> Any:
    """Checks one value against a type annotation and converts it.

    Raises:
        ConfigError: the value does not fit.
    """
    if hint is Any:
        return value.literal if isinstance(value, Argument) else value
    origin = typing.get_origin(hint)
    if isinstance(value, Argument) and str(value) in _words(hint):
        # "none" may be a word, too.
        value = str(value)
    if _is_union(hint):
        return _convert_union(value, typing.get_args(hint), hint, where)
    if hint is str:
        if not isinstance(value, str):
            raise _mismatch(value, hint, where)
        return str(value)
    is_list = origin in (tuple, list, Sequence)
    if isinstance(value, Argument):
        alone = is_list and any(str(value) in _words(item) for item in typing.get_args(hint))
        value = [value] if alone else value.listed if is_list else value.literal
    if origin is typing.Literal:
        return _convert_choice(value, typing.get_args(hint), where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if is_list:
        return _convert_items(value, origin, hint, where)
    if origin in (dict, Mapping) or hint is dict:
        return _convert_mapping(value, hint, where)
    return _convert_scalar(value, hint, where)


def _words(hint: Any) -> tuple[Any, ...]:
    """The choices of a Literal, or of one in a union."""
    if _is_union(hint):
        return tuple(word for option in typing.get_args(hint) for word in _words(option))
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _convert_union(value: Any, options: Sequence[Any], hint: Any, where: str) -> Any:
    literal = value.literal if isinstance(value, Argument) else value
    if literal is None and type(None) in options:
        return None
    # The most specific reading wins: 3 is an integer before it is a float or a string.
    order = {bool: 0, int: 1, float: 2, str: 4}
    errors = []
    for option in sorted(options, key=lambda item: order.get(item, 3)):
        if option is type(None) or (option is int and isinstance(literal, float)):
            continue
        try:
            return convert(value, option, where)
        except ConfigError as error:
            errors.append(error)
    # A section that only one option could have read has the more helpful message.
    if hasattr(literal, "items") and len(errors) == 1:
        raise errors[0]
    raise _mismatch(value, hint, where)


def _convert_choice(value: Any, choices: Sequence[Any], where: str) -> Any:
    if value in choices:
        return value
    suggestion = nearest(str(value), map(str, choices))
    raise ConfigError(
        f"{where} must be {' or '.join(map(repr, choices))}, got {value!r}.{suggestion}"
    )


def _convert_items(value: Any, origin: Any, hint: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, hint, where)
    kinds = typing.get_args(hint)
    if origin is tuple and not (len(kinds) == 2 and kinds[1] is Ellipsis):
        if len(value) != len(kinds):
            raise ConfigError(f"{where} must have {len(kinds)} items, got {len(value)}")
    else:
        kinds = (kinds[0],) * len(value)
    items = (
        convert(item, kind, f"{where}.{place}")
        for place, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )
    return list(items) if origin is list else tuple(items)


def _convert_mapping(value: Any, hint: Any, where: str) -> dict[str, Any]:
    if not hasattr(value, "items"):
        raise _mismatch(value, hint, where)
    kinds = typing.get_args(hint) or (str, Any)
    return {
        str(key): _convert_entry(item, kinds[1], f"{where}.{key}") for key, item in value.items()
    }


def _convert_entry(value: Any, hint: Any, where: str) -> Any:
    # Inside free-form sections command-line texts can sit at any depth.
    if hint is not Any:
        return convert(value, hint, where)
    if hasattr(value, "items"):
        return _convert_mapping(value, dict, where)
    if isinstance(value, list | tuple):
        return [_convert_entry(item, Any, f"{where}.{i}") for i, item in enumerate(value)]
    return convert(value, Any, where)


def _convert_scalar(value: Any, hint: Any, where: str) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and is_number and math.isfinite(value):
        return float(value)
    if hint is int and is_number and isinstance(value, int):
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint not in (int, float, Path) and isinstance(hint, type) and isinstance(value, hint):
        return value
    raise _mismatch(value, hint, where)


def _mismatch(value: Any, hint: Any, where: str) -> ConfigError:
    shown = value.literal if isinstance(value, Argument) else value
    return ConfigError(f"{where} must be {describe(hint)}, got {shown!r} ({kind_of(shown)})")


def describe(hint: Any) -> str:
    """A type annotation in words."""
    words = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    if hint in words:
        return words[hint]
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if origin in (tuple, list, Sequence):
        kinds = [kind for kind in typing.get_args(hint) if kind is not Ellipsis]
        return f"a list, each item {describe(kinds[0])}" if kinds else "a list"
    if hint is type(None):
        return "none"
    if dataclasses.is_dataclass(hint) or origin in (dict, Mapping) or hint is dict:
        return "a section with keys"
    return getattr(hint, "__name__", str(hint))
