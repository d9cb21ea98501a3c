"""Compares steps on eight devices with the same steps on one; run by test_step in a process."""

import jax
import numpy as np

from tests.training.standin import make_batch, random_structures, stack
from tests.training.test_step import run_steps, setup


def assert_close(a, b, atol: float) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol), a, b)


def main() -> None:
    assert len(jax.devices()) == 8
    # Uneven shares: some devices get nothing but padding, and their paddings differ from the
    # single device's.
    shares = [0, 3, 1, 5, 2, 0, 4, 1]
    single, parted = [], []
    for seed in range(4):
        structures = random_structures(sum(shares), seed=seed, datasets=2)
        single.append(stack([make_batch(structures, graphs=20, nodes=110)]))
        rows, start = [], 0
        for share in shares:
            rows.append(make_batch(structures[start : start + share], graphs=7, nodes=40))
            start += share
        parted.append(stack(rows))
    one, losses_one = run_steps(*setup(devices=1), single)
    eight, losses_eight = run_steps(*setup(devices=8), parted)
    np.testing.assert_allclose(losses_one, losses_eight, rtol=2e-6)
    assert_close(one.opt_state, eight.opt_state, atol=1e-6)
    assert_close(one.params, eight.params, atol=1e-5)
    print("8 devices agree")


if __name__ == "__main__":
    main()
