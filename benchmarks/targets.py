"""Accelerators to compile for without having one: their description for XLA, and their limits.

For NVIDIA's GPUs ``pip install "jax[cuda12]"`` is needed, for TPUs ``pip install libtpu``, of the
version of JAX; neither a GPU nor a driver nor a TPU. Limits are of the makers' data sheets, matrix
products without sparsity.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax

from benchmarks.hlo import Kernel, kernels_of

_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  l2_cache_size: 52428800
  memory_bandwidth: 3352000000000
  device_memory_size: 84929347584
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclass(frozen=True)
class Target:
    """An accelerator.

    Attributes:
        platform: as JAX names it.
        flops: FLOP/s of matrix products by precision.
        bandwidth: bytes/s of its memory.
        memory: bytes of its memory.
        start: seconds that a kernel takes at least.
        description: the description that XLA needs of it, or the name of the topology's kind.
        options: options of the compiler.
    """

    platform: Literal["gpu", "tpu"]
    flops: Mapping[str, float]
    bandwidth: float
    memory: float
    start: float
    description: str
    options: Mapping[str, Any]

    def devices(self, count: int) -> list[Any]:
        """Descriptions of ``count`` of them, to place a program's arguments on.

        Raises:
            RuntimeError: what compiles for it is not installed.
        """
        if self.platform == "gpu":
            # Otherwise JAX looks for a driver.
            os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
            name = "cuda"
            options = {"target_config": self.description, "topology": f"1x1x{count}"}
        else:
            # Otherwise libtpu asks the cloud for them, and complains.
            os.environ |= {
                "TPU_SKIP_MDS_QUERY": "1",
                "TPU_WORKER_HOSTNAMES": "localhost",
                "TPU_ACCELERATOR_TYPE": "v5litepod-4",
            }
            side = max(2, 2 ** ((count - 1).bit_length() // 2))
            name = "tpu"
            options = {"topology_name": f"{self.description}:{side}x{max(2, count // side)}"}
        from jax.experimental import topologies

        try:
            return list(topologies.get_topology_desc(platform=name, **options).devices)[:count]
        except NotImplementedError as error:
            package = '"jax[cuda12]"' if self.platform == "gpu" else "libtpu"
            raise RuntimeError(f"cannot compile for {name}: pip install {package}") from error


def _tpu(name: str, flops: float, bandwidth: float, memory: float) -> Target:
    """A TPU, by its rate in bfloat16; more exact products are several of those."""
    return Target(
        platform="tpu",
        flops={"float32": flops / 6, "tensorfloat32": flops / 3, "bfloat16": flops},
        bandwidth=bandwidth,
        memory=memory,
        start=0,
        description=name,
        options={},
    )


_H100_TARGET = Target(
    platform="gpu",
    flops={"float32": 67e12, "tensorfloat32": 494.7e12, "bfloat16": 989.4e12},
    bandwidth=3.35e12,
    memory=80e9,
    start=2e-6,
    description=_H100,
    # Choosing among algorithms by timing them takes the device. Library calls for products
    # keep those apart from the rest.
    options={"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
)
TARGETS = {
    "h100": _H100_TARGET,
    # The same processor with more and faster memory.
    "h200": replace(_H100_TARGET, bandwidth=4.8e12, memory=141e9),
    "v5e": _tpu("v5e", 197e12, 0.819e12, 16e9),
    "v6e": _tpu("v6e", 918e12, 1.64e12, 32e9),
}


def target_of(device: Any) -> Target | None:
    """The target that a device is; None for one whose limits are not here."""
    kind = device.device_kind.lower().replace("tpu ", "").replace(" lite", "e")
    return next((target for name, target in TARGETS.items() if name in kind), None)


def bound(kernels: Iterable[Kernel], target: Target, rate: float, reached: float) -> float:
    """Seconds that the kernels take at least.

    Args:
        kernels: one after the other.
        target: the device.
        rate: FLOP/s of its matrix products.
        reached: share of that and of the memory's bandwidth that a kernel reaches.
    """
    return sum(
        k.times * max(k.flops / rate / reached, k.moved / target.bandwidth / reached, target.start)
        for k in kernels
    )


def bound_seconds(compiled: Any, precision: str) -> float | None:
    """Seconds that a compiled program takes at least on its device, if the limits are known.

    Args:
        compiled: the program.
        precision: of its matrix products.
    """
    target, kernels = target_of(jax.devices()[0]), kernels_of(compiled)
    if target is None or kernels is None:
        return None
    return bound(kernels, target, target.flops[precision], 1.0)
