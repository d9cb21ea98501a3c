"""Conversion of a PyTorch checkpoint to one of atomjax."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from atomjax import __version__
from atomjax.convert.averages import Averages, find_averages
from atomjax.convert.equiformer_v2.convert import EquiformerV2Family
from atomjax.convert.errors import ConvertError
from atomjax.convert.family import Choices, Family, Recognised, Variables, fill
from atomjax.convert.gemnet_oc.convert import GemNetOCFamily
from atomjax.convert.nesting import Contents, unwrap
from atomjax.convert.normalization import find_normalization
from atomjax.convert.torch_file import TorchFile
from atomjax.graphs import GraphConfig, pack_structures
from atomjax.models import HeadConfig, TargetConfig, build_model, check_fitted, find_backbone
from atomjax.runtime.downloads import licence_note
from atomjax.structures import ClassLabels, Structure
from atomjax.training.running.checkpoint import save_converted

FAMILIES: tuple[Family, ...] = (GemNetOCFamily(), EquiformerV2Family())
Say = Callable[[str], None]


def convert(
    source: str | Path,
    directory: str | Path,
    *,
    choices: Choices | None = None,
    averages: Averages = "all",
    say: Say = print,
) -> dict[str, Any]:
    """Converts a file into a checkpoint directory, whole or not at all.

    Args:
        source: ``.pt`` or ``.ckpt`` file.
        directory: checkpoint directory to make; must not exist, or be empty.
        choices: the user's options about heads.
        averages: averages of the weights to take from the file.
        say: receives lines of progress.

    Returns:
        The metadata.

    Raises:
        ConvertError: the file is not understood, in whole or in part.
        CheckpointError: the directory holds something.
    """
    file = TorchFile(source)
    say(f"reading {source} ({file.size / 2**20:,.1f} MiB)")
    variables, averaged, metadata = read_checkpoint(file, choices or Choices(), averages, say)
    say(f"writing {directory}")
    params, factors = variables["params"], variables["scale_factors"]
    save_converted(directory, params, averaged, factors, metadata)
    return metadata


def read_checkpoint(
    file: TorchFile, choices: Choices, averages: Averages, say: Say
) -> tuple[Variables, Variables, dict[str, Any]]:
    """Variables, averages of the parameters and metadata from an opened file; see `convert`.

    Where the file has no averages they are the parameters, the same arrays.
    """
    contents = unwrap(file.load())
    family = find_family(contents)
    found = _recognise(family, contents, choices)
    say(f"{family.name} in the layout of {found.layout}, {len(contents.tensors)} tensors")
    if found.unread:
        say(f"settings of the original that no part of the model reads: {', '.join(found.unread)}")
    entries = entries_of(found, contents.tensors)
    entries |= found.constants
    entries |= scale_dictionary(contents, found)
    template = variables_template(found.model, found.heads, found.graph)
    variables = fill(template, found.heads, family, entries)
    check_fitted(variables)
    averaged, which = variables["params"], "none in the file"
    if averages == "none":
        which = "left out (--averages none)"
    elif (means := find_averages(contents, found.parameters)) is not None:
        if averages == "jmp":
            means = leave_unaveraged(means)
        replaced = entries_of(found, {**contents.tensors, **means})
        averaged = fill(template, found.heads, family, {**entries, **replaced})["params"]
        which = "of all parameters" if averages == "all" else "as JMP's loader takes them"
    say(f"exponential averages: {which}")
    return variables, averaged, _metadata(file, contents, family, found, which)


def find_family(contents: Contents) -> Family:
    """The family of a file; raises ConvertError where it is of none that is known."""
    for family in FAMILIES:
        if family.matches(contents):
            return family
    names = list(contents.tensors)
    raise ConvertError(
        f"the file's {len(names)} tensors ({', '.join(names[:4])}, ...) are of no known model; "
        f"known are {', '.join(family.name for family in FAMILIES)}"
    )


def _recognise(family: Family, contents: Contents, choices: Choices) -> Recognised:
    """The model of a file; settings and shapes that make none are the file's fault."""
    try:
        return family.recognise(contents, choices)
    except ConvertError:
        raise
    except (TypeError, ValueError) as error:
        what = f"the file states no {family.name} that can be built"
        raise ConvertError(f"{what}: {error}") from error


