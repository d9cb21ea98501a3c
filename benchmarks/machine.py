"""The machine that a benchmark runs on: processor, device, versions, matmul rates, foreign load.

python -m benchmarks.machine        prints them as JSON
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "torch")
# Cores of foreign work from which a figure is suspect.
QUIET = 0.1


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        if importlib.util.find_spec(name):
            found[name] = importlib.metadata.version(name)
    return found


def describe() -> dict[str, Any]:
    """Processor, cores, memory, versions, JAX's devices, and matmul rates of JAX and PyTorch."""
    import jax

    from benchmarks.measure import make_matmul_rate

    devices = jax.devices()
    rate = make_matmul_rate()
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "device": f"{len(devices)} × {devices[0].device_kind} ({devices[0].platform})",
        "versions": versions(),
        "matmul_gflops_jax": round(max(rate() for _ in range(5)) / 1e9, 1),
        "matmul_gflops_torch": torch_rate(),
    }


def torch_rate(size: int = 2048) -> float | None:
    """GFLOP/s of PyTorch's float32 product on this processor; None where it is not installed."""
    if not importlib.util.find_spec("torch"):
        return None
    torch = importlib.import_module("torch")
    matrix = torch.ones(size, size)
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        torch.matmul(matrix, matrix)
        times.append(time.perf_counter() - begin)
    return round(2 * size**3 / min(times[1:]) / 1e9, 1)


def foreign_load(seconds: float = 1.0) -> float:
    """Cores that other processes keep busy, over some seconds in which this one waits."""
    if not Path("/proc/stat").exists():
        return os.getloadavg()[0]
    before = _busy()
    time.sleep(seconds)
    return (_busy() - before) / seconds


def _busy() -> float:
    """Seconds that all cores together have worked."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(json.dumps(describe(), indent=1))
