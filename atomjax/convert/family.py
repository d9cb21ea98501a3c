"""Interface between the conversion and one family of models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import flax.traverse_util
import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.nesting import Contents
from atomjax.graphs import GraphConfig
from atomjax.models import HeadConfig
from atomjax.training.running.leaves import listed

Path = tuple[str, ...]
Variables = dict[str, Any]

BUFFER = "buffer, computed anew"
ALIAS = "second name of the same tensor"
METRIC = "record of the training"
NO_HEAD = "heads are left out (--backbone-only)"
SHOWN = 8


@dataclass(frozen=True)
class Recognised:
    """A file of a known family."""

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
    template: Mapping[str, Any],
    heads: Sequence[HeadConfig],
    family: Family,
    entries: Mapping[str, np.ndarray],
) -> Variables:
    """Variables of a template filled with entries, in float32.

    Raises:
        ConvertError: naming entries that are missing, left over, of another shape or not finite.
    """
    flat: dict[str, dict[Path, np.ndarray]] = {"params": {}, "scale_factors": {}}
    problems, used = [], set()
    for collection, path, entry, shape in family.entries(template, tuple(heads)):
        used.add(entry)
        value = entries.get(entry)
        if value is None:
            problems.append(f"{entry} is missing")
        elif value.shape != shape:
            problems.append(f"{entry} has shape {list(value.shape)}, the model needs {list(shape)}")
        else:
            # A view of the file where it can be: Orbax makes the one copy there has to be.
            with np.errstate(over="ignore"):
                ours = family.change_layout(entry, value).astype(np.float32, copy=False)
            flat[collection][path] = ours
            if count := int(ours.size - np.count_nonzero(np.isfinite(ours))):
                numbers = f"{count:,} of its {value.size:,} numbers"
                problems.append(f"{entry}: {numbers} are NaN or infinite in float32")
    problems += [f"{entry} has no place in the model" for entry in sorted(entries.keys() - used)]
    if problems:
        raise ConvertError(f"{len(problems)} tensors do not fit:\n  {listed(problems, SHOWN)}")
    return {key: flax.traverse_util.unflatten_dict(leaves) for key, leaves in flat.items()}
