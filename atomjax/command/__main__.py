"""The command line of ``atomjax``, which is ``python -m atomjax.command`` as well."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atomjax.runtime.workflows import resolve

EXIT_FAILED = 1


@dataclass(frozen=True, kw_only=True)
class Command:
    """One word of the command line."""

    about: str  # one line of help
    example: str  # commands to copy, one a line
    # "module:name" of a function that returns the exit status. It takes the parsed options, with
    # ``passes`` also the arguments that are left; without ``options`` it takes all arguments behind
    # the word.
    function: str
    options: str | None = None  # "module:name" of a function that adds the options to a parser
    # Whether arguments that the options do not know are those of ``atomjax.launch``.
    passes: bool = False


_TRAINING = "atomjax.command.training"
_FUNCTIONS = "atomjax.command.functions"
COMMANDS: dict[str, Command] = {
    "train": Command(
        about="train a model from random weights, on files or by a config",
        example="atomjax train train.xyz --workdir runs/first\n"
        "atomjax train --config quickstart --workdir runs/quickstart",
        function=f"{_TRAINING}:train",
        options=f"{_TRAINING}:add_train_options",
        passes=True,
    ),
    "finetune": Command(
        about="finetune a checkpoint on files",
        example="atomjax finetune runs/first --train train.xyz --validation validation.xyz "
        "--workdir runs/mine",
        function=f"{_TRAINING}:finetune",
        options=f"{_TRAINING}:add_finetune_options",
        passes=True,
    ),
    "csi": Command(
        about="measure which data set is nearest to a task",
        example="atomjax csi mine=mine.xyz oxides=oxides.xyz --task aspirin.xyz",
        function=f"{_FUNCTIONS}:csi",
        options=f"{_FUNCTIONS}:add_csi_options",
    ),
    "statistics": Command(
        about="keep what comparisons need of a data set in one file, and merge such files",
        example="atomjax statistics mine.xyz --output mine.statistics.npz\n"
        "atomjax csi mine=mine.statistics.npz oxides=oxides.xyz --task aspirin.xyz",
        function=f"{_FUNCTIONS}:statistics",
        options=f"{_FUNCTIONS}:add_statistics_options",
    ),
    "predict": Command(
        about="predict energies, forces, stresses or a property",
        example="atomjax predict runs/mine frames.xyz --output predicted.xyz",
        function=f"{_FUNCTIONS}:predict",
        options=f"{_FUNCTIONS}:add_predict_options",
    ),
    "features": Command(
        about="compute features of atoms and structures",
        example="atomjax features frames.xyz --checkpoint runs/mine --output features.npz",
        function=f"{_FUNCTIONS}:features",
        options=f"{_FUNCTIONS}:add_features_options",
    ),
    "report": Command(
        about="write one HTML page of the reports of one or several runs",
        example="atomjax report runs/first runs/mine --output both.html",
        function=f"{_FUNCTIONS}:report",
        options=f"{_FUNCTIONS}:add_report_options",
    ),
    "convert": Command(
        about="convert PyTorch checkpoints to atomjax, and back",
        example="atomjax convert jmp-s.pt --to checkpoints/jmp-s",
        function="atomjax.convert.__main__:main",
    ),
    "generate": Command(
        about="label structures with EMT or xTB",
        example="atomjax generate slabs --count 100 --output slabs.xyz",
        function=f"{_FUNCTIONS}:generate",
        options=f"{_FUNCTIONS}:add_generate_options",
    ),
    "data-card": Command(
        about="describe data and what would be trained on them, without training",
        example="atomjax data-card train.xyz",
        function=f"{_TRAINING}:show_card",
        options=f"{_TRAINING}:add_card_options",
        passes=True,
    ),
    "download": Command(
        about="fetch published data sets and checkpoints, and check them",
        example="atomjax download rmd17/aspirin",
        function="atomjax.command.downloads:download",
        options="atomjax.command.downloads:add_options",
    ),
    "doctor": Command(
        about="describe this installation: versions, devices, speed, what is missing",
        example="atomjax doctor",
        function="atomjax.command.doctor:main",
        options="atomjax.command.doctor:add_options",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        0 done, 1 it failed, 2 the command is wrong, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser()
    word = given[0] if given else "--help"
    if word not in COMMANDS:
        # Help, the version, or an error that lists the commands.
        parser.parse_args([word])
        return 0
    command, rest = COMMANDS[word], given[1:]
    if command.options is None:
        if rest in (["--help"], ["-h"]):
            print(f"Example:\n{_indented(command.example)}\n")
        return resolve(command.function)(rest)
    parser = command_parser(word)
    function = resolve(command.function)
    if command.passes:
        from atomjax.command.launch import in_one_word

        options, left = parser.parse_known_args(in_one_word(rest))
        return _explained(lambda: function(options, left))
    # Files and values may come before, between and after the options.
    options = parser.parse_intermixed_args(rest)
    return _explained(lambda: function(options))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the word; each word has a parser of its own."""
    from atomjax import __version__

    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {word:{width}}  {one.about}" for word, one in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="atomjax",
        description="Pretrain, finetune and use models of atomic properties.",
        epilog=f"commands:\n{listed}\n\natomjax COMMAND --help describes one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"atomjax {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    return parser


def command_parser(word: str) -> argparse.ArgumentParser:
    """The parser of one command that has options here."""
    command = COMMANDS[word]
    parser = argparse.ArgumentParser(
        prog=f"atomjax {word}",
        description=f"{command.about[0].upper()}{command.about[1:]}.",
        epilog=f"example:\n{_indented(command.example)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    assert command.options is not None
    resolve(command.options)(parser)
    return parser


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _explained(function: Callable[[], int]) -> int:
    """The status of a command; an error that names its remedy is given without a traceback."""
    from atomjax.command.launch import EXIT_INTERRUPTED, EXIT_USAGE, EXPLAINED
    from atomjax.runtime.config import ConfigError

    try:
        return function()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except EXPLAINED as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
