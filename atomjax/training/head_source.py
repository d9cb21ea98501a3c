"""Heads of a checkpoint that a finetuning starts from, with the references they were trained in."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from atomjax.models.heads import HeadConfig
from atomjax.models.network import head_key
from atomjax.runtime.config import ConfigError, nearest
from atomjax.structures import References, Structure
from atomjax.structures.elements import SYMBOLS

# Name for the mean of the parameters of all heads.
MEAN = "mean"
# eV/atom by which bound structures may lie from element energies that were fitted to others, as a
# root mean square: shifts of elements that cancel in the mean are another reference, too.
SAME_REFERENCE = 0.3
# Fields of a head that change no parameter of energies and forces.
_FREE = ("name", "stress", "targets")
# Parts of a head's parameters that are carried over.
_PARTS = ("energy", "forces")


def source_heads(metadata: Mapping[str, Any], head_from: str) -> list[dict[str, Any]]:
    """The requested heads of a checkpoint.

    Args:
        metadata: metadata of the checkpoint.
        head_from: name of a head, or "mean" for all of them.

    Raises:
        ConfigError: there is no such head.
    """
    heads = {head["name"]: head for head in metadata["heads"]}
    if head_from == MEAN:
        return list(heads.values())
    if head_from not in heads:
        raise ConfigError(
            f"finetune.head_from={head_from!r}: the checkpoint has no such head, but "
            f"{', '.join(heads) or 'none'}.{nearest(head_from, [*heads, MEAN])}"
        )
    return [heads[head_from]]


def source_references(metadata: Mapping[str, Any], head_from: str) -> References:
    """The references that the requested heads were trained with.

    Those of several heads have geometric means as scales, and element energies where all have the
    same.

    Raises:
        ConfigError: there is no such head, or it has no references.
    """
    references = []
    for head in source_heads(metadata, head_from):
        fields = metadata["datasets"].get(head["name"], {}).get("references")
        if fields is None:
            raise ConfigError(
                f"finetune.head_from={head_from!r}: the checkpoint holds no references of its head "
                f"{head['name']!r}, so the unit of what it predicts is unknown; leave head_from out"
            )
        references.append(References.from_dict(fields))
    if len(references) == 1:
        return references[0]
    scales = np.log([[r.energy_scale, r.force_scale] for r in references])
    energy_scale, force_scale = np.exp(scales.mean(axis=0)).tolist()
    first, *others = references
    if any(
        (one.seen != first.seen).any()
        or not np.allclose(one.element_energies, first.element_energies)
        or one.energy_mean != first.energy_mean
        for one in others
    ):
        nothing = np.zeros_like(first.element_energies), 0.0
        return References(*nothing, energy_scale, force_scale, np.zeros_like(first.seen))
    return dataclasses.replace(first, energy_scale=energy_scale, force_scale=force_scale)


def matching_head(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The name of a checkpoint's only head, if it predicts what another one would.

    Args:
        metadata: metadata of the checkpoint.
        wanted: fields of the other head, without its name.
    """
    if len(metadata["heads"]) != 1:
        return None
    only = HeadConfig.from_dict(metadata["heads"][0])
    return None if head_changes(only, HeadConfig(name=only.name, **wanted)) else only.name


def source_parameters(
    metadata: Mapping[str, Any], params: Mapping[str, Any], head_from: str, wanted: HeadConfig
) -> Any:
    """Parameters of a head for energies and forces, or the mean of several.

    Args:
        metadata: metadata of the checkpoint.
        params: its parameters.
        head_from: name of a head, or "mean".
        wanted: the head to be finetuned.

    Raises:
        ConfigError: there is no such head, or it predicts something else.
    """
    heads = source_heads(metadata, head_from)
    for head in heads:
        _compare(HeadConfig.from_dict(head), wanted)
    given = [params[head_key(head["name"])] for head in heads]
    trees = [{key: one[key] for key in _PARTS if key in one} for one in given]
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0, dtype=leaves[0].dtype), *trees)


def carry_over(
    base: References, fresh: References, structures: Sequence[Structure]
) -> tuple[References, str]:
    """References for new labels: the scales of a head, and its element energies if they fit.

    Args:
        base: references of the checkpoint's head.
        fresh: fitted to the new training set.
        structures: the new training set; its first thousand structures are read.

    Returns:
        The references, and a note on them.
    """
    looked_at = [structures[i] for i in range(min(len(structures), 1000))]
    labelled = [s for s in looked_at if s.energy is not None]
    refitted = dataclasses.replace(
        fresh, energy_scale=base.energy_scale, force_scale=base.force_scale
    )
    if not base.seen.any():
        reason = "the head has none, or several heads have different element energies"
        return refitted, f"{reason}; fitted anew"
    unseen = [SYMBOLS[z] for z in np.flatnonzero(fresh.seen & ~base.seen)]
    known = [s for s in labelled if base.seen[s.atomic_numbers].all()]
    shifts = np.array([base.residual_energy(s) / len(s) for s in known])
    size = float(np.sqrt(np.mean(shifts**2))) if known else 0.0
    note = "scales and element energies of the head"
    if known:
        note = (
            f"energies lie {shifts.mean():+.3g} eV/atom from the head's element energies "
            f"(root mean square {size:.3g})"
        )
    if unseen:
        met = f"{note}; " if known else ""
        return refitted, f"{met}the head has not met {', '.join(unseen)}: fitted anew"
    if not known:
        return base, note
    if size <= SAME_REFERENCE:
        return base, f"{note}, which are kept"
    return refitted, f"{note}: another reference, fitted anew"


def head_changes(stored: HeadConfig, wanted: HeadConfig) -> list[str]:
    """Differences of a checkpoint's head that change what its parameters mean, in words."""
    before, now = dataclasses.asdict(stored), dataclasses.asdict(wanted)
    return [
        f"{key}: {before[key]!r} in the checkpoint, {value!r} here"
        for key, value in now.items()
        if key not in _FREE and before[key] != value
    ]


def _compare(stored: HeadConfig, wanted: HeadConfig) -> None:
    if changed := head_changes(stored, wanted):
        raise ConfigError(
            f"head_from: head {stored.name!r} predicts something else than head asks for "
            f"({'; '.join(changed)}). Change head, or leave head_from out for a new one"
        )
