"""Settings of the backbone that a checkpoint file states."""

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any

from atomjax.convert.errors import ConvertError
from atomjax.convert.nesting import Contents, field_names, read_field

# Settings of the heads and their pooling.
READ_BY_HEADS = ("extensive", "regress_forces", "direct_forces")


def backbone_settings(contents: Contents, fields: tuple[str, ...]) -> dict[str, Any]:
    """Fields of the original's config that the file holds and that are not None.

    JMP keeps them in its hyperparameters, ocp apart from the model's name, fairchem together with
    it, in its later versions one level deeper.
    """
    settings = model_section(contents)
    values = {field: read_field(settings, field) for field in fields}
    return {field: value for field, value in values.items() if value is not None}


def unread_settings(contents: Contents, read: tuple[str, ...], config: type) -> tuple[str, ...]:
    """Settings of the original that are there and that nothing reads, as name=value.

    Args:
        contents: contents of the file.
        read: fields that are read or refused.
        config: class of our config, whose other fields follow from the shapes of the tensors.
    """
    known = {
        "name",
        "model",
        *READ_BY_HEADS,
        *read,
        *(field.name for field in dataclasses.fields(config)),
    }
    settings = model_section(contents)
    values = {name: read_field(settings, name) for name in field_names(settings)}
    return tuple(
        f"{name}={reprlib.repr(value):.60}"
        for name, value in sorted(values.items())
        if name not in known and not name.startswith("_") and value is not None
    )


def model_section(contents: Contents) -> Any:
    """The model's part of the original's config."""
    config = contents.parts.get("config")
    model = read_field(config, "model_attributes") or read_field(config, "model")
    settings = read_field(contents.parts.get("hyper_parameters"), "backbone")
    return settings or read_field(model, "backbone") or model


def check_built_in(
    settings: Mapping[str, Any], built_in: Mapping[str, tuple[Any, ...]], model: str
) -> None:
    """Refuses settings of the original that change the function of the network.

    Args:
        settings: result of :func:`backbone_settings`.
        built_in: field → values that agree with atomjax's model.
        model: name of the model, for the message.

    Raises:
        ConvertError: naming the field.
    """
    for name, allowed in built_in.items():
        if name in settings and settings[name] not in allowed:
            raise ConvertError(
                f"the original was built with {name}={settings[name]!r}; atomjax's {model} has "
                f"{allowed[0]!r} built in and would compute something else"
            )
