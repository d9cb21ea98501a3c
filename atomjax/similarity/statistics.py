"""Statistics of a data set as one file, which is compared, shared and merged without the data.

It holds all that measures need (moments, block sums, random features, histograms, points,
formulas), some feature rows for maps, the classes, and how it was made: extractor, graph, sampling,
seed. Files that were made in other ways are never compared or merged.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.data.settings import STATISTICS
from atomjax.runtime.config import ConfigError
from atomjax.runtime.files import PARSE_ERRORS, DamagedFile, read_npz, write_npz
from atomjax.similarity.features.collect import SetFeatures, features_arrays, features_from
from atomjax.similarity.features.coverage import Coverage
from atomjax.similarity.features.extracted import (
    SHOWN_ROWS,
    ExtractedSet,
    describe_set,
    set_from,
)
from atomjax.similarity.features.extractor import BackboneExtractor
from atomjax.similarity.measures.registry import MEASURES
from atomjax.similarity.settings import SimilaritySettings, variant_name
from atomjax.structures.elements import SYMBOLS

FORMAT = 1
MEND = "copy it again, or make it again from the data"
# Blocks that a file keeps; of larger sets several are drawn together.
MOST_BLOCKS = 1000
# What has to be the same in files that are compared, and its name in messages.
SAME = {
    "extractor": "extractor (weights, config and graph)",
    "conventions": "conventions",
    "strategy": "sampling.strategy",
    "seed": "seed",
}


@dataclasses.dataclass(frozen=True)
class SetStatistics:
    """Statistics of a data set."""

    made: ExtractedSet  # the set, as comparisons read it
    # How it was made: `SAME`, "extractor_name", "variants" and "summaries".
    recipe: Mapping[str, Any]
    # What people want to know: "origin", "licence", "citation", "elements", "atomjax".
    about: Mapping[str, Any]

    def describe(self) -> str:
        """Content of the file, in some lines."""
        made, features = self.made, self.made.features
        elements = " ".join(self.about["elements"])
        lines = [
            f"{made.name}: {features.num_structures:,} of {made.available:,} structures, "
            f"{features.num_atoms:,} atoms, {made.classes:,} classes",
            f"elements    {elements}",
            f"units       {made.units:,} ({made.unit}), in {len(features.structures):,} blocks",
            f"sampling    {self.recipe['strategy']}, seed {self.recipe['seed']}",
            f"extractor   {self.recipe['extractor_name']} ({self.recipe['extractor'][:12]})",
            f"features    {', '.join(self.recipe['variants'])}",
            f"measures    {', '.join(self.measures())}",
            f"origin      {self.about['origin']}",
        ]
        named = [f"{key:<11} {self.about[key]}" for key in ("licence", "citation")]
        return "\n".join([*lines, *(line for line in named if line[12:])])

    def measures(self) -> list[str]:
        """Names of the measures that the file has all for."""
        held = [tuple(one) for one in self.recipe["summaries"]]
        return [
            name
            for name, measure in MEASURES.items()
            if all(tuple(summary.key) in held for summary in measure.needs)
        ]

    def check(self, recipe: Mapping[str, Any], other: str, path: Path | str) -> None:
        """Compare the recipe with another one.

        Args:
            recipe: the other one, whose variants and summaries have to be here, too.
            other: what is made by it, for messages.
            path: the file, for messages.

        Raises:
            ConfigError: values of the two could not be compared.
        """
        for key, word in SAME.items():
            if self.recipe[key] != recipe[key]:
                first, second = (
                    f"{one['extractor_name']} ({one['extractor'][:12]})"
                    if key == "extractor"
                    else repr(one[key])
                    for one in (self.recipe, recipe)
                )
                raise ConfigError(
                    f"{path}: {word} is {first}, and {second} in {other}: their features cannot be "
                    "compared; make the statistics again with the same one"
                )
        missing = [one for one in recipe["variants"] if one not in self.recipe["variants"]]
        held = dict(map(tuple, self.recipe["summaries"]))
        wanted = dict(map(tuple, recipe["summaries"]))
        missing += [name for name, digest in wanted.items() if held.get(name) != digest]
        if missing:
            raise ConfigError(
                f"{path}: lacks {', '.join(missing)}, which {other} needs, or has it of another "
                "version of atomjax; make the statistics again, with these measures and features"
            )


def recipe_of(
    settings: SimilaritySettings, extractor: BackboneExtractor, *, downstream: bool = False
) -> dict[str, Any]:
    """The recipe of the statistics of a set.

    Args:
        settings: settings of the job.
        extractor: its extractor.
        downstream: whether the set is a task, which matters to the original's conventions.
    """
    conventions = settings.extractor.conventions
    if conventions == "efficient_atom":
        conventions += ", tasks" if downstream else ", candidates"
    return {
        "extractor": extractor.digest,
        "extractor_name": extractor.name,
        "conventions": conventions,
        "strategy": settings.sampling.strategy,
        "seed": settings.seed,
        "variants": [variant_name(*one) for one in settings.variants],
        "summaries": [summary.key for summary in settings.summaries],
    }


def write_statistics(path: str | Path, statistics: SetStatistics) -> None:
    """Write statistics as one file.

    Args:
        path: file to write; its name ends in ".statistics.npz".
        statistics: of more than 1,000 blocks some are put together.

    Raises:
        ConfigError: the name ends in something else.
    """
    path = check_path(path)
    made = statistics.made
    arrays, described = describe_set(made)
    rows = arrays["rows"]
    if len(rows) > SHOWN_ROWS:
        chosen = np.random.default_rng(0).choice(len(rows), SHOWN_ROWS, replace=False)
        arrays["rows"] = rows[np.sort(chosen)]
    for variant, features in made.variants.items():
        kept = features_arrays(features.grouped(MOST_BLOCKS))
        arrays |= {f"variant/{variant}/{name}": array for name, array in kept.items()}
    text = {
        "format": FORMAT,
        "name": made.name,
        "set": described,
        "recipe": statistics.recipe,
        "about": statistics.about,
    }
    arrays["described"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npz(path, arrays, compressed=True)


def read_statistics(path: str | Path) -> SetStatistics:
    """Statistics of a file of `write_statistics`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it is damaged, or something else.
    """
    path = Path(path).expanduser()
    arrays = read_npz(path, MEND)
    if "described" not in arrays:
        raise DamagedFile(f"{path} holds no statistics of a data set; give one that does")
    try:
        text = json.loads(arrays.pop("described").tobytes())
        if text["format"] != FORMAT:
            raise DamagedFile(
                f"{path} is of format {text['format']}, and this atomjax reads {FORMAT}; make it "
                "again, or update atomjax"
            )
        variants = {
            name: features_from(_below(arrays, f"variant/{name}/"))
            for name in text["set"]["variants"]
        }
        made = set_from(text["name"], variants, arrays, text["set"])
        return SetStatistics(made, text["recipe"], text["about"])
    except DamagedFile:
        raise
    except PARSE_ERRORS as error:
        raise DamagedFile(f"{path} is damaged ({error!r}); {MEND}") from error


def merge_statistics(paths: Sequence[str | Path], name: str | None = None) -> SetStatistics:
    """Statistics of several sets, such as the shards of one, as those of one set.

    Exact where no structure was left out by sampling. Where some were, the sets have to have been
    thinned alike; balanced samples must share no class, and classes weigh the same in all.

    Args:
        paths: files of disjoint sets.
        name: name of the whole; None: that of the first.

    Raises:
        ConfigError: the sets were not made in the same way, or their samples do not add.
        DamagedFile: a file is damaged.
    """
    if not paths:
        raise ConfigError("there are no statistics to merge; give at least one file")
    merged = read_statistics(paths[0])
    for path in paths[1:]:
        following = read_statistics(path)
        following.check(merged.recipe, str(paths[0]), path)
        merged.check(following.recipe, str(path), paths[0])
        merged = _joined(merged, following, path)
    made = merged.made
    return dataclasses.replace(merged, made=dataclasses.replace(made, name=name or made.name))


def check_path(path: str | Path) -> Path:
    """A path as that of a file of statistics.

    Raises:
        ConfigError: its name ends in something else.
    """
    path = Path(path).expanduser()
    if not path.name.endswith(STATISTICS):
        raise ConfigError(f"{path}: the name of a file of statistics ends in {STATISTICS}")
    return path


def elements_of(features: SetFeatures) -> list[str]:
    """Symbols of the elements that occur, by atomic number; none where rows are not atoms."""
    return [SYMBOLS[z] for z in sorted(features.elements)]


def _joined(first: SetStatistics, second: SetStatistics, path: str | Path) -> SetStatistics:
    sets = first.made, second.made
    strategy = first.recipe["strategy"]
    names = [one.class_names for one in sets]
    known = all(len(one.class_names) == one.classes for one in sets)
    shared = set(names[0]) & set(names[1])
    whole = all(one.features.num_structures == one.available for one in sets)
    balanced = strategy.startswith("balanced")
    weights = [one.features.weight / one.classes for one in sets]
    if balanced and (not known or shared or not np.isclose(*weights, rtol=0.02)):
        raise ConfigError(
            f"{path}: {strategy} samples weigh every class alike, so they add only where no class "
            'is in both and all weigh the same; make them with sampling.strategy="random"'
        )
    shares = [one.features.num_structures / one.available for one in sets]
    if not balanced and not whole and not np.isclose(*shares, rtol=0.02):
        raise ConfigError(
            f"{path}: {shares[1]:.1%} of its structures were drawn, and {shares[0]:.1%} of the "
            "others, so the samples do not add; draw all, or the same fraction"
        )
    merges = {s.name: s.merge for measure in MEASURES.values() for s in measure.needs}
    held = {name for one in first.made.variants.values() for name in one.summaries}
    if unknown := sorted(held - merges.keys()):
        raise ConfigError(
            f"{path}: no registered measure merges {', '.join(unknown)}; register the measure "
            "that made it with atomjax.similarity.register_measure before merging"
        )
    variants = {
        name: features.joined(second.made.variants[name], merges)
        for name, features in first.made.variants.items()
    }
    union = list(dict.fromkeys([*names[0], *names[1]])) if known else []
    made = ExtractedSet(
        name=first.made.name,
        available=sum(one.available for one in sets),
        classes=len(union) if known else sum(one.classes for one in sets),
        unit=first.made.unit if first.made.unit == second.made.unit else "structure",
        units=sum(one.units for one in sets),
        heaviest=max(one.heaviest for one in sets),
        coverage=_joined_coverage(sets, union),
        variants=variants,
        rows=np.concatenate([one.rows for one in sets]),
        class_names=tuple(union),
    )
    about = {
        "origin": f"{first.about['origin']}; {second.about['origin']}",
        "elements": elements_of(made.features),
        "atomjax": first.about["atomjax"],
    }
    for key in ("licence", "citation"):
        about[key] = "; ".join(dict.fromkeys(filter(None, (first.about[key], second.about[key]))))
    return SetStatistics(made, first.recipe, about)


def _joined_coverage(sets: Sequence[ExtractedSet], union: Sequence[str]) -> dict[str, Coverage]:
    """Classes of the samples of both sets; without names, classes of each are taken for others."""
    places = {name: i for i, name in enumerate(union)}
    first, second = sets
    found = {}
    for strategy in first.coverage.keys() & second.coverage.keys():
        parts = [one.coverage[strategy] for one in sets]
        if union:
            index = [[places[name] for name in one.class_names] for one in sets]
        else:
            index = [range(first.classes), range(first.classes, first.classes + second.classes)]
        count = len(union) or first.classes + second.classes
        table = np.zeros((2, count), int)
        for place, one in zip(index, parts, strict=True):
            table[:, list(place)] += np.stack([one.population, one.drawn])
        found[strategy] = Coverage(table[0], table[1], sum(one.distinct for one in parts))
    # The strategy of the sample comes first.
    return {name: found[name] for name in first.coverage if name in found}


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}
