"""Config files, overrides, and what each mistake is answered with."""

from dataclasses import dataclass, field
from typing import Any, Literal

import ml_collections
import pytest

from atomjax.runtime.config import (
    ConfigError,
    Count,
    Fraction,
    Positive,
    Settings,
    build,
    differences,
    documented,
    load_config,
    nearest,
    override,
    to_plain,
)


@dataclass(frozen=True, kw_only=True)
class Section:
    batch_size: int
    learning_rate: float = 1e-4
    clip: float | None = None
    share: int | float = 0
    reduction: Literal["structure", "atom"] = "structure"
    verbose: bool = False
    name: str = ""
    tags: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 1.0)
    free: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Bounded(Settings):
    cutoff: Positive | None = None
    "Å."
    share: Fraction = 0.5
    "Fraction of something."
    count: Count = 1
    """Number of
    somethings."""
    free: int = 0


@dataclass(frozen=True, kw_only=True)
class Described(Bounded):
    free: int = 1
    "Anything."


@dataclass(frozen=True, kw_only=True)
class Whole:
    train: Section
    parts: tuple[Section, ...] = ()
    extra: Section | None = None
    bounded: Bounded = field(default_factory=Bounded)
    words: tuple[str, ...] = ()
    kind: Literal["none", "all"] | None = "all"
    kinds: tuple[Literal["none", "all"], ...] = ()


PLAIN = {"train": {"batch_size": 4}, "parts": [{"batch_size": 1}, {"batch_size": 2}]}


def overridden(*arguments):
    return build(Whole, override(PLAIN, arguments))


def test_defaults_and_given_values():
    settings = build(Whole, PLAIN)
    assert settings.train == Section(batch_size=4)
    assert [part.batch_size for part in settings.parts] == [1, 2]


@pytest.mark.parametrize(
    ("argument", "read", "expected"),
    [
        ("train.batch_size=8", lambda s: s.train.batch_size, 8),
        ("train.batch_size=2e6", lambda s: s.train.batch_size, 2_000_000),
        ("train.learning_rate=1", lambda s: s.train.learning_rate, 1.0),
        ("train.clip=0.5", lambda s: s.train.clip, 0.5),
        ("train.clip=none", lambda s: s.train.clip, None),
        ("train.share=0.25", lambda s: s.train.share, 0.25),
        ("train.share=25", lambda s: s.train.share, 25),
        ("train.reduction=atom", lambda s: s.train.reduction, "atom"),
        ("train.verbose=true", lambda s: s.train.verbose, True),
        ("train.name=017", lambda s: s.train.name, "017"),
        ("train.tags=(0, 1, 2)", lambda s: s.train.tags, (0, 1, 2)),
        ("train.pair=[2, 3]", lambda s: s.train.pair, (2, 3.0)),
        ("train.free.depth.k=3", lambda s: s.train.free, {"depth": {"k": 3}}),
        ("parts.1.batch_size=9", lambda s: s.parts[1].batch_size, 9),
        ("extra.batch_size=5", lambda s: s.extra.batch_size, 5),
        ("words=near,far", lambda s: s.words, ("near", "far")),
        ("words=near", lambda s: s.words, ("near",)),
        ("kind=none", lambda s: s.kind, "none"),
        ("kinds=none", lambda s: s.kinds, ("none",)),
        ("kinds=none,all", lambda s: s.kinds, ("none", "all")),
    ],
)
def test_override_takes_the_type_of_its_field(argument, read, expected):
    value = read(overridden(f"--config.{argument}"))
    assert value == expected
    assert type(value) is type(expected)


def test_override_in_two_words_and_order():
    settings = overridden("--config.train.batch_size", "8", "--config.train.batch_size=16")
    assert settings.train.batch_size == 16
    assert PLAIN["train"] == {"batch_size": 4}


