"""Low-rank adapters of dense kernels (LoRA; Hu et al., ICLR 2022, arXiv:2106.09685).

A kernel W [..., in, out] counts as W + alpha / rank · D U, where D [..., in, rank] is random at
first and U [..., rank, out] is zero, so that training begins at the model as it was. D and U are
trained, W is not. They lie under ``lora`` beside the backbone and the heads, and are merged into
the kernels before a model is applied or saved: checkpoints have the parameters of any other.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from atomjax.runtime.config import ConfigError
from atomjax.training.settings import GroupSettings, LoraSettings
from atomjax.training.update.optimizer import first_group, is_trained

ADAPTERS = "lora"
Params = dict[str, Any]


@dataclass(frozen=True)
class Adapters:
    """The adapters of one training."""

    settings: LoraSettings  # rank, scale and kernels

    def kernels(
        self, params: Mapping[str, Any], groups: Sequence[GroupSettings]
    ) -> dict[str, tuple[int, ...]]:
        """Path of each kernel to adapt → its shape.

        Args:
            params: parameters of the model, or their shapes.
            groups: groups of the training; kernels that they freeze are left out.

        Raises:
            ConfigError: there is none for which an update of this rank is smaller.
        """
        rank, pattern = self.settings.rank, self.settings.pattern
        flat = _flat(params)
        matching = {path: leaf.shape for path, leaf in flat.items() if re.search(pattern, path)}

        def is_adapted(path: str, shape: tuple[int, ...]) -> bool:
            smaller = len(shape) > 1 and rank * sum(shape[-2:]) < math.prod(shape[-2:])
            return smaller and is_trained(first_group(path, groups), groups)

        found = {path: shape for path, shape in matching.items() if is_adapted(path, shape)}
        if not found:
            raise ConfigError(
                f'train.lora: pattern="{pattern}" finds {len(matching)} parameters of the backbone,'
                f" and none is a kernel that is trained and larger than an update of rank={rank}; "
                f"paths look like {', '.join(sorted(flat)[:3])}"
            )
        return found

    def add(self, params: Params, kernels: Mapping[str, tuple[int, ...]], key: jax.Array) -> Params:
        """The parameters with adapters that change nothing yet."""
        rank, flat, adapters = self.settings.rank, _flat(params), {}
        for (path, shape), own in zip(
            sorted(kernels.items()), jax.random.split(key, len(kernels)), strict=True
        ):
            *stack, inputs, outputs = shape
            dtype = flat[path].dtype
            down = jax.random.normal(own, (*stack, inputs, rank), dtype) / math.sqrt(inputs)
            adapters[f"{path}/down"] = down
            adapters[f"{path}/up"] = jnp.zeros((*stack, rank, outputs), dtype)
        return {**params, ADAPTERS: unflatten_dict(adapters, sep="/")}

    def frozen(self, kernels: Mapping[str, Any]) -> GroupSettings:
        """The group of what is not trained beside the adapters."""
        paths = "|".join(map(re.escape, kernels))
        pattern = "^backbone/" if self.settings.freeze_rest else f"^({paths})$"
        return GroupSettings(pattern=pattern, multiplier=0.0)

    def merge(self, params: Params) -> Params:
        """The model's parameters, adapters merged; all but adapted kernels are the arrays given."""
        others = {name: tree for name, tree in params.items() if name != ADAPTERS}
        flat = _flat(others)
        adapters = flatten_dict(params[ADAPTERS], sep="/")
        parts = {
            path: (flat[path], adapters[f"{path}/down"], adapters[f"{path}/up"])
            for path in sorted({name.rpartition("/")[0] for name in adapters})
        }
        settings = self.settings
        scale = 1.0 if settings.alpha is None else settings.alpha / settings.rank
        return {**others, **unflatten_dict({**flat, **_updated(parts, scale)}, sep="/")}


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Path → parameter of the backbone."""
    return flatten_dict({"backbone": params["backbone"]}, sep="/")  # type: ignore[return-value]


@jax.jit
def _updated(parts: dict[str, tuple[jax.Array, ...]], scale: float) -> dict[str, jax.Array]:
    """Kernel + scale · down · up of each path, in full precision."""
    return {
        path: kernel + (scale * jnp.matmul(down, up, precision="highest")).astype(kernel.dtype)
        for path, (kernel, down, up) in parts.items()
    }
