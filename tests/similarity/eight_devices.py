"""Merges statistics over eight devices; run by test_statistics in a process of its own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from atomjax.similarity.measures.statistics import merge_over_devices, row_statistics, to_float64
from tests.similarity.samples import exact


def main() -> None:
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8 * 12, 5)) + 100
    # Shares are uneven; one device has nothing.
    mask = np.arange(8 * 12) % 12 < np.repeat([3, 12, 0, 1, 7, 2, 12, 5], 12)

    def merged(rows, mask):
        return merge_over_devices(row_statistics(rows, mask), "data")

    spec = PartitionSpec("data")
    run = jax.jit(
        jax.shard_map(merged, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec())
    )
    mean, cov = exact(rows[mask])
    for x64, limit in ((True, 1e-12), (False, 1e-5)):
        with jax.enable_x64(x64):
            got = to_float64(run(jnp.asarray(rows, float), jnp.asarray(mask)))
        assert int(got.count) == mask.sum()
        np.testing.assert_allclose(got.mean, mean, rtol=limit)
        np.testing.assert_allclose(got.scatter / (mask.sum() - 1), cov, atol=10 * limit)
    print("8 devices agree")


if __name__ == "__main__":
    main()
