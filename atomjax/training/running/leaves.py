"""Leaves of trees by their paths, as checkpoints hold them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import serialization, traverse_util


class CheckpointError(ValueError):
    """A checkpoint that is missing or does not fit the model that it is loaded into."""


def flatten(tree: Any) -> dict[str, Any]:
    """Path → leaf; what has no leaves is left out."""
    return traverse_util.flatten_dict(serialization.to_state_dict(tree), sep="/")


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of :func:`flatten`, as dicts."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


def listed(problems: Sequence[str], most: int = 10) -> str:
    """The first problems, at most so many, a line each, and the number of the others."""
    more = len(problems) - most
    return "\n  ".join(problems[:most]) + (f"\n  and {more} more" if more > 0 else "")


def backbone_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a model without its heads."""
    return {
        collection: {"backbone": tree["backbone"]}
        for collection, tree in variables.items()
        if "backbone" in tree
    }


def digest(facts: Any, tree: Any) -> str:
    """Hash of facts, which JSON holds, and of all arrays of a tree."""
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path, leaf in sorted(flatten(tree).items()):
        total.update(path.encode())
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()


def misfits(target: Any, stored: Mapping[str, np.ndarray]) -> list[str]:
    """Leaves that are missing, left over, or of another shape or dtype, in words."""
    wanted = flatten(target)
    problems = [f"missing: {path}" for path in sorted(wanted.keys() - stored.keys())]
    problems += [f"not expected: {path}" for path in sorted(stored.keys() - wanted.keys())]
    for path in sorted(wanted.keys() & stored.keys()):
        want, have = _describe(wanted[path]), _describe(stored[path])
        if want != have:
            problems.append(f"other shape or type: {path} is {have}, the model needs {want}")
    return problems


def fill(target: Any, stored: Mapping[str, np.ndarray]) -> Any:
    """``target`` with every leaf replaced by the stored one of the same path."""
    # Optax states are full of empty nodes, which are not stored.
    state = serialization.to_state_dict(target)
    empty = traverse_util.flatten_dict(state, keep_empty_nodes=True, sep="/")
    return serialization.from_state_dict(target, nested({**empty, **stored}))


def _describe(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
