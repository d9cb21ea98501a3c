"""The CSI against Fréchet distances by ``scipy.linalg.sqrtm`` of the same features."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atomjax.parity.oracle import OracleError, read_arrays
from atomjax.parity.result import Result
from atomjax.similarity.features.aggregation import AGGREGATIONS
from atomjax.similarity.measures.frechet import frechet_table, frechet_table_float32
from atomjax.similarity.measures.statistics import Statistics
from atomjax.similarity.measures.stream import StatisticsStream

FILE = "csi.npz"
# The reference compares sets 0 to 2 with sets 3 and 4.
UPSTREAM, DOWNSTREAM = (0, 1, 2), (3, 4)
LIMITS = {"float64": 1e-6, "float32": 1e-3}


def compare_distances(folder: Path, dtype: str) -> Iterator[Result]:
    """Compares the tables of every case and aggregation."""
    arrays = read_arrays(folder / FILE)
    cases = list(dict.fromkeys(name.split("/")[0] for name in arrays))
    table = frechet_table if dtype == "float64" else frechet_table_float32
    for case in cases:
        for aggregation in AGGREGATIONS:
            expected = arrays.get(f"{case}/frechet_{aggregation}")
            if expected is None:
                raise OracleError(f"{folder / FILE} lacks {case}/frechet_{aggregation}.")
            upstream, downstream = (
                [set_statistics(arrays, f"{case}/set{i}", aggregation) for i in numbers]
                for numbers in (UPSTREAM, DOWNSTREAM)
            )
            value = table(upstream, downstream).distance
            same_shape = value.shape == expected.shape
            error = float(np.abs(value / expected - 1).max()) if same_shape else float("nan")
            yield Result("csi", case, f"frechet {aggregation}", error, LIMITS[dtype])


def set_statistics(arrays: dict[str, np.ndarray], name: str, aggregation: str) -> Statistics:
    """Statistics of one ragged set of the reference."""
    features, n_node = arrays[f"{name}/features"], arrays[f"{name}/n_node"]
    stream = StatisticsStream(features.shape[1])
    if aggregation == "flat":
        stream.add(features)
    else:
        first = np.cumsum(n_node) - n_node
        rows = (np.maximum if aggregation == "max" else np.add).reduceat(features, first)
        stream.add(rows / n_node[:, None] if aggregation == "mean" else rows)
    return stream.result()
