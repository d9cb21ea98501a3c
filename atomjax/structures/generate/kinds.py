"""The kinds of sets that can be made, by name."""

import difflib
from typing import cast

from atomjax.structures.generate import (
    conformers,
    crystals,
    dimers,
    dynamics,
    oxides,
    properties,
    reactions,
    slabs,
)
from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.pool.tasks import Kind

KINDS = {
    "conformers": conformers,
    "crystals": crystals,
    "dimers": dimers,
    "dynamics": dynamics,
    "oxides": oxides,
    "properties": properties,
    "reactions": reactions,
    "slabs": slabs,
}


def find_kind(name: str) -> Kind:
    """The module that makes sets of this kind; raises GenerateError where there is none."""
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise GenerateError(f"unknown kind {name!r}{hint} Known: {', '.join(KINDS)}")
    return cast("Kind", KINDS[name])
