"""Model configs in terms of the named sizes."""

from dataclasses import asdict
from typing import Any

from atomjax.models import MODEL_SIZES


def describe_config(config: Any) -> dict[str, Any]:
    """A model config as ``build_model`` takes it: the nearest named size and what differs.

    Args:
        config: configuration dataclass of a backbone.
    """
    wanted = asdict(config)

    def changes(name: str) -> dict[str, Any]:
        size = asdict(MODEL_SIZES[name])
        return {key: value for key, value in wanted.items() if size[key] != value}

    names = [name for name, size in MODEL_SIZES.items() if type(size) is type(config)]
    name = min(names, key=lambda n: len(changes(n)))
    return {"name": name, **changes(name)}
