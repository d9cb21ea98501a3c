"""What the settings of all workflows have in common."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from atomjax.runtime.config import build, to_plain


@dataclasses.dataclass(frozen=True, kw_only=True)
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
