"""The measures that a config can name."""

from collections.abc import Iterable

from atomjax.runtime.config import ConfigError, nearest
from atomjax.runtime.workflows import resolve
from atomjax.similarity.measures.composition import ELEMENT_OVERLAP, FORMULA_OVERLAP, SIZE_GAP
from atomjax.similarity.measures.csi import CSI
from atomjax.similarity.measures.elements import WITHIN_ELEMENTS
from atomjax.similarity.measures.measure import Measure
from atomjax.similarity.measures.mmd import MMD
from atomjax.similarity.measures.neighbors import COVERAGE, DENSITY, KID, OVERLAP
from atomjax.similarity.measures.sliced_wasserstein import SLICED_WASSERSTEIN
from atomjax.similarity.measures.transport import CLASS_MIXTURES, ELEMENT_MIXTURES

# Those of a config that names none.
DEFAULT = (CSI, WITHIN_ELEMENTS)
BUILT_IN = (
    *DEFAULT,
    ELEMENT_MIXTURES,
    CLASS_MIXTURES,
    MMD,
    KID,
    SLICED_WASSERSTEIN,
    COVERAGE,
    DENSITY,
    OVERLAP,
    FORMULA_OVERLAP,
    ELEMENT_OVERLAP,
    SIZE_GAP,
)
MEASURES: dict[str, Measure] = {measure.name: measure for measure in BUILT_IN}


def register_measure(measure: Measure) -> Measure:
    """Makes a measure known to configs by its name; returns it.

    Raises:
        ValueError: a measure that comes with atomjax has the name.
    """
    if any(measure.name == one.name for one in BUILT_IN):
        raise ValueError(f'measure "{measure.name}" comes with atomjax; give another name')
    MEASURES[measure.name] = measure
    return measure


def find_measures(names: Iterable[str]) -> list[Measure]:
    """The measures with these names; "module:NAME" is imported, in any process.

    Raises:
        ConfigError: a name is not known.
    """
    found = []
    for name in names:
        try:
            measure = resolve(name) if ":" in name else MEASURES.get(name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"measures: '{name}' cannot be imported: {error}") from error
        if not isinstance(measure, Measure):
            raise ConfigError(
                f"measures: '{name}' is not registered.{nearest(name, MEASURES)} Register it with "
                "atomjax.similarity.register_measure in the config's file, or name it as "
                '"module:NAME"'
            )
        found.append(measure)
    return found
