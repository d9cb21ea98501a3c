"""The command line of ``python -m atomjax.launch``, which runs a config.

No logic of its own: it reads the config, brings devices and processes up, and calls the config's
workflow. Any value of the config can be changed on the command line, as in
``--config.train.batching.batch_size=8``.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.cluster import processes
from atomjax.runtime.compile_cache import keep_compiled_programs
from atomjax.runtime.config import (
    PREFIX,
    Argument,
    ConfigError,
    convert,
    load_config,
    nearest,
    override,
    to_plain,
)
from atomjax.runtime.execution import READING, carry_out
from atomjax.runtime.lock import deaths
from atomjax.runtime.workflows import WORKFLOWS, Workflow, find_workflow

EXIT_USAGE = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

# Errors whose message names the remedy; anything else is a bug and keeps its traceback.
EXPLAINED = (ValueError, OSError, FloatingPointError, ImportError, RuntimeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        The exit status: 0 done, 1 the run failed, 2 the command or config is wrong, 130
        interrupted. A process ends with 143 after SIGTERM with the state saved, with 75 where
        another process of the run was lost, and with the status of another that failed.
    """
    keep_freed_memory()
    try:
        status = run_command(arguments)
    except SystemExit:
        processes.leave()
        raise
    except BaseException as error:
        if processes.joined():
            traceback.print_exception(error)
            processes.fail(EXIT_FAILED, f"{type(error).__name__}: {error}")
        raise
    if status:
        processes.fail(status)
    processes.leave()
    return status


