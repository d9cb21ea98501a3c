"""The workflows of ``atomjax.launch``: settings, checks and function of each.

Names are resolved when asked for, so that listing them imports nothing.
"""

import dataclasses
import importlib
import operator
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from atomjax.runtime.cluster import processes
from atomjax.runtime.config import ConfigError, Settings, build, nearest, to_plain
from atomjax.runtime.earlier import as_it_began
from atomjax.runtime.lock import deaths, noting, sole_run

if TYPE_CHECKING:
    from rich.console import Console

# Folder of a workdir in which processes note the mapped files that they read.
READING = ".reading"


@dataclass(frozen=True, kw_only=True)
class WorkflowSettings(Settings):
    """Base of the dataclasses that are the schema of a workflow's whole config."""

    @classmethod
    def from_config(cls, config: "Mapping[str, Any] | Self") -> Self:
        """Settings from a nested mapping such as a ``ConfigDict``; settings stay as they are.

        Raises:
            ConfigError: naming the key, and what to write instead.
        """
        return build(cls, config)

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and lists, as JSON holds them; ``from_config`` reads them back."""
        return to_plain(self)

    def replace(self, **changes: Any) -> Self:
        """A copy with some sections exchanged."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """The parts of a workflow, or where they are, as "module:name".

    Attributes:
        settings: dataclass that is the schema of its config.
        check: function of the settings that raises ConfigError for what cannot work, and returns
            notes; it computes nothing.
        function: function of (settings, run) that does the work and returns its results.
        several: whether the function runs several computations, and so takes ``jobs``, how many
            side by side, and ``report_only``, to report what is there without running anything.
    """

    settings: Any
    check: Any
    function: Any
    several: bool = False

    def load_settings(self, config: Mapping[str, Any]) -> Any:
        """The typed settings of a plain config.

        Raises:
            ConfigError: naming the key that is unknown, missing or of the wrong type.
        """
        return build(resolve(self.settings), config)

    def load_check(self) -> Callable[[Any], list[str]]:
        """The function that checks settings."""
        return resolve(self.check)

    def carry_out(
        self,
        settings: Any,
        workdir: Path,
        *,
        accept_changes: bool = False,
        console: "Console | None" = None,
        **given: Any,
    ) -> dict[str, Any]:
        """Runs in a directory that no other run may use meanwhile, and returns the results.

        Args:
            settings: the typed settings; where an earlier version began the run, its meaning of
                fields that it did not have counts.
            workdir: directory of the run; an earlier run in it is resumed.
            accept_changes: continue in a directory whose configuration differs.
            console: takes messages and progress; None for standard output.
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
            run = Run(workdir, settings, console=console, accept_changes=accept_changes)
            if notes:
                run.say(f"as the version did that began this run: {', '.join(notes)}")
            for death in deaths(workdir / READING):
                run.say(f"before this start, {death}")
            try:
                return self.load_function()(settings, run, **given)
            finally:
                run.close()

    def load_function(self) -> Callable[..., dict[str, Any]]:
        """The function that runs."""
        return resolve(self.function)


def _training(function: str, several: bool = False) -> Workflow:
    return Workflow(
        settings="atomjax.training.settings:RunSettings",
        check="atomjax.training.checks:check_settings",
        function=function,
        several=several,
    )


def _study(name: str) -> Workflow:
    return Workflow(settings=f"{name}.settings", check=f"{name}.check", function=name, several=True)


WORKFLOWS: dict[str, Workflow] = {
    "pretrain": _training("atomjax.training.pretrain:pretrain"),
    "finetune": _training("atomjax.studies.benchmark:finetune", several=True),
    "csi": Workflow(
        settings="atomjax.similarity.settings:SimilaritySettings",
        check="atomjax.similarity.workflow.job:check_similarity",
        function="atomjax.similarity.workflow.job:similarity",
    ),
    "features": Workflow(
        settings="atomjax.inference.feature_files:FeatureSettings",
        check="atomjax.inference.feature_files:check_features",
        function="atomjax.inference.feature_files:write_feature_files",
    ),
    "transfer": _study("atomjax.studies.transfer:TRANSFER"),
    "sweep": _study("atomjax.studies.sweep:SWEEP"),
    "study": _study("atomjax.studies.study:STUDY"),
    "survey": _study("atomjax.studies.survey:SURVEY"),
    "benchmark": _study("atomjax.studies.benchmark:BENCHMARK"),
}


def find_workflow(config: Mapping[str, Any]) -> Workflow:
    """The workflow that a plain config asks for.

    Raises:
        ConfigError: ``config.workflow`` is missing or unknown.
    """
    name = config.get("workflow")
    if name not in WORKFLOWS:
        what = "missing" if name is None else f"unknown workflow '{name}'"
        raise ConfigError(f"config.workflow: {what}.{nearest(str(name), WORKFLOWS)}")
    return WORKFLOWS[str(name)]


def call_workflow(
    config: Mapping[str, Any], workdir: Path, *, progress: bool = True, **given: Any
) -> dict[str, Any]:
    """Checks a plain config and runs its workflow, for calls from Python.

    Args:
        config: the config.
        workdir: directory of the run.
        progress: show messages and progress.
        **given: further arguments of the workflow's function.

    Returns:
        The results of the workflow.

    Raises:
        ConfigError: naming the key and how to mend it.
    """
    from rich.console import Console

    workflow = find_workflow(config)
    settings = workflow.load_settings(config)
    workflow.load_check()(settings)
    console = Console(stderr=True, quiet=not progress)
    return workflow.carry_out(settings, workdir, console=console, **given)


@contextmanager
def work_in(workdir: str | Path | None) -> Iterator[Path]:
    """A directory to work in: the given one, or a temporary one that is removed afterwards."""
    if workdir is not None:
        yield Path(workdir).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="atomjax-") as folder:
        yield Path(folder)


def resolve(part: Any) -> Any:
    """The object that "module:name" or "module:name.attribute" names; others as they are."""
    if not isinstance(part, str):
        return part
    module, _, name = part.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))
