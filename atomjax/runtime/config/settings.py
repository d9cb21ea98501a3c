"""Base of the dataclasses that are sections of a config, with the values that fields may have.

A field is declared, bounded and documented in one place:

    learning_rate: Positive = 1e-4
    "Peak learning rate."

:func:`documented` reads the text under each field, from which ``docs/configuration.md`` is made.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from atomjax.runtime.config.plain import ConfigError
from atomjax.runtime.config.schema import convert


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; without ``low`` itself where ``above`` is true."""

    low: float
    high: float | None = None
    above: bool = False

    def __contains__(self, value: float) -> bool:
        too_low = value <= self.low if self.above else value < self.low
        return not too_low and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is not None:
            return f"between {self.low:g} and {self.high:g}"
        return f"above {self.low:g}" if self.above else f"at least {self.low:g}"


Count = Annotated[int, Range(1)]
WholeNumber = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of a config's sections: fields have the declared types and lie in the declared ranges.

    Raises:
        ConfigError: naming the field that does not.
    """

    def __post_init__(self) -> None:
        for name, (hint, bounds) in _declarations(type(self)).items():
            value = getattr(self, name)
            convert(value, hint, name)
            if bounds is not None and value is not None and value not in bounds:
                raise ConfigError(f"{name}={value} must be {bounds}")

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A section that an earlier version stored, with the keys of now.

        Fields that went to a section below under their own name need nothing here.
        """
        return previous


@functools.cache
def _declarations(cls: type) -> dict[str, tuple[Any, Range | None]]:
    """Field → its type, and the range of its numbers."""
    plain, rich = (typing.get_type_hints(cls, include_extras=extra) for extra in (False, True))
    return {field.name: (plain[field.name], _range(rich[field.name])) for field in _fields(cls)}


def _fields(cls: type) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(typing.cast(Any, cls))


def _range(hint: Any) -> Range | None:
    """The range in an annotation, such as ``Count`` or ``Count | None``."""
    notes = [note for part in (hint, *typing.get_args(hint)) for note in _notes(part)]
    return next((note for note in notes if isinstance(note, Range)), None)


def _notes(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


@dataclass(frozen=True)
class Documented:
    """A field of a section, for documentation."""

    name: str
    hint: Any
    bounds: Range | None
    field: dataclasses.Field
    text: str


@functools.cache
def documented(cls: type) -> tuple[Documented, ...]:
    """The fields of a section with the text under each declaration.

    Raises:
        ValueError: a field has none.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            texts |= _texts(base)
    missing = [field.name for field in _fields(cls) if field.name not in texts]
    if missing:
        raise ValueError(f"{cls.__name__}: no text under {', '.join(missing)}")
    declarations = _declarations(cls)
    return tuple(
        Documented(field.name, *declarations[field.name], field, texts[field.name])
        for field in _fields(cls)
    )


def _texts(cls: type) -> dict[str, str]:
    """Field that a class declares itself → the text under it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for declared, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name):
            value = below.value if isinstance(below, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts[declared.target.id] = " ".join(value.value.split())
    return texts
