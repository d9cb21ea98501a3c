"""The PyTorch originals side by side, where a user has them: a hook, without any of their code.

``--original module:function`` names a function of yours, found on ``PYTHONPATH``. It is called as
``function(task, model, structures)`` with

    task        "train" (one optimisation step) or "extract" (features of the last layer)
    model       our name of it, such as "gemnet_oc_small" or "equiformer_v2_31M"
    structures  a list of ``atomjax.structures.Structure``, the batch

and returns a function without arguments that does this once on a batch built beforehand and waits
for the device, or None for what it does not know.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from atomjax.structures import Structure

Original = Callable[[str, str, Sequence[Structure]], Callable[[], Any] | None]


def load_original(name: str | None) -> Original | None:
    """The function that ``--original`` names.

    Raises:
        SystemExit: if the name has no colon or nothing is found under it.
    """
    if name is None:
        return None
    module, colon, function = name.partition(":")
    if not colon:
        raise SystemExit(f"--original {name}: write module:function, see benchmarks/original.py")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SystemExit(
            f"--original {name}: {error}; is the folder of {module}.py on PYTHONPATH?"
        ) from error
