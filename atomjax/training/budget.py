"""The budget of a run: C = epochs × structures of an epoch."""

from atomjax.runtime.config import ConfigError
from atomjax.training.settings import TrainSettings


def check_budget(train: TrainSettings, structures: int) -> int:
    """The budget of a run over ``structures`` structures an epoch.

    Args:
        train: epochs, and the configured budget, if any.
        structures: N, structures of an epoch: the unique ones that are trained on, unless a
            mixture takes some of them more than once.

    Returns:
        C = E × N.

    Raises:
        ConfigError: if ``train.budget`` is another number, with what to change.
    """
    total = train.epochs * structures
    if train.budget is None or train.budget == total:
        return total
    ways = [f"train.budget={total}"]
    if train.budget % structures == 0:
        ways.append(f"train.epochs={train.budget // structures}")
    if train.budget % train.epochs == 0:
        ways.append(f"train.max_structures={train.budget // train.epochs}")
    raise ConfigError(
        f"train.budget={train.budget} is not epochs × unique structures = {train.epochs} × "
        f"{structures} = {total}; set {' or '.join(ways)}"
    )
