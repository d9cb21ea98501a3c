"""Fields that a config has to declare of a file, and those that its format fixes."""

from collections.abc import Mapping
from pathlib import Path

from atomjax.runtime.config import ConfigError, nearest
from atomjax.structures.readers import FORMATS, Format, ReadError, find_format, guess_format


def facts_of(name: str, format_name: str | None, path: str | None) -> Format:
    """Facts of a file's format.

    Raises:
        ConfigError: there is no such format.
    """
    found = format_name or guess_format(Path(path or ""))
    if found is None:
        return Format()
    try:
        facts = find_format(found)
    except ReadError as error:
        raise ConfigError(f'dataset "{name}": {error}') from error
    if facts is None:
        raise ConfigError(f'dataset "{name}": unknown format "{found}".{nearest(found, FORMATS)}')
    return facts


def fixed_fields(
    name: str, declared: Mapping[str, str | None], facts: Format, *, guessed: bool
) -> dict[str, str | None]:
    """The units and the kind of energy, those of the format where they are not declared.

    Args:
        name: name of the data set.
        declared: energy_unit, length_unit, force_unit and energy_kind as the config has them.
        facts: facts of the format.
        guessed: whether the format was guessed, so that one of several kinds is not filled in.

    Raises:
        ConfigError: a declaration contradicts the format.
    """
    fields = dict(declared)
    for key in ("energy_unit", "length_unit", "force_unit"):
        fixed = getattr(facts, key)
        if facts.fixes_units and declared[key] not in (None, fixed):
            raise ConfigError(
                f'dataset "{name}": {key}="{declared[key]}", but files of its format are in '
                f"{facts.energy_unit} and {facts.length_unit}; leave {key} out"
            )
        fields[key] = declared[key] or fixed
    kinds, kind = facts.energy_kinds, declared["energy_kind"]
    if kinds and kind not in (None, "none", *kinds):
        raise ConfigError(
            f'dataset "{name}": energy_kind="{kind}", but the energies of its format are: '
            f"{' or '.join(kinds)}"
        )
    known = kinds if len(kinds) == 1 or not guessed else ()
    fields["energy_kind"] = kind or next(iter(known), None)
    return fields


def check_official_split(name: str, facts: Format) -> None:
    """Raise ConfigError where a data set has no split of its own, or folders for parts."""
    if facts.splits == "folders":
        raise ConfigError(
            f'dataset "{name}": the splits of its format are folders; take the one to train on as '
            'path, or as arguments={"split": ...}, and list those to validate and test on under '
            "data.validation and data.test"
        )
    if facts.splits == "none":
        raise ConfigError(
            f'dataset "{name}" defines no split of its own; write by="structure" or '
            'by="class_key" and the sizes'
        )
