"""Build hook: the configs go into the wheel, so that ``--config quickstart`` needs no checkout."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Bundle(BuildHookInterface):
    """Copies ``configs/`` to ``atomjax/configs/``, but not for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the folder to what the wheel holds."""
        if version != "editable":
            build_data["force_include"]["configs"] = "atomjax/configs"
