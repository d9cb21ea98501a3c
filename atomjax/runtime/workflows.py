"""The workflows of ``atomjax.launch``: settings, checks and function of each.

Names are resolved when asked for, so that listing them imports nothing.
"""

import dataclasses
import importlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from atomjax.runtime.config import ConfigError, Settings, build, nearest, to_plain


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
    """The parts of a workflow, or where they are, as "module:name"."""

    settings: Any  # dataclass that is the schema of its config
    # Function of the settings that raises ConfigError, which names the key and how to mend it, for
    # what cannot work, or CheckpointError for a checkpoint that is missing, and returns notes on
    # what the run will do; it computes nothing.
    check: Any
    function: Any  # function of (settings, run) that does the work and returns its results
    # Whether the function runs several computations, and so takes ``jobs``, how many side by side,
    # and ``report_only``, to report what is there without running anything.
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
    "pretrain": _training("atomjax.studies.single:pretrain"),
    "finetune": _training("atomjax.studies.benchmark:finetune", several=True),
    "probe": Workflow(
        settings="atomjax.training.settings:RunSettings",
        check="atomjax.inference.probe:check_probe",
        function="atomjax.studies.single:probe",
    ),
    "csi": Workflow(
        settings="atomjax.similarity.settings:SimilaritySettings",
        check="atomjax.similarity.workflow.job:check_similarity",
        function="atomjax.similarity.workflow.job:similarity",
    ),
    "statistics": Workflow(
        settings="atomjax.similarity.settings:SimilaritySettings",
        check="atomjax.similarity.workflow.job:check_similarity",
        function="atomjax.similarity.workflow.statistics_job:keep_statistics",
    ),
    "gradients": Workflow(
        settings="atomjax.training.gradients:GradientSettings",
        check="atomjax.training.gradients:check_gradients",
        function="atomjax.training.gradients:compare_gradients",
    ),
    "features": Workflow(
        settings="atomjax.inference.feature_files:FeatureSettings",
        check="atomjax.inference.feature_files:check_features",
        function="atomjax.inference.feature_files:write_feature_files",
    ),
    "difficulty": Workflow(
        settings="atomjax.inference.difficulty:DifficultySettings",
        check="atomjax.inference.difficulty:check_difficulty",
        function="atomjax.inference.difficulty:choose_by_difficulty",
    ),
    "transfer": _study("atomjax.studies.transfer:TRANSFER"),
    "sweep": _study("atomjax.studies.sweep:SWEEP"),
    "study": _study("atomjax.studies.study:STUDY"),
    "halving": _study("atomjax.studies.halving:HALVING"),
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


def resolve(part: Any) -> Any:
    """The object that "module:name" or "module:name.attribute" names; others as they are."""
    if not isinstance(part, str):
        return part
    module, _, name = part.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))
