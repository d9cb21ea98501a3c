"""Nested plain values: read from a file, changed on the command line, compared."""

import ast
import dataclasses
import difflib
import importlib.util
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

PREFIX = "--config."


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and how to mend it."""


class Argument(str):
    """A value as typed on the command line, before its field says which type it has."""

    @property
    def literal(self) -> Any:
        """The Python literal the text spells, else the text itself; 2e6 is a whole number."""
        words = {"true": True, "false": False, "none": None, "null": None}
        if self.lower() in words:
            return words[self.lower()]
        if re.fullmatch(r"[+-]?\d+[eE]\+?\d+", self):
            number = float(self)
            return int(number) if math.isfinite(number) else number
        try:
            return ast.literal_eval(str(self))
        except (ValueError, SyntaxError):
            return str(self)

    @property
    def listed(self) -> Any:
        """The Python literal the text spells, else the texts between its commas."""
        literal = self.literal
        return self.split(",") if isinstance(literal, str) else literal


def nearest(name: str, choices: Iterable[str], word: Callable[[str], str] = str) -> str:
    """A sentence that points from a mistyped or abbreviated ``name`` to the valid ones.

    Args:
        name: the unknown name.
        choices: valid names.
        word: the part of a valid name that is compared.

    Returns:
        " Did you mean 'x'?" with the nearest choice, else the list of choices.
    """
    words = {choice: word(choice) for choice in choices}
    # The first of several counts.
    compared_last = reversed(list(words.values()))
    initials = {"".join(part[:1] for part in one.split("_")): one for one in compared_last}
    close = difflib.get_close_matches(name, words.values(), n=1, cutoff=0.6)
    meant = initials.get(name) or next(iter(close), None)
    for choice, compared in words.items():
        if compared == meant:
            return f" Did you mean '{choice}'?"
    return f" Known: {', '.join(sorted(words))}." if words else ""


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
    package = Path(__file__).resolve().parents[2]
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
    if is_settings(config):
        return {
            field.name: _plain_value(getattr(config, field.name))
            for field in dataclasses.fields(config)
        }
    if not hasattr(config, "items"):
        raise ConfigError(f"{where} must be a ConfigDict or a dictionary, got {kind_of(config)}")
    return {str(key): _plain_value(value) for key, value in config.items()}


def is_settings(value: Any) -> TypeGuard[Any]:
    """Tell an instance of a settings dataclass from plain values and from classes."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _plain_value(value: Any) -> Any:
    if is_settings(value) or hasattr(value, "items"):
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
    """A new config with other values: dotted key → value, as in ``{"model.name": "x"}``.

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


def kind_of(value: Any) -> str:
    """The type of a value, for messages."""
    return "nothing" if value is None else type(value).__name__


def differences(
    old: Any, new: Any, where: str = "config", *, same: Callable[[Any, Any], bool] = operator.eq
) -> list[str]:
    """Dotted keys whose values differ between two plain configurations, with both values.

    Args:
        old: one configuration.
        new: another.
        where: key of both, before the dots.
        same: test whether two values are not different.
    """
    if hasattr(old, "items") and hasattr(new, "items"):
        return [
            line
            for key in sorted({*old, *new})
            for line in differences(old.get(key), new.get(key), f"{where}.{key}", same=same)
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for place, pair in enumerate(zip(old, new, strict=True))
            for line in differences(*pair, f"{where}.{place}", same=same)
        ]
    return [] if same(old, new) else [f"{where}: {old!r} -> {new!r}"]
