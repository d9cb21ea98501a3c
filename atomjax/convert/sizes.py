"""Model configs in terms of the named sizes."""

from dataclasses import asdict
from typing import Any

from atomjax.models import BACKBONES


def describe_config(config: Any) -> dict[str, Any]:
    """A model config as ``build_model`` takes it: the nearest named size and differing fields."""
    wanted = asdict(config)
    (sizes,) = (each.sizes for each in BACKBONES.values() if each.config is type(config))

    def changes(name: str) -> dict[str, Any]:
        size = asdict(sizes[name])
        return {key: value for key, value in wanted.items() if size[key] != value}

    name = min(sizes, key=lambda n: len(changes(n)))
    return {"name": name, **changes(name)}
