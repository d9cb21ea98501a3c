"""The chemical similarity index as a measure: the Fréchet distance of all features."""

import numpy as np

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.measures.frechet import frechet_table, moment_distances
from atomjax.similarity.measures.measure import Measure, Resampling, Sets, Values


def _table(upstream: Sets, downstream: Sets) -> Values:
    found = frechet_table(*([one.statistics() for one in side] for side in (upstream, downstream)))
    terms = {name: getattr(found, name) for name in ("mean_term", "covariance_term")}
    return Values(found.distance, terms)


def _total_variance(features: SetFeatures) -> float:
    statistics = features.statistics()
    return float(np.trace(statistics.scatter)) / max(float(statistics.total) - 1, 1)


CSI = Measure(
    name="csi",
    label="CSI",
    about="a squared distance in units of these features; values of different extractors cannot "
    "be compared",
    table=_table,
    resampling=Resampling(lambda features: features.structures, moment_distances),
    extrapolates=True,
    limit=_total_variance,
)
