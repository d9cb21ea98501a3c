"""Unwrapping of a checkpoint file: weights under their own names, and the data beside them.

The originals save their weights in several wrappings:

    fairchem v1     {"state_dict": {"module.module.…"}, "normalizers", "ema", "config", …}
    JMP, Lightning  {"state_dict": {…}, "optimizer_states": [{"ema": (…)}], "hyper_parameters", …}
    JMP, backbone   {"backbone": {…}, "embedding": {…}}
    anything        the state_dict alone
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.safe_pickle import Record

# Prefixes that DistributedDataParallel, DataParallel, torch.compile and trainers add to names.
WRAPPERS = ("module.", "_orig_mod.", "_forward_module.", "model.", "_module.")
SHOWN = 5

# Parts of a file that are read, or known to hold no weights, and why the latter are left out.
UNUSED_PARTS = {
    "amp": "state of mixed precision",
    "best_val_metric": "record of the training",
    "callbacks": "state of the training",
    "datamodule_hparams_name": "record of the training",
    "epoch": "record of the training",
    "global_step": "record of the training",
    "hparams_name": "record of the training",
    "loops": "state of the training",
    "lr_schedulers": "state of the training",
    "MixedPrecision": "state of mixed precision",
    "MixedPrecisionPlugin": "state of mixed precision",
    "native_amp_scaling_state": "state of mixed precision",
    "optimizer": "state of the optimiser",
    "primary_metric": "record of the training",
    "pytorch-lightning_version": "record of the training",
    "scheduler": "state of the training",
    "step": "record of the training",
    "val_metrics": "record of the training",
}
READ_PARTS = (
    "config",
    "elementrefs",
    "ema",
    "hyper_parameters",
    "normalizers",
    "optimizer_states",
    "scale_dict",
    "state_dict",
)


@dataclass(frozen=True)
class Contents:
    """One checkpoint file, unwrapped."""

    tensors: dict[str, np.ndarray]  # name without wrappers → array, in the order of the file
    wrapper: str = ""  # prefix removed from every name
    # The other parts of the file that are read, by name.
    parts: dict[str, Any] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)  # part of the file → why it is left out

    def source_name(self, name: str) -> str:
        """Name of a tensor in the file."""
        return self.wrapper + name


def unwrap(loaded: Any) -> Contents:
    """The weights of a loaded file, and its other parts.

    Raises:
        ConvertError: no weights are found, or something among them is no tensor.
    """
    if not isinstance(loaded, dict) or not loaded:
        raise ConvertError(f"the file holds a {type(loaded).__name__}, not a checkpoint")
    state, parts, unused = _split(loaded)
    if not state:
        raise ConvertError("the file's state_dict is empty")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise ConvertError(
                f"the file's state_dict holds a {type(value).__name__} under {name!r:.80} in "
                "place of a tensor"
            )
    wrapper = ""
    while wrap := next((w for w in WRAPPERS if all(n.startswith(w) for n in state)), None):
        wrapper += wrap
        state = {name.removeprefix(wrap): value for name, value in state.items()}
    return Contents(state, wrapper, parts, unused)


def _split(loaded: dict[Any, Any]) -> tuple[dict[Any, Any], dict[str, Any], dict[str, str]]:
    """The state_dict, the other parts that are read, and the reasons for the rest."""
    if all(isinstance(value, np.ndarray) for value in loaded.values()):
        return loaded, {}, {}
    if loaded.keys() == {"backbone", "embedding"}:
        nested = {"backbone": loaded["backbone"], "embedding": loaded["embedding"]}
        if all(isinstance(part, dict) for part in nested.values()):
            flat = {f"{top}.{k}": v for top, part in nested.items() for k, v in part.items()}
            return flat, {}, {}
    state = loaded.get("state_dict")
    if not isinstance(state, dict):
        shown = ", ".join(map(str, list(loaded)[:SHOWN]))
        raise ConvertError(
            f"the file has no state_dict; it holds {shown}{', ...' if len(loaded) > SHOWN else ''}"
        )
    parts = {name: loaded[name] for name in READ_PARTS if loaded.get(name) is not None}
    del parts["state_dict"]
    unused = {
        str(name): UNUSED_PARTS.get(name, "unknown part of the file, not read")
        for name in loaded
        if name not in READ_PARTS
    }
    return state, parts, unused


def field_names(record: Any) -> list[str]:
    """Names of the fields that :func:`read_field` finds."""
    return [name for fields in _fields(record) for name in fields if isinstance(name, str)]


def read_field(record: Any, name: str, default: Any = None) -> Any:
    """A field of a config, which may be a mapping or the record of an object of unknown class."""
    return next((fields[name] for fields in _fields(record) if name in fields), default)


def _fields(record: Any) -> Iterator[Mapping[Any, Any]]:
    """The items of a record, and its attributes; a mapping itself."""
    if isinstance(record, Record):
        yield record.items
        record = record.state
        if isinstance(record, tuple) and record:  # (attributes, slots)
            record = record[0]
        if isinstance(record, Mapping) and isinstance(record.get("__dict__"), Mapping):
            record = record["__dict__"]
    if isinstance(record, Mapping):
        yield record
