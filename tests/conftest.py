"""Settings and fixtures that every test shares."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# In the environment rather than in jax.config, and before jax is imported, so that the processes
# which tests start inherit them.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
# Reading a program takes a tenth of compiling it even where that is quick: the workers and the
# processes that they start share all.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Tests compile much and run little, and LLVM's passes take half of the compilation. XLA's own
# passes, which decide what is computed in which order, are all made.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests the programs that users run.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    # Without LLVM's passes the older code generators take less than half of the new ones' time, and
    # there are enough processes to keep the cores busy with whole programs.
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}".strip()
os.environ.setdefault("MPLBACKEND", "agg")
# As in the workers that label: on several threads tblite's sums differ in the last bits, which
# decide how degenerate normal modes are mixed. The processes of a test run share the cores anyway.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Spares tracing, which allocates much and drops little, an eighth of its time.

    What collection imported stays, so that looking through it for garbage is in vain.
    """
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs and real data that lies beside the checkout.

    Tests that need it are skipped without it, except under CI, where a missing folder would
    leave parity with the originals unchecked without anybody noticing.
    """
    path = Path(os.environ.get("ATOMJAX_SHARED", ROOT.parent / "shared"))
    if path.is_dir():
        return path
    reason = f"no reference data at {path}; set ATOMJAX_SHARED to the folder that holds oracle/"
    if os.environ.get("CI") == "true" and not os.environ.get("ATOMJAX_ALLOW_NO_SHARED"):
        pytest.fail(f"{reason}, or ATOMJAX_ALLOW_NO_SHARED=1 to skip these tests", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cases(shared: Path) -> Path:
    """The small inputs that went wrong once, each of which a test reads."""
    path = shared / "cases"
    if not path.is_dir():
        pytest.skip(f"no inputs at {path}")
    return path


@pytest.fixture(scope="session")
def uneven():
    """A chain whose atoms have up to eight neighbours, and a ball in which they have 20 to 30."""
    import numpy as np

    from atomjax.structures import Structure

    rng = np.random.default_rng(0)
    chain = np.arange(40.0)[:, None] * [1.2, 0, 0]
    ball = np.stack(np.meshgrid(*[[0, 1.7, 3.4]] * 3), axis=-1).reshape(-1, 3)
    positions = np.concatenate([chain, ball + np.array([0, 50, 0])])
    positions += rng.normal(0, 0.05, positions.shape)
    atomic_numbers = rng.choice([1, 6, 8], len(positions))
    return Structure(atomic_numbers=atomic_numbers, positions=positions)


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs the test in float64."""
    import jax

    with jax.enable_x64(True):
        yield
