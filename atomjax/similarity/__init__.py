"""How near an upstream set is to a downstream task: features, statistics, Fréchet distance."""

from atomjax.similarity.aggregation import AGGREGATIONS, aggregate
from atomjax.similarity.bias import Extrapolation, extrapolate_table
from atomjax.similarity.bootstrap import Bootstrap, bootstrap_table
from atomjax.similarity.coverage import (
    Coverage,
    class_coverage,
    describe_coverage,
    plot_coverage,
)
from atomjax.similarity.effective_rank import EffectiveRank, effective_rank
from atomjax.similarity.elements import ElementComparison, compare_elements, element_shares
from atomjax.similarity.extract import (
    Extractor,
    FeatureCollector,
    SetFeatures,
    collect_features,
    read_features,
    write_features,
)
from atomjax.similarity.frechet import (
    FrechetTable,
    frechet_distance,
    frechet_table,
    frechet_table_float32,
)
from atomjax.similarity.invariants import INVARIANTS, invariant_features
from atomjax.similarity.mixtures import mix_statistics, mixture_shares
from atomjax.similarity.orientation import OrientationTest, plot_orientation, rotate_structures
from atomjax.similarity.sampling import STRATEGIES, SamplingError, class_codes, sample
from atomjax.similarity.selection import select_greedily, select_nearest
from atomjax.similarity.statistics import (
    Statistics,
    empty_statistics,
    merge_all,
    merge_over_devices,
    row_statistics,
    update,
)
from atomjax.similarity.stream import StatisticsStream
from atomjax.similarity.structure_sums import StructureSums, random_projection

__all__ = [
    "AGGREGATIONS",
    "INVARIANTS",
    "STRATEGIES",
    "Bootstrap",
    "Coverage",
    "EffectiveRank",
    "ElementComparison",
    "Extractor",
    "Extrapolation",
    "FeatureCollector",
    "FrechetTable",
    "OrientationTest",
    "SamplingError",
    "SetFeatures",
    "Statistics",
    "StatisticsStream",
    "StructureSums",
    "aggregate",
    "bootstrap_table",
    "class_codes",
    "class_coverage",
    "collect_features",
    "compare_elements",
    "describe_coverage",
    "effective_rank",
    "element_shares",
    "empty_statistics",
    "extrapolate_table",
    "frechet_distance",
    "frechet_table",
    "frechet_table_float32",
    "invariant_features",
    "merge_all",
    "merge_over_devices",
    "mix_statistics",
    "mixture_shares",
    "plot_coverage",
    "plot_orientation",
    "random_projection",
    "read_features",
    "rotate_structures",
    "row_statistics",
    "sample",
    "select_greedily",
    "select_nearest",
    "update",
    "write_features",
]
