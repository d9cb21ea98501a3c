"""Configuration: a Python file with ``get_config()``, command-line overrides, a typed schema.

A configuration file returns an ``ml_collections.ConfigDict`` (or a dictionary) of plain values.
Frozen dataclasses are its schema: :func:`build` turns the plain values into one of them and
refuses unknown keys and wrong types, naming the dotted key and the nearest valid name.
"""

from atomjax.runtime.config.plain import (
    PREFIX,
    Argument,
    ConfigError,
    bundled_configs,
    change,
    differences,
    is_settings,
    load_config,
    nearest,
    override,
    to_plain,
)
from atomjax.runtime.config.schema import build, convert, describe, section_type
from atomjax.runtime.config.settings import (
    Count,
    Documented,
    Fraction,
    NotNegative,
    Positive,
    Range,
    Settings,
    WholeNumber,
    documented,
)

__all__ = [
    "PREFIX",
    "Argument",
    "ConfigError",
    "Count",
    "Documented",
    "Fraction",
    "NotNegative",
    "Positive",
    "Range",
    "Settings",
    "WholeNumber",
    "build",
    "bundled_configs",
    "change",
    "convert",
    "describe",
    "differences",
    "documented",
    "is_settings",
    "load_config",
    "nearest",
    "override",
    "section_type",
    "to_plain",
]
