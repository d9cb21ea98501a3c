"""Strict conversion of plain nested mappings (configs) to frozen dataclasses."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A config value that cannot be used; the message names the key and the remedy."""


def unknown_key(key: str, known: Iterable[str], where: str) -> ConfigError:
    """The error for ``key`` that is not among ``known`` in section ``where``."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(known)}"
    return ConfigError(f'{where}: unknown key "{key}"; {hint}')


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Builds the dataclass ``cls`` from ``values``, recursively and strictly.

    Args:
        cls: a dataclass whose fields are plain types, dataclasses, tuples or dicts of them.
        values: nested mapping, for instance a ``ConfigDict``. Integers are accepted for float
            fields, lists for tuples, and instances of ``cls`` as they are.
        where: dotted name of this section, for error messages.

    Raises:
        ConfigError: for unknown or missing keys and values of the wrong type.
    """
    if isinstance(values, cls):
        return values
    if not hasattr(values, "items"):
        raise ConfigError(f"{where}: expected a section (mapping), got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown_key(str(key), fields, where)
        arguments[key] = _convert(hints[key], value, f"{where}.{key}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in arguments:
            raise ConfigError(f'{where}: missing key "{name}"; add {where}.{name}=...')
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def to_mapping(settings: Any) -> dict[str, Any]:
    """A dataclass instance as nested dicts and lists that JSON can hold."""
    return _plain(dataclasses.asdict(settings))


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        options = [option for option in arguments if option is not type(None)]
        return _first_match(options, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {value!r} is none of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict or hint is dict:
        if not hasattr(value, "items"):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        item = arguments[1] if arguments else Any
        return {str(k): _convert(item, v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    return _convert_scalar(hint, value, where)


def _first_match(options: list[Any], value: Any, where: str) -> Any:
    errors = []
    for option in options:
        try:
            return _convert(option, value, where)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {value!r}")
    if arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ConfigError(f"{where}: expected {len(arguments)} values, got {value!r}")
        hints = arguments
    else:
        hints = (arguments[0],) * len(value)
    return tuple(
        _convert(hint, item, f"{where}[{i}]")
        for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return _plain(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) and hint is not bool or not isinstance(value, hint):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value
