"""A description of this installation: versions, devices, speed, and what is missing."""

import argparse
import importlib.metadata
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

# Rows of the matrices whose product is timed, on CPUs and on accelerators.
SMALL, LARGE = 1024, 4096
REPEATS = 5
MISSING = "missing"
# Extra → the package that makes jax use the accelerator.
PLUGINS = {"cuda12": "jax-cuda12-plugin", "cuda13": "jax-cuda13-plugin", "tpu": "libtpu"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax doctor``."""
    parser.add_argument("--no-speed", action="store_true", help="do not measure the speed")


def main(options: argparse.Namespace) -> int:
    """Prints the description."""
    import jax

    from atomjax.runtime.run import describe_environment

    known = describe_environment()
    for name in ("started", "command", "processes"):
        known.pop(name)
    _print("Versions", {name: value or MISSING for name, value in known.items()})
    memory = {str(device): _memory(device) for device in jax.devices()}
    _print("Devices", memory)
    if not options.no_speed:
        _print("Product of two float32 matrices", {str(d): _rate(d) for d in jax.devices()})
    _print("Compilation cache", _compilation_cache())
    _print("Extras", missing_extras())
    return 0


def missing_extras() -> dict[str, str]:
    """Extra of the package → what of it is missing, and how to install it.

    An extra whose packages are not for this machine counts as installed.
    """
    found: dict[str, list[str]] = {}
    for text in importlib.metadata.requires("atomjax") or ():
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if extra is None:
            continue
        name = re.split(r"[\s<>=!~\[(]", requirement.strip())[0]
        inside = re.search(r"\[([\w-]+)\]", requirement)
        if inside is not None and name == "jax":
            name = PLUGINS[inside[1]]
        found.setdefault(extra[1], [])
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[extra[1]].append(name)
    words = {}
    for extra, names in found.items():
        install = f'pip install "atomjax[{extra}]"'
        words[extra] = f"without {', '.join(names)}: {install}" if names else "installed"
    return words


def _memory(device: Any) -> str:
    """Kind of a device and its memory, where it says."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if device.platform == "cpu":
        return f"{device.device_kind}, {os.cpu_count()} cores"
    return device.device_kind + (f", {limit / 2**30:.0f} GiB" if limit else "")


def _rate(device: Any) -> str:
    """Rate of a product on one device, best of several."""
    import jax

    size = SMALL if device.platform == "cpu" else LARGE
    matrix = jax.device_put(jax.numpy.ones((size, size), "float32"), device)
    product = jax.jit(lambda a, b: a @ b)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return f"{2 * size**3 / min(seconds) / 1e9:,.0f} GFLOP/s ({size} x {size})"


def _compilation_cache() -> dict[str, str]:
    """The folder of compiled programs, and its size."""
    import jax

    from atomjax.runtime.compile_cache import DIRECTORY
    from atomjax.runtime.files import user_cache

    path = Path(jax.config.values["jax_compilation_cache_dir"] or user_cache(DIRECTORY))
    if not path.is_dir():
        return {"directory": f"{path}, which does not exist yet"}
    files = [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    free = shutil.disk_usage(path).free
    held = f"{len(files):,} files, {size / 2**20:,.0f} MiB; {free / 2**30:,.0f} GiB free"
    return {"directory": str(path), "holds": held}


def _print(title: str, lines: dict[str, Any]) -> None:
    width = max((len(name) for name in lines), default=0)
    print(title, *(f"  {name:{width}}  {value}" for name, value in lines.items()), "", sep="\n")
