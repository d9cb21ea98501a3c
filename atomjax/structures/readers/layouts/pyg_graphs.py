"""Pickled graphs of PyTorch Geometric, read without it and without unpickling.

``torch_geometric.data.Data`` has its fields as attributes in version 1, and in the ``_mapping`` of
a storage, its attribute ``_store``, in version 2.
"""

from collections.abc import Mapping
from typing import Any

from atomjax.safe_pickle import TENSORS, PickleError, Record, load

# Content of fields beside arrays: lists of numbers, a few names.
MOST_LEVELS, MOST_PARTS, MOST_TEXT = 4, 1 << 20, 1 << 20
GRAPH_CLASSES = (
    "torch_geometric.data.data.Data",
    "torch_geometric.data.data.DataEdgeAttr",
    "torch_geometric.data.data.DataTensorAttr",
    "torch_geometric.data.storage.GlobalStorage",
)


def graph_fields(stored: bytes) -> Mapping[str, Any]:
    """The fields of a pickled graph of version 1.x or 2.x, tensors as arrays.

    Raises:
        PickleError: damaged, or more than a graph.
    """
    return stored_fields(load(stored, TENSORS, GRAPH_CLASSES))


def stored_fields(graph: Any) -> Mapping[str, Any]:
    """The fields of a graph read with `GRAPH_CLASSES` recorded; raises PickleError for others."""
    if not isinstance(graph, Record) or graph.name != GRAPH_CLASSES[0]:
        raise PickleError(f"not a graph of PyTorch Geometric but {type(graph).__name__}")
    state = graph.state
    if isinstance(state, dict) and isinstance(state.get("_store"), Record):
        state = state["_store"].state
        state = state.get("_mapping") if isinstance(state, dict) else None
    if not isinstance(state, dict):
        raise PickleError("a graph of PyTorch Geometric without fields")
    _check_extent(state)
    return {name: value for name, value in state.items() if value is not None}


def _check_extent(fields: Mapping[str, Any]) -> None:
    """Refuse values that are no field of a graph: deep, wide or long, or of one part repeated."""
    parts, left = 0, [(fields, 0)]
    while left:
        value, level = left.pop()
        if isinstance(value, str | bytes) and len(value) > MOST_TEXT:
            raise PickleError(f"refused: a text of {len(value)} characters in a graph")
        if not isinstance(value, Mapping | list | tuple | set | frozenset):
            continue
        parts += len(value)
        if level > MOST_LEVELS or parts > MOST_PARTS:
            raise PickleError("refused: a graph whose fields are deep or have millions of parts")
        inner = value.values() if isinstance(value, Mapping) else value
        left.extend((part, level + 1) for part in inner)
