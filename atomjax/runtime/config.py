"""Configuration: a Python file with ``get_config()``, command-line overrides, a typed schema.

A configuration file returns an ``ml_collections.ConfigDict`` (or a dictionary) of plain values.
Frozen dataclasses are its schema: :func:`build` turns the plain values into one of them and
refuses unknown keys and wrong types, naming the dotted key and the nearest valid name.
"""

import ast
import dataclasses
import difflib
import importlib.util
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PREFIX = "--config."


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and how to mend it."""


class Argument(str):
    """A value as typed on the command line, before its field says which type it has."""

    @property
    def literal(self) -> Any:
        """The Python literal the text spells, else the text itself."""
        words = {"true": True, "false": False, "none": None, "null": None}
        if self.lower() in words:
            return words[self.lower()]
        try:
            return ast.literal_eval(str(self))
        except (ValueError, SyntaxError):
            return str(self)


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence that points from a mistyped ``name`` to the valid ones.

    Args:
        name: the unknown name.
        choices: valid names.

    Returns:
        " Did you mean 'x'?" with the nearest choice, else the list of choices.
    """
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(choices)}." if choices else ""


def load_config(source: str | Path) -> dict[str, Any]:
    """Reads a configuration file.

    Args:
        source: path of a Python file that defines ``get_config()``, or the name of a config that
            comes with atomjax, such as "quickstart" or "finetune/own"; ``path.py:argument`` and
            ``name:argument`` call ``get_config("argument")``.

    Returns:
        Nested plain dictionaries.

    Raises:
        ConfigError: the file is missing, fails, or defines no ``get_config``.
    """
    path, argument = _split_argument(str(source))
    if not path.is_file():
        siblings = [item.name for item in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings) or nearest(str(path), sorted(bundled_configs()))
        raise ConfigError(f"config file '{path}' does not exist.{hint}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config file '{path}' is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    # The class of errors that arbitrary user code can raise is open, so all are caught here,
    # and the original is kept as the cause.
    try:
        spec.loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        if get_config is None:
            raise ConfigError(f"config file '{path}' defines no function 'get_config()'; add one")
        config = get_config() if argument is None else get_config(argument)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"config file '{path}' failed: {type(error).__name__}: {error}"
        ) from error
    return to_plain(config, f"{path}: the result of get_config()")


def bundled_configs() -> dict[str, Path]:
    """Name → file of the configs that come with atomjax, in its wheel or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    folders = [package / "configs", package.parent / "configs"]
    folder = next((f for f in folders if (f / "quickstart.py").is_file()), None)
    if folder is None:
        return {}
    files = sorted(folder.rglob("*.py"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def _split_argument(source: str) -> tuple[Path, str | None]:
    head, separator, argument = source.rpartition(".py:")
    if separator:
        return Path(head + ".py"), argument
    name, separator, argument = source.partition(":")
    bundled = bundled_configs().get(name)
    if bundled is None or Path(source).is_file():
        return Path(source), None
    return bundled, argument if separator else None


def to_plain(config: Any, where: str = "config") -> dict[str, Any]:
    """Nested plain dictionaries of a ConfigDict, a dataclass or a mapping."""
    if _is_settings(config):
        return {
            field.name: _plain_value(getattr(config, field.name))
            for field in dataclasses.fields(config)
        }
    if not hasattr(config, "items"):
        raise ConfigError(f"{where} must be a ConfigDict or a dictionary, got {_kind(config)}")
    return {str(key): _plain_value(value) for key, value in config.items()}


def _is_settings(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _plain_value(value: Any) -> Any:
    if _is_settings(value) or hasattr(value, "items"):
        return to_plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def override(config: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Applies ``--config.a.b=value`` arguments.

    Items of a list are addressed by their place: ``--config.data.train.0.name=water``. Names
    and types are checked by :func:`build`.

    Args:
        config: nested plain dictionaries; left unchanged.
        arguments: ``--config.a.b=value`` or ``--config.a.b value``.

    Returns:
        A new configuration.

    Raises:
        ConfigError: an argument of another form, or a key inside something that has none.
    """
    config = _plain_value(config)
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith(PREFIX):
            raise ConfigError(
                f"'{argument}' is not an override; write it as {PREFIX}section.key=value"
            )
        key, separator, text = argument.removeprefix(PREFIX).partition("=")
        if not separator:
            if not rest:
                raise ConfigError(f"'{argument}' has no value; write {argument}=value")
            text = rest.pop(0)
        _assign(config, key, Argument(text))
    return config


def change(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A new config with other values: dotted key → value, as in ``{"train.weight_decay": 0.0}``.

    Raises:
        ConfigError: a key inside something that has none.
    """
    changed = to_plain(config)
    for key, value in changes.items():
        _assign(changed, key, _plain_value(value))
    return changed


def _assign(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    place: Any = config
    where = "config"
    for part in parents:
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        place = place[_index(place, part, where)]
        where = f"{where}.{part}"
    place[_index(place, last, where)] = value


def _index(place: Any, part: str, where: str) -> Any:
    if isinstance(place, dict):
        return part
    if not isinstance(place, list):
        raise ConfigError(f"{where}.{part}: {where} is a value, not a section with keys")
    if not part.isdecimal() or int(part) >= len(place):
        raise ConfigError(
            f"{where}.{part}: {where} is a list of {len(place)}; "
            f"address its items by place, {where}.0 to {where}.{len(place) - 1}"
        )
    return int(part)


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
        raise ConfigError(f"{where} must be a section with keys, got {_kind(mapping)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in mapping:
        if key not in fields:
            raise ConfigError(f"{where}.{key}: unknown key '{key}'.{nearest(str(key), fields)}")
    values = {key: convert(value, hints[key], f"{where}.{key}") for key, value in mapping.items()}
    for name, field in fields.items():
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
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def convert(value: Any, hint: Any, where: str) -> Any:
    """Checks one value against a type annotation and converts it.

    Args:
        value: a plain value, or an :class:`Argument`.
        hint: the annotation.
        where: dotted path of the value, for messages.

    Returns:
        The value in the annotated type.

    Raises:
        ConfigError: the value does not fit.
    """
    if hint is Any:
        return value.literal if isinstance(value, Argument) else value
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, typing.get_args(hint), hint, where)
    if hint is str:
        if not isinstance(value, str):
            raise _mismatch(value, hint, where)
        return str(value)
    if isinstance(value, Argument):
        value = value.literal
    if origin is typing.Literal:
        return _convert_choice(value, typing.get_args(hint), where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin in (tuple, list, Sequence):
        return _convert_items(value, origin, hint, where)
    if origin in (dict, Mapping) or hint is dict:
        return _convert_mapping(value, hint, where)
    return _convert_scalar(value, hint, where)


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
    if hint is int and is_number and float(value).is_integer():
        return int(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint not in (int, float, Path) and isinstance(hint, type) and isinstance(value, hint):
        return value
    raise _mismatch(value, hint, where)


def _mismatch(value: Any, hint: Any, where: str) -> ConfigError:
    shown = value.literal if isinstance(value, Argument) else value
    return ConfigError(f"{where} must be {describe(hint)}, got {shown!r} ({_kind(shown)})")


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


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def differences(old: Any, new: Any, where: str = "config") -> list[str]:
    """Dotted keys whose values differ between two plain configurations, with both values."""
    if hasattr(old, "items") and hasattr(new, "items"):
        return [
            line
            for key in sorted({*old, *new})
            for line in differences(old.get(key), new.get(key), f"{where}.{key}")
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for place, pair in enumerate(zip(old, new, strict=True))
            for line in differences(*pair, f"{where}.{place}")
        ]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]
