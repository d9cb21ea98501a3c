"""Similarity of upstream sets to downstream tasks: features, statistics, Fréchet distance."""

from atomjax.similarity.analysis.bias import Extrapolation, extrapolate_table
from atomjax.similarity.analysis.effective_rank import effective_rank
from atomjax.similarity.analysis.mixtures import mix_statistics, mixture_shares
from atomjax.similarity.analysis.selection import (
    select_by_variance,
    select_covering,
    select_farthest,
    select_greedily,
    select_nearest,
)
from atomjax.similarity.analysis.uncertainty import (
    Gap,
    Jackknife,
    Noise,
    gap_between,
    halves_distance,
    interval,
    jackknife_table,
    noise_table,
)
from atomjax.similarity.features.aggregation import AGGREGATIONS, aggregate
from atomjax.similarity.features.collect import (
    Design,
    Extractor,
    FeatureCollector,
    SetFeatures,
    collect_features,
    read_features,
    write_features,
)
from atomjax.similarity.features.coverage import (
    Coverage,
    class_coverage,
    coverage_plot,
    describe_coverage,
)
from atomjax.similarity.features.invariants import INVARIANTS, invariant_features
from atomjax.similarity.features.orientation import (
    OrientationTest,
    orientation_plot,
    rotate_structures,
)
from atomjax.similarity.features.sampling import (
    STRATEGIES,
    SamplingError,
    WeightedSample,
    class_codes,
    sample,
    weighted_sample,
)
from atomjax.similarity.features.structure_sums import (
    StructureSums,
    StructureSumsBuilder,
    random_projection,
)
from atomjax.similarity.features.summaries import Blocks, SetRows, Summary
from atomjax.similarity.measures.elements import compare_elements, element_shares
from atomjax.similarity.measures.frechet import (
    FrechetTable,
    frechet_distance,
    frechet_table,
    frechet_table_float32,
)
from atomjax.similarity.measures.measure import Measure, Parts, Resampling, Values
from atomjax.similarity.measures.registry import MEASURES, find_measures, register_measure
from atomjax.similarity.measures.resampling import each_pair
from atomjax.similarity.measures.statistics import (
    Statistics,
    empty_statistics,
    merge_all,
    merge_over_devices,
    row_statistics,
    update,
)
from atomjax.similarity.measures.stream import StatisticsStream

__all__ = [
    "AGGREGATIONS",
    "INVARIANTS",
    "MEASURES",
    "STRATEGIES",
    "Blocks",
    "Coverage",
    "Design",
    "Extractor",
    "Extrapolation",
    "FeatureCollector",
    "FrechetTable",
    "Gap",
    "Jackknife",
    "Measure",
    "Noise",
    "OrientationTest",
    "Parts",
    "Resampling",
    "SamplingError",
    "SetFeatures",
    "SetRows",
    "Statistics",
    "StatisticsStream",
    "StructureSums",
    "StructureSumsBuilder",
    "Summary",
    "Values",
    "WeightedSample",
    "aggregate",
    "class_codes",
    "class_coverage",
    "collect_features",
    "compare_elements",
    "coverage_plot",
    "describe_coverage",
    "each_pair",
    "effective_rank",
    "element_shares",
    "empty_statistics",
    "extrapolate_table",
    "find_measures",
    "frechet_distance",
    "frechet_table",
    "frechet_table_float32",
    "gap_between",
    "halves_distance",
    "interval",
    "invariant_features",
    "jackknife_table",
    "merge_all",
    "merge_over_devices",
    "mix_statistics",
    "mixture_shares",
    "noise_table",
    "orientation_plot",
    "random_projection",
    "read_features",
    "register_measure",
    "rotate_structures",
    "row_statistics",
    "sample",
    "select_by_variance",
    "select_covering",
    "select_farthest",
    "select_greedily",
    "select_nearest",
    "update",
    "weighted_sample",
    "write_features",
]