def find_model_family(model: Mapping[str, Any]) -> Family:
    """The family of a model config; raises ConvertError where the backbone has none."""
    name = find_backbone(model).name
    family = next((family for family in FAMILIES if family.name == name), None)
    if family is None:
        raise ConvertError(f"there is no original of {model['name']}, whose code could load it")
    return family


def entries_of(found: Recognised, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Entry → array, with what the original adds to it."""
    entries = {entry: tensors[name] for entry, name in found.names.items()}
    for entry, others in found.added.items():
        entries[entry] = sum((tensors[name] for name in others), start=entries[entry])
    return entries


def scale_dictionary(contents: Contents, found: Recognised) -> dict[str, np.ndarray]:
    """Scale factors that older files keep apart, and that take precedence there."""
    given = contents.parts.get("scale_dict")
    if not isinstance(given, Mapping):
        return {}
    factors = {}
    for name, value in given.items():
        entry = f"backbone.{name}.scale_factor"
        if entry in found.names:
            factors[entry] = np.asarray(value, np.float32).reshape(())
    return factors


def leave_unaveraged(means: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The averages that survive JMP's own loader.

    It averages the first of the two names of an output block's layers and then loads the second,
    which holds the same tensor without averages. Published finetunings and features started there.
    """
    return {n: v for n, v in means.items() if ".layers." not in n or ".out_blocks." not in f".{n}"}


def variables_template(
    model: Mapping[str, Any], heads: Sequence[HeadConfig], graph: GraphConfig
) -> Variables:
    """Shapes of the variables of a model, without a head if there is none."""
    # A backbone cannot be built without a head: one is made for the shapes and taken off again.
    with_heads = heads or [HeadConfig(name="none", kind="energy")]
    network = build_model(model, with_heads)
    atom = Structure(atomic_numbers=np.array([1]), positions=np.zeros((1, 3)))
    batch = pack_structures([atom], graph)
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), batch)
    params = {k: v for k, v in shapes["params"].items() if heads or not k.startswith("head_")}
    return {"params": params, "scale_factors": shapes.get("scale_factors", {})}


def _numbered(target: TargetConfig) -> ClassLabels:
    """The classes of a target, whose names a file does not hold: their numbers."""
    count = target.num_classes
    return ClassLabels(target.name, tuple(str(i) for i in range(count)), (1.0,) * count)


def _metadata(
    file: TorchFile, contents: Contents, family: Family, found: Recognised, averages: str
) -> dict[str, Any]:
    labels, references, notes = find_normalization(contents, found.heads, found.layout)
    graph = asdict(found.graph)
    ignored: dict[str, list[str]] = {}
    for name, reason in found.ignored.items():
        ignored.setdefault(reason, []).append(contents.source_name(name))
    return {
        "atomjax": __version__,
        "model": found.model,
        "heads": [asdict(head) for head in found.heads],
        "graphs": {head.name: graph for head in found.heads} or {"backbone": graph},
        "datasets": {
            head.name: {
                "references": r and r.to_dict(),
                "properties": [_numbered(t).to_dict() for t in head.targets if t.num_classes],
            }
            for head in found.heads
            for r in [references[head.name]]
        },
        "config": {},
        "step": 0,
        "validation": {},
        "converted": {
            "source": file.path.name,
            "sha256": file.sha256(),
            "bytes": file.size,
            "licence": licence_note(file.path.name),
            "family": family.name,
            "layout": found.layout,
            "averages": averages,
            "normalization": labels,
            "names": {e: contents.source_name(n) for e, n in found.names.items()},
            "constants": sorted(found.constants),
            "ignored": ignored,
            "unused_parts": contents.unused,
            "unread_settings": list(found.unread),
            "notes": [*found.notes, *notes],
        },
    }
