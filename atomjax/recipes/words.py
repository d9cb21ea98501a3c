"""Arguments of config files: words that choose among named values, in any order."""

import os
from collections.abc import Mapping, Sequence

from atomjax.runtime.config import ConfigError, nearest


def choose(argument: str, choices: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """One value of every choice; the first value where no word of the argument names another.

    Args:
        argument: words separated by commas, as in "aspirin,large".
        choices: name of each choice → its values, all different.

    Returns:
        Name of each choice → the value.

    Raises:
        ConfigError: a word that is no value, or two for the same choice.
    """
    values = {value: name for name, allowed in choices.items() for value in allowed}
    chosen: dict[str, str] = {}
    for word in filter(None, (part.strip() for part in argument.split(","))):
        if word not in values:
            raise ConfigError(f"config argument '{word}' is unknown.{nearest(word, values)}")
        if values[word] in chosen:
            raise ConfigError(
                f"config arguments '{chosen[values[word]]}' and '{word}' both choose the "
                f"{values[word]}; give one"
            )
        chosen[values[word]] = word
    return {name: chosen.get(name, allowed[0]) for name, allowed in choices.items()}


def data_root() -> str:
    """Root folder of the data sets, unless ``--config.data.root`` gives another."""
    return os.environ.get("ATOMJAX_DATA_DIR", "data")
