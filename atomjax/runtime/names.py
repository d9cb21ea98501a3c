"""Names that become files, folders, parameter paths and labels of plots."""

import re

from atomjax.runtime.config import ConfigError

_ALLOWED = re.compile(r"[^\W_][\w .,+()=-]*")
_LONGEST = 80


def check_name(name: str, what: str) -> None:
    """Refuses a name that could not be a file's on every system, or would leave its folder.

    Args:
        name: as a config gives it.
        what: for the message, such as "dataset".

    Raises:
        ConfigError: with what a name may hold.
    """
    if _ALLOWED.fullmatch(name) and len(name.encode()) <= _LONGEST and name[-1] not in " .":
        return
    shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
    raise ConfigError(
        f"{what} name {shown!r} cannot name a file: begin with a letter or digit and go on with "
        f"letters, digits, spaces and any of _ - . , + = ( ), at most {_LONGEST} bytes in all"
    )
