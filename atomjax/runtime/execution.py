"""Execution of a workflow: alone in its directory, as the version did that began the run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from atomjax.runtime.cluster import processes
from atomjax.runtime.earlier import as_it_began
from atomjax.runtime.files import temporary_folder
from atomjax.runtime.lock import deaths, noting, sole_run
from atomjax.runtime.progress import Told
from atomjax.runtime.workflows import Workflow, find_workflow

# Folder of a workdir in which processes note the mapped files that they read.
READING = ".reading"


def carry_out(
    workflow: Workflow,
    settings: Any,
    workdir: Path,
    *,
    accept_changes: bool = False,
    console: Console | None = None,
    told: Told | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Run a workflow in a directory that no other run may use meanwhile; return its results.

    Args:
        workflow: the workflow.
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
            return workflow.load_function()(settings, run, **given)
        finally:
            run.close()


def call_workflow(
    config: Mapping[str, Any], workdir: Path, *, progress: bool | Told = True, **given: Any
) -> dict[str, Any]:
    """Check a plain config and run its workflow, for calls from Python.

    Args:
        config: the config.
        workdir: directory of the run.
        progress: show messages and progress; or a function that is told the progress instead.
        **given: further arguments of the workflow's function.

    Returns:
        The results of the workflow.

    Raises:
        ConfigError: naming the key and how to mend it.
    """
    workflow = find_workflow(config)
    settings = workflow.load_settings(config)
    workflow.load_check()(settings)
    console = Console(stderr=True, quiet=progress is not True)
    told = progress if callable(progress) else None
    return carry_out(workflow, settings, workdir, console=console, told=told, **given)


@contextmanager
def work_in(workdir: str | Path | None) -> Iterator[Path]:
    """A directory to work in: the given one, or a temporary one that is removed afterwards."""
    if workdir is not None:
        yield Path(workdir).expanduser()
        return
    with temporary_folder() as folder:
        yield folder
