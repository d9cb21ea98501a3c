"""Execution of one run: alone in its directory, as the version did that began it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from atomjax.runtime.cluster import processes
from atomjax.runtime.earlier import as_it_began
from atomjax.runtime.files import temporary_folder
from atomjax.runtime.lock import deaths, noting, sole_run
from atomjax.runtime.progress import Told

# Folder of a workdir in which processes note the mapped files that they read.
READING = ".reading"


def carry_out(
    function: Callable[..., dict[str, Any]],
    settings: Any,
    workdir: Path,
    *,
    accept_changes: bool = False,
    console: Console | None = None,
    told: Told | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Call a function in a directory that no other run may use meanwhile; return its results.

    Args:
        function: function of (settings, run), such as that of a workflow.
        settings: the typed settings; where an earlier version began the run, its meaning of
            fields that it did not have counts.
        workdir: directory of the run; an earlier run in it is resumed.
        accept_changes: continue in a directory whose configuration differs.
        console: takes messages and progress; None for standard output.
        told: function that is told the progress as well.
        **given: further arguments of the function.

    Raises:
        ConfigError: the directory holds a run with another configuration.
        WorkdirInUse: another run writes to it.
    """
    # Imported only now: creating a run asks jax which process this is.
    import jax

    from atomjax.runtime.run import Run

    notes: list[str] = []
    if not accept_changes:
        # Before any process writes there: they all have to read the same.
        settings, notes = as_it_began(settings, workdir)
    processes.check_shared(workdir)
    alone = sole_run(workdir) if jax.process_index() == 0 else nullcontext()
    with alone, noting(workdir / READING):
        run = Run(workdir, settings, console=console, accept_changes=accept_changes, told=told)
        if notes:
            run.say(f"as the version did that began this run: {', '.join(notes)}")
        for death in deaths(workdir / READING):
            run.say(f"before this start, {death}")
        try:
            return function(settings, run, **given)
        finally:
            run.close()


def call(
    function: Callable[..., dict[str, Any]],
    settings: Any,
    workdir: Path,
    *,
    check: Callable[[Any], Any],
    progress: bool | Told = True,
    **given: Any,
) -> dict[str, Any]:
    """:func:`carry_out` for calls from Python.

    Args:
        function: function of (settings, run).
        settings: the typed settings.
        workdir: directory of the run.
        check: function that raises for settings that cannot work.
        progress: show messages and progress; or a function that is told the progress instead.
        **given: further arguments of the function.
    """
    check(settings)
    console = Console(stderr=True, quiet=progress is not True)
    told = progress if callable(progress) else None
    return carry_out(function, settings, workdir, console=console, told=told, **given)


@contextmanager
def work_in(workdir: str | Path | None) -> Iterator[Path]:
    """A directory to work in: the given one, or a temporary one that is removed afterwards."""
    if workdir is not None:
        yield Path(workdir).expanduser()
        return
    with temporary_folder() as folder:
        yield folder
