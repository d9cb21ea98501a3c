"""Command line: converts PyTorch checkpoints to checkpoints of atomjax, and back.

Neither direction needs PyTorch, and nothing that a file asks for is executed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from atomjax.convert.averages import Averages
from atomjax.convert.conversion import convert
from atomjax.convert.errors import ConvertError
from atomjax.convert.export import export
from atomjax.convert.family import Choices
from atomjax.models import ScaleFactorError
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.config import ConfigError
from atomjax.runtime.downloads import DownloadError, local_path
from atomjax.training.running.checkpoint import CheckpointError

EXIT_FAILED = 1
EXIT_USAGE = 2


def make_parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m atomjax.convert", description=__doc__)
    add = parser.add_argument
    add(
        "source",
        type=Path,
        help=".pt or .ckpt file, or download:NAME; with --to-torch the directory of a run",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", type=Path, metavar="DIR", help="checkpoint directory to make")
    target.add_argument("--to-torch", type=Path, metavar="FILE", help=".pt file to write")
    add("--backbone-only", action="store_true", help="convert the backbone alone, without heads")
    add(
        "--averages",
        choices=get_args(Averages),
        default="all",
        help="exponential averages to take from the file: all of them; those that JMP's own "
        "loader keeps; or none (default: all)",
    )
    add("--head-names", metavar="A,B", help="names of the heads, in the order of the file")
    add("--which", choices=("best", "latest"), default="best", help="with --to-torch: checkpoint")
    add("--raw", action="store_true", help="with --to-torch: the weights, not their averages")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        0 done, 1 the source cannot be converted, 2 the command is wrong.
    """
    keep_freed_memory()
    options = make_parser().parse_args(arguments)
    try:
        options.source = local_path(options.source)
    except (ConfigError, DownloadError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    if problem := _misuse(options):
        print(f"error: {problem}", file=sys.stderr)
        return EXIT_USAGE
    try:
        if options.to_torch is not None:
            export(
                options.source,
                options.to_torch,
                which=options.which,
                averaged=not options.raw,
                backbone_only=options.backbone_only,
            )
        else:
            names = tuple(options.head_names.split(",")) if options.head_names else None
            choices = Choices(backbone_only=options.backbone_only, head_names=names)
            metadata = convert(
                options.source, options.to, choices=choices, averages=options.averages
            )
            print(summarise(metadata))
    except (ConvertError, CheckpointError, ScaleFactorError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def summarise(metadata: dict[str, Any]) -> str:
    """Summary of a conversion, in a few lines."""
    converted = metadata["converted"]
    model = ", ".join(f"{key}={value}" for key, value in metadata["model"].items())
    lines = [
        f"model     {model}",
        *(f"head      {_describe_head(head)}" for head in metadata["heads"]),
        f"used      {len(converted['names'])} tensors",
    ]
    reasons: dict[str, int] = {}
    for reason, names in converted["ignored"].items():
        short = reason.split(" (")[0]
        reasons[short] = reasons.get(short, 0) + len(names)
    lines += [f"ignored   {count} tensors: {reason}" for reason, count in reasons.items()]
    lines += [f"unused    {part}: {reason}" for part, reason in converted["unused_parts"].items()]
    if converted["constants"]:
        lines.append(f"set to 0  {len(converted['constants'])} biases that the original lacks")
    lines += [f"note      {note}" for note in converted["notes"]]
    lines += [f"licence   {converted['licence']}", f"sha256    {converted['sha256']}"]
    return "\n".join(lines)


def _describe_head(head: dict[str, Any]) -> str:
    forces = f" ({head['forces']})" if head["forces"] else ""
    targets = [f"{target['name']} {target['pooling']}" for target in head["targets"]]
    pooled = targets if head["kind"] == "scalar" else [head["pooling"], *targets]
    return f"{head['name']}: {head['kind']}{forces}, {', '.join(pooled)}"


def _misuse(options: argparse.Namespace) -> str | None:
    """Error message for a wrong command line, whatever the files hold; None for a right one."""
    if options.to is not None:
        if not options.source.is_file():
            return f"{options.source} is not a file; give a .pt or .ckpt file"
        if options.to.exists() and (not options.to.is_dir() or any(options.to.iterdir())):
            return f"{options.to} exists and is not empty; give a new directory"
        if options.raw or options.which != "best":
            return "--raw and --which go with --to-torch"
        names = (options.head_names or "").split(",")
        if len(set(names)) < len(names):
            return f"--head-names gives a name twice: {options.head_names}"
        if options.head_names and options.backbone_only:
            return "--head-names names the heads that --backbone-only leaves out"
        return None
    if not options.source.is_dir():
        return f"{options.source} is not a directory; give that of a run or of a conversion"
    if options.to_torch.exists():
        return f"{options.to_torch} exists; give a new file, or remove it"
    if options.averages != "all" or options.head_names:
        return "--averages and --head-names go with --to; see --raw"
    return None


if __name__ == "__main__":
    sys.exit(main())