def run_command(arguments: Sequence[str] | None) -> int:
    """:func:`main` for this process alone, without the joint end of all processes."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    try:
        workflow, settings, jobs = read_settings(options, rest, parser)
        if options.print_config:
            print(json.dumps(to_plain(settings), indent=2))
            return 0
        notes = workflow.load_check()(settings)
        if options.validate:
            print("\n".join([f"{options.config}: ok", *notes]))
            return 0
        if options.workdir is None:
            raise ConfigError("--workdir is missing; give the directory that the run writes to")
    except EXPLAINED as error:
        return explain(error, EXIT_USAGE, options)
    try:
        launch(workflow, settings, options, jobs)
    except KeyboardInterrupt:
        message = "interrupted; the same command resumes from the last checkpoint"
        print(message, file=sys.stderr)
        processes.accuse(message, EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    except processes.NotJoined as error:
        return explain(error, processes.EXIT_LOST, options)
    except ConfigError as error:
        return explain(error, EXIT_USAGE, options)
    except EXPLAINED as error:
        lost = processes.describe_loss(error)
        if lost is not None:
            return explain(RuntimeError(lost), processes.EXIT_LOST, options)
        return explain(error, EXIT_FAILED, options)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m atomjax.launch",
        description="Run a config's workflow.",
        epilog=f"Any config value can be set on the command line: {PREFIX}train.epochs=8",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="Python file with get_config()")
    add("--workdir", type=Path, metavar="DIR", help="run directory; an earlier run is resumed")
    add("--validate", action="store_true", help="check the config and stop, computing nothing")
    add("--print-config", action="store_true", help="print the resolved config and stop")
    add(
        "--accept-changes",
        action="store_true",
        help="continue in a workdir whose config differs from this one",
    )
    add("--debug", action="store_true", help="show the traceback of every error")
    add(
        "--compilation-cache",
        metavar="DIR",
        help="directory of compiled programs for the next run; 'none' keeps none "
        "(default: $JAX_COMPILATION_CACHE_DIR, or atomjax/compiled in the user's cache)",
    )
    several = parser.add_argument_group("several trainings (transfer, sweep, study, ...)")
    add = several.add_argument
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="number of trainings side by side, each on its share of the cores; 0: one per "
        "core (default: jobs of the config, else 1)",
    )
    add("--report-only", action="store_true", help="write the report again, running nothing")
    several = parser.add_argument_group("several processes (one command on each host)")
    add = several.add_argument
    add("--distributed", action="store_true", help="find the others through Slurm, TPU or MPI")
    add("--coordinator", metavar="HOST:PORT", help="address that process 0 listens on")
    add("--num-processes", type=int, metavar="N")
    add("--process-id", type=int, metavar="I", help="0 to N - 1")
    add(
        "--heartbeat-timeout",
        type=float,
        metavar="SECONDS",
        default=processes.HEARTBEAT_TIMEOUT,
        help="time without a heartbeat after which a process counts as lost, and all end "
        "(default: %(default)g)",
    )
    add(
        "--stall-timeout",
        type=float,
        metavar="SECONDS",
        default=processes.STALL_TIMEOUT,
        help="time without progress of any process after which all end (default: %(default)g)",
    )
    return parser


def in_one_word(arguments: Sequence[str]) -> list[str]:
    """The same arguments, each of the launcher's options with its value as ``--name=value``.

    So another parser that passes them on does not take the values for files.
    """
    actions = make_parser()._option_string_actions
    words, given = [], iter(arguments)
    for word in given:
        action = actions.get(word)
        takes_value = word.startswith(PREFIX) if action is None else action.nargs is None
        if takes_value and "=" not in word and word != "--config":
            value = next(given, None)
            word = word if value is None else f"{word}={value}"
        words.append(word)
    return words


def read_settings(
    options: argparse.Namespace, overrides: Sequence[str], parser: argparse.ArgumentParser
) -> tuple[Workflow, Any, int]:
    """The workflow and the typed settings of a config file with overrides.

    Returns:
        Workflow, settings, and how many of its computations run side by side, which changes no
        result and is therefore no part of the settings.

    Raises:
        ConfigError: naming the argument or key.
    """
    if overrides and not overrides[0].startswith(PREFIX):
        flags = [flag for action in parser._actions for flag in action.option_strings]
        name = overrides[0].partition("=")[0]
        raise ConfigError(f"unknown argument '{name}'.{nearest(name, [*flags, PREFIX + 'KEY'])}")
    plain = override(load_config(options.config), overrides)
    workflow = find_workflow(plain)
    if not workflow.several and (options.report_only or options.jobs is not None):
        studies = ", ".join(name for name, other in WORKFLOWS.items() if other.several)
        raise ConfigError(
            f"--jobs and --report-only are for workflows of several trainings ({studies}), "
            f'not for "{plain["workflow"]}"; leave them out'
        )
    jobs = convert(plain.pop("jobs", 1), int, "config.jobs") if workflow.several else 1
    jobs = jobs if options.jobs is None else options.jobs
    if jobs < 0:
        raise ConfigError(f"jobs={jobs} must be 0, for as many as there are cores, or more")
    return workflow, workflow.load_settings(plain), jobs


def launch(
    workflow: Workflow, settings: Any, options: argparse.Namespace, jobs: int
) -> dict[str, Any]:
    """Brings devices and processes up and runs the workflow."""
    connect_processes(options)
    keep_compiled_programs(options.compilation_cache)
    given = {"jobs": jobs, "report_only": options.report_only} if workflow.several else {}
    changes = options.accept_changes
    function = workflow.load_function()
    return carry_out(function, settings, options.workdir, accept_changes=changes, **given)


def connect_processes(options: argparse.Namespace) -> None:
    """Joins the other processes where the command line or the environment asks for it.

    Raises:
        ConfigError: the address, the number of processes and the number of this one were not
            given together.
    """
    coordinator = options.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS") or None
    count = _given(options.num_processes, "JAX_NUM_PROCESSES")
    place = _given(options.process_id, "JAX_PROCESS_ID")
    together = [coordinator is not None, count is not None, place is not None]
    if not any(together) and not options.distributed:
        return
    if any(together) and not all(together) and not options.distributed:
        raise ConfigError(
            "--coordinator, --num-processes and --process-id go together; give all three "
            "(or --distributed alone under Slurm, on TPU pods or under MPI)"
        )
    for name in ("heartbeat_timeout", "stall_timeout"):
        if getattr(options, name) <= 0:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}={getattr(options, name):g} must be positive")
    processes.join(
        coordinator,
        count,
        place,
        heartbeat_timeout=options.heartbeat_timeout,
        stall_timeout=options.stall_timeout,
    )


def _given(option: int | None, variable: str) -> int | None:
    """An option, or what a variable of the environment says instead."""
    text = os.environ.get(variable, "")
    return option if option is not None or not text else convert(Argument(text), int, variable)


def explain(error: BaseException, status: int, options: argparse.Namespace) -> int:
    """Prints one message; the traceback goes to the workdir, or to the terminal with --debug."""
    processes.accuse(str(error), status)
    if options.debug:
        traceback.print_exception(error)
        return status
    print(f"error: {error}", file=sys.stderr, flush=True)
    if status == EXIT_FAILED and options.workdir.is_dir():
        for death in deaths(options.workdir / READING):
            print(death, file=sys.stderr)
        path = options.workdir / processes.own_name("error.txt")
        try:
            path.write_text("".join(traceback.format_exception(error)))
            print(f"(traceback in {path}; --debug shows it here)", file=sys.stderr)
        except OSError:
            # The disk may be what the error is about.
            print("(--debug shows the traceback)", file=sys.stderr)
    return status