@pytest.mark.parametrize(
    ("argument", "fragments"),
    [
        ("--config.train.batch_sise=8", ["config.train.batch_sise", "Did you mean 'batch_size'?"]),
        ("--config.trian.batch_size=8", ["config.trian", "Did you mean 'train'?"]),
        (
            "--config.zzz=8",
            ["config.zzz", "Known: bounded, extra, kind, kinds, parts, train, words"],
        ),
        ("--config.train.lr=1", ["config.train.lr", "Did you mean 'learning_rate'?"]),
        ("--config.batch_size=8", ["config.batch_size", "Write config.train.batch_size"]),
        ("--config.train.cutoff=8", ["config.train.cutoff", "Write config.bounded.cutoff"]),
        ("--config.cutof=8", ["config.cutof", "Did you mean 'bounded.cutoff'?"]),
        ("--config.bounded.cutoff=-3", ["config.bounded: cutoff=-3", "must be above 0"]),
        ("--config.bounded.share=2", ["config.bounded: share=2", "between 0 and 1"]),
        ("--config.bounded.count=0", ["config.bounded: count=0", "must be at least 1"]),
        ("--config.train.batch_size=5.0", ["config.train.batch_size", "an integer", "5.0"]),
        ("--config.train.batch_size=many", ["config.train.batch_size", "an integer", "'many'"]),
        ("--config.train.batch_size=1.5", ["config.train.batch_size", "an integer", "1.5"]),
        ("--config.train.batch_size=true", ["config.train.batch_size", "an integer", "True"]),
        ("--config.train.batch_size=0", ["config.train", "batch_size=0", "at least 1"]),
        ("--config.train.batch_size=1e400", ["config.train.batch_size", "an integer"]),
        ("--config.train.learning_rate=fast", ["config.train.learning_rate", "a number"]),
        ("--config.train.clip=none of it", ["config.train.clip", "a number or none"]),
        ("--config.train.reduction=atoms", ["config.train.reduction", "Did you mean 'atom'?"]),
        ("--config.train.verbose=1", ["config.train.verbose", "true or false"]),
        ("--config.train.tags=3", ["config.train.tags", "a list", "an integer"]),
        ("--config.train.tags=(1, 'x')", ["config.train.tags.1", "an integer", "'x'"]),
        ("--config.train.pair=(1,)", ["config.train.pair", "2 items"]),
        ("--config.train.free=3", ["config.train.free", "section"]),
        ("--config.train=3", ["config.train", "section"]),
        ("--config.train.batch_size.x=3", ["config.train.batch_size", "value, not a section"]),
        ("--config.parts.7.batch_size=3", ["config.parts.7", "config.parts.0 to config.parts.1"]),
        ("--config.parts.first.batch_size=3", ["config.parts.first", "list of 2"]),
        ("--config.extra.name=x", ["config.extra.batch_size", "missing", "an integer"]),
        ("--confg.train.batch_size=8", ["--confg.train.batch_size=8", "--config.section.key"]),
        ("--config.train.batch_size", ["--config.train.batch_size", "no value"]),
    ],
)
def test_mistakes_name_the_key_and_the_remedy(argument, fragments):
    with pytest.raises(ConfigError) as caught:
        overridden(argument)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_config_file(tmp_path):
    path = tmp_path / "water.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config(size='4'):\n"
        "    return ml_collections.ConfigDict({'train': {'batch_size': int(size)}})\n"
    )
    assert load_config(path) == {"train": {"batch_size": 4}}
    assert load_config(f"{path}:16") == {"train": {"batch_size": 16}}


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("x = 1\n", ["get_config"]),
        ("def get_config():\n    return 3\n", ["get_config()", "ConfigDict"]),
        ("def get_config():\n    return undefined\n", ["NameError", "undefined"]),
        ("def get_config(:\n", ["SyntaxError"]),
    ],
)
def test_broken_config_file(tmp_path, text, fragments):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for fragment in [str(path), *fragments]:
        assert fragment in str(caught.value)


def test_missing_config_file_suggests_a_sibling(tmp_path):
    (tmp_path / "quickstart.py").write_text("")
    with pytest.raises(ConfigError, match=r"quickstrat\.py.*Did you mean 'quickstart\.py'"):
        load_config(tmp_path / "quickstrat.py")


def test_plain_values_survive_the_round_trip():
    settings = build(Whole, PLAIN)
    assert build(Whole, to_plain(settings)) == settings
    assert build(Whole, ml_collections.ConfigDict(to_plain(settings))) == settings


def test_differences_names_keys_and_both_values():
    other = override(PLAIN, ["--config.parts.1.batch_size=3"])
    assert differences(PLAIN, override(PLAIN, [])) == []
    assert differences(PLAIN, other) == ["config.parts.1.batch_size: 2 -> '3'"]


def test_values_are_checked_where_they_are_declared_from_python_too():
    assert Bounded(cutoff=0.1, share=1, count=3).count == 3
    with pytest.raises(ConfigError, match=r"cutoff=0 must be above 0"):
        Bounded(cutoff=0)
    wrong: Any = 5.0
    with pytest.raises(ConfigError, match=r"count must be an integer, got 5\.0"):
        Bounded(count=wrong)


def test_fields_are_documented_by_the_text_under_them():
    with pytest.raises(ValueError, match="Bounded: no text under free"):
        documented(Bounded)
    first, _, last, _ = documented(Described)
    assert (first.name, first.text, str(first.bounds)) == ("cutoff", "Å.", "above 0")
    assert (last.name, last.text, last.hint) == ("count", "Number of somethings.", int)


def test_nearest_without_anything_near_lists_the_choices():
    assert nearest("zzzz", ["b", "a"]) == " Known: a, b."
