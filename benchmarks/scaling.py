"""Weak scaling of the training step over host devices, and its communication.

python -m benchmarks.scaling [--devices 1 2 4 8] [--model gemnet_oc_tiny] [--optimizer whole]

Every number of devices is a process of its own. The devices share the machine's cores, so the time
of a step grows with them; what is measured is what division costs: structures/s relative to one
device, where 1 is ideal. The communication is read from the compiled program: each collective with
the bytes of its result, and whether it is split into a start and a done between which other work
can run. That part does not depend on the machine's speed, so --compile-only leaves out the steps.
"""

import argparse
import functools
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.models import HeadConfig, build_model, fit_scale_factors, init_variables, predict
from atomjax.models.gemnet_oc import PUBLISHED_GRAPH
from atomjax.training.settings import BatchingSettings, TrainSettings
from atomjax.training.update.optimizer import make_optimizer
from atomjax.training.update.state import (
    create_state,
    data_mesh,
    place,
    place_batch,
    state_shardings,
)
from atomjax.training.update.step import make_train_step
from atomjax.training.update.tasks import Task
from benchmarks.measure import machine, seconds
from benchmarks.sets import molecules

COLLECTIVES = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s32": 4, "u32": 4, "f32": 4, "f64": 8, "bf16": 2, "f16": 2}
_OPERATION = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start|-done)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


def communication(text: str) -> Iterator[tuple[str, str, int]]:
    """Name, "" or "-start", and result bytes of each collective of a compiled program.

    Args:
        text: HLO after optimisation.
    """
    for result, name, part in _OPERATION.findall(text):
        if part == "-done":
            continue
        sizes = [
            BYTES[kind] * int(np.prod([int(n) for n in shape.split(",") if n]))
            for kind, shape in _ARRAY.findall(result)
        ]
        # The start of an asynchronous one carries its operands too.
        yield name, part, sum(sizes) // (2 if part else 1)


def prepare(options: argparse.Namespace) -> tuple[Any, Any, Any, int]:
    """The step, the state and a batch of the training that is measured, and its structures."""
    mesh = data_mesh()
    count = options.per_device * mesh.size
    loader = BatchLoader(
        [GraphDataset("molecules", molecules(count), PUBLISHED_GRAPH)],
        batch_size=count,
        num_devices=mesh.size,
        shuffle=False,
    )
    model = build_model({"name": options.model}, [HeadConfig(name="molecules")])
    example = loader.example_batch()
    variables = init_variables(model, jax.random.key(0), example)
    variables = fit_scale_factors(model, variables, [example])
    settings = TrainSettings(batching=BatchingSettings(batch_size=count), epochs=1)
    optimizer = make_optimizer(settings, variables["params"], 1000, ())
    state = create_state(variables, optimizer, seed=0)
    places = state_shardings(state, mesh, shard_optimizer=True) if options.shard else None
    step = make_train_step(
        functools.partial(predict, model),
        [Task(name="molecules")],
        optimizer,
        mesh,
        shardings=places,
    )
    return step, place(state, mesh, places), place_batch(loader.build(0), mesh), count


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time of a step on this process's devices, its collectives, and memory."""
    step, state, batch, count = prepare(options)
    compiled = step.lower(state, batch).compile()
    state_bytes = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    parameters = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(state.params))
    times = []
    if not options.compile_only:

        def once():
            nonlocal state
            state, metrics = compiled(state, batch)
            return metrics

        seconds(once)
        times = [seconds(once) for _ in range(options.repeats)]
    return {
        "machine": machine(),
        "structures": count,
        "seconds": statistics.median(times) if times else None,
        "collectives": list(communication(compiled.as_text())),
        "state_bytes": state_bytes,
        "parameters": parameters,
    }


def in_process(devices: int, arguments: list[str], shard: bool) -> dict[str, Any]:
    """Run :func:`measure` in a process with this number of host devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "benchmarks.scaling", "--measure", *arguments]
    done = subprocess.run(
        command + ["--shard"] * shard,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def moved(name: str, size: int, devices: int) -> float:
    """Bytes that each device sends for a collective along a ring.

    Args:
        name: name of the collective.
        size: bytes of its result on a device.
        devices: D.
    """
    share = (devices - 1) / devices
    return {"all-reduce": 2 * share, "reduce-scatter": devices * share}.get(name, share) * size


def describe(result: dict[str, Any], devices: int) -> str:
    """The collectives of a step in one line: number, megabytes, and how many are asynchronous."""
    parts, sent = [], 0.0
    for name in COLLECTIVES:
        found = [(part, size) for kind, part, size in result["collectives"] if kind == name]
        if found:
            starts = sum(part == "-start" for part, _ in found)
            total = sum(size for _, size in found)
            sent += sum(moved(name, size, devices) for _, size in found)
            parts.append(f"{len(found)} {name} {total / 1e6:.2f} MB ({starts} asynchronous)")
    parts.append(f"each device sends {sent / 1e6:.2f} MB along a ring")
    return "; ".join(parts)


def main() -> None:
    """Measures every number of devices, with the optimiser whole and divided."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--model", default="gemnet_oc_tiny")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--per-device", type=int, default=4, help="structures")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile-only", action="store_true", help="communication only")
    parser.add_argument("--optimizer", choices=("whole", "divided"), help="default: both")
    parser.add_argument("--shard", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    arguments = [f"--model={options.model}", f"--per-device={options.per_device}"]
    arguments += [f"--repeats={options.repeats}"] + ["--compile-only"] * options.compile_only
    kinds = [options.optimizer] if options.optimizer else ["whole", "divided"]
    for shard in (kind == "divided" for kind in kinds):
        print(f"\noptimiser {'divided' if shard else 'whole'} on {options.model}")
        first: float | None = None
        result: dict[str, Any] = {}
        for devices in options.devices:
            result = in_process(devices, arguments, shard)
            line = f"  {devices} devices: state {result['state_bytes'] / 1e6:.2f} MB on each"
            if result["seconds"] is not None:
                rate = result["structures"] / result["seconds"]
                first = rate if first is None else first
                line += f", {rate:.1f} structures/s, ratio {rate / first:.2f}"
            print(f"{line}\n    {describe(result, devices)}")
        print(f"  {result['parameters'] / 1e6:.2f} M parameters; {result['machine']}")


if __name__ == "__main__":
    main()
