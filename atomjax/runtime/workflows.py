"""What ``atomjax.launch`` can run: each workflow's settings, checks and function.

Names are resolved when asked for, so that listing them imports nothing.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from atomjax.runtime.config import ConfigError, build, nearest, to_plain


@dataclass(frozen=True, kw_only=True)
class WorkflowSettings:
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
    """Where the parts of a workflow are, as "module:name".

    Attributes:
        settings: dataclass that is the schema of its config.
        check: function of the settings that raises ConfigError for what cannot work, and returns
            notes; it computes nothing.
        function: function of (settings, run) that does the work and returns its results.
    """

    settings: str
    check: str
    function: str

    def load_settings(self, config: Mapping[str, Any]) -> Any:
        """The typed settings of a plain config.

        Raises:
            ConfigError: naming the key that is unknown, missing or of the wrong type.
        """
        return build(resolve(self.settings), config)

    def load_check(self) -> Callable[[Any], list[str]]:
        """The function that checks settings."""
        return resolve(self.check)

    def load_function(self) -> Callable[[Any, Any], dict[str, Any]]:
        """The function that runs."""
        return resolve(self.function)


def _training(function: str) -> Workflow:
    return Workflow(
        settings="atomjax.training.settings:RunSettings",
        check="atomjax.training.checks:check_settings",
        function=function,
    )


WORKFLOWS: Mapping[str, Workflow] = {
    "pretrain": _training("atomjax.training.pretrain:pretrain"),
    "finetune": _training("atomjax.training.finetune:finetune"),
    "transfer": _training("atomjax.studies.transfer:transfer"),
    "sweep": Workflow(
        settings="atomjax.studies.sweep_settings:SweepSettings",
        check="atomjax.studies.sweep:check_sweep",
        function="atomjax.studies.sweep:sweep",
    ),
    "benchmark": Workflow(
        settings="atomjax.studies.benchmark:BenchmarkSettings",
        check="atomjax.studies.benchmark:check_benchmark",
        function="atomjax.studies.benchmark:benchmark",
    ),
    "csi": Workflow(
        settings="atomjax.similarity.settings:SimilaritySettings",
        check="atomjax.similarity.workflow.job:check_similarity",
        function="atomjax.similarity.workflow.job:similarity",
    ),
    "study": Workflow(
        settings="atomjax.similarity.settings:SimilaritySettings",
        check="atomjax.studies.study:check_study",
        function="atomjax.studies.study:study",
    ),
    "features": Workflow(
        settings="atomjax.inference.feature_files:FeatureSettings",
        check="atomjax.inference.feature_files:check_features",
        function="atomjax.inference.feature_files:write_feature_files",
    ),
    "survey": Workflow(
        settings="atomjax.studies.survey_settings:SurveySettings",
        check="atomjax.studies.survey:check_survey",
        function="atomjax.studies.survey:survey",
    ),
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


def resolve(name: str) -> Any:
    """The object that "module:name" names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
