"""Sections of a config that are filled in by attribute, as in ``train.optimizer.beta1 = 0.9``."""

import copy
import dataclasses
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from atomjax.runtime.config import to_plain
from atomjax.training.settings import TrainSettings

# An ml_collections.ConfigDict; type checkers know none of its attributes.
Section = Any


def section(**fields: Any) -> Section:
    """A section with these fields in their order, to which more are added by attribute."""
    return ConfigDict(fields, sort_keys=False)


def training(batch_size: int) -> Section:
    """A section "train" whose sections are empty but for the structures per step, or left out."""
    hints = typing.get_type_hints(TrainSettings)
    names = [field.name for field in dataclasses.fields(TrainSettings)]
    train = section(**{name: section() for name in names if dataclasses.is_dataclass(hints[name])})
    train.batching.batch_size = batch_size
    return train


def data_of(*datasets: Section) -> Section:
    """A section "data" that trains on these data sets."""
    return section(train=list(datasets))


def generated(name: str, *, generator: str | None = None, **arguments: Any) -> Section:
    """A data set that is labelled here, by the generator of its name unless another is given."""
    made_by = {"kind": "generate", "generator": generator or name}
    return section(name=name, **made_by, arguments=arguments, graph=section())


def read(name: str, path: str, file_format: str | None = None) -> Section:
    """A data set that is read from a file or folder, whose name tells a format left open."""
    file = {"kind": "read", "path": path, "format": file_format}
    return section(name=name, **file, arguments=section(), graph=section())


def stored(name: str, path: str) -> Section:
    """A data set that is read from a store, the folder ``path``."""
    return section(name=name, kind="store", path=path, graph=section())


def variant(
    name: str, base: Section, parts: Iterable[Callable[[Section], None]], **fields: Any
) -> dict[str, Any]:
    """A variant of a sweep, as the keys of its base that functions change.

    Args:
        name: name of the variant.
        base: config of the sweep's base, which stays as it is.
        parts: functions that each change a config by attribute.
        **fields: further fields of the variant.
    """
    changed = copy.deepcopy(base)
    for part in parts:
        part(changed)
    changes = dict(_changes(to_plain(base), to_plain(changed), ""))
    return {"name": name, "changes": changes, **fields}


def _changes(old: Any, new: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys with new values."""
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            yield from _changes(before, value, f"{where}{key}.")
        elif value != before:
            yield f"{where}{key}", value
