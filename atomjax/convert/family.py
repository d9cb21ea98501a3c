"""Interface between the conversion and one family of models."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from atomjax.convert.nesting import Contents
from atomjax.graphs import GraphConfig
from atomjax.models import HeadConfig

Path = tuple[str, ...]

BUFFER = "buffer, computed anew"
ALIAS = "second name of the same tensor"
METRIC = "record of the training"
NO_HEAD = "heads are left out (--backbone-only)"


@dataclass(frozen=True)
class Recognised:
    """A file of a known family."""

    family: str  # family of the model, "gemnet_oc" or "equiformer_v2"
    layout: str  # naming scheme of the original code, for the report
    model: dict[str, Any]  # config of the model, as ``build_model`` takes it
    heads: tuple[HeadConfig, ...]  # heads of the model; empty if the backbone alone is converted
    names: dict[str, str]  # entry of the family's name map → name in the file
    ignored: dict[str, str]  # name in the file → why it is not used
    parameters: tuple[str, ...]  # names in the file of all trained parameters, in its order
    graph: GraphConfig  # the graphs that the checkpoint was trained with
    # Entry → names in the file of tensors that the original adds to it.
    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Entries that the original does not have, and their values.
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # questions that the file leaves open, and the answers assumed
    # Settings of the original, with their values, that nothing here reads.
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A model under the original's names."""

    layout: str  # naming scheme of the tensors
    # Name → array; tensors that the original holds twice are one array under two names.
    tensors: dict[str, np.ndarray]
    # Names of the trained parameters, each once, in the order of ``tensors``.
    parameters: tuple[str, ...]
    # Settings of the model, as the original's config has them.
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Options of the user."""

    backbone_only: bool = False  # leave the heads out
    # Names of the heads, in the order of the file; None takes those of the file, or of the
    # published models.
    head_names: tuple[str, ...] | None = None


class Family(Protocol):
    """One family of models: how files of it are recognised, and its name map."""

    name: str  # name of the family, that of its backbone

    def matches(self, contents: Contents) -> bool:
        """Whether a file is of this family."""
        ...

    def recognise(self, contents: Contents, choices: Choices) -> Recognised:
        """The model, its heads and the use of every tensor of a file."""
        ...

    def entries(
        self, variables: Mapping[str, Any], heads: tuple[HeadConfig, ...]
    ) -> Iterator[tuple[str, Path, str, tuple[int, ...]]]:
        """Every variable as (collection, path, entry, shape of the entry)."""
        ...

    def change_layout(self, entry: str, value: np.ndarray, /) -> np.ndarray:
        """An entry in our layout, or a variable in the original's: one change makes both."""
        ...

    def export(
        self,
        model: Mapping[str, Any],
        heads: tuple[HeadConfig, ...],
        entries: Mapping[str, np.ndarray],
    ) -> Exported:
        """A model under the names that the original gives such a one.

        Args:
            model: its config.
            heads: its heads; none for the backbone alone.
            entries: all entries of the name map.
        """
        ...


def fill(
    places: Iterable[tuple[str, Path, str, tuple[int, ...]]],
    entries: Mapping[str, np.ndarray],
    change_layout: Callable[[str, np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Variables at the places that `Family.entries` gives, filled from entries.

    Raises:
        ValueError: naming the entries that are missing or have another shape.
    """
    flat: dict[str, dict[Path, Any]] = {"params": {}, "scale_factors": {}}
    problems = []
    for collection, path, name, shape in places:
        value = entries.get(name)
        if value is None:
            problems.append(f"{name} is missing")
        elif tuple(value.shape) != shape:
            problems.append(f"{name} has shape {tuple(value.shape)}, the model needs {shape}")
        else:
            flat[collection][path] = jnp.asarray(change_layout(name, np.asarray(value)))
    if problems:
        raise ValueError("The checkpoint does not fit the model: " + "; ".join(problems))
    return {key: flax.traverse_util.unflatten_dict(leaves) for key, leaves in flat.items()}
