"""Time of a training step by kind of work and by part of the model.

    python -m benchmarks.profile [--model gemnet_oc_small] [--batch molecules] [--copies 1]
        [--precision tensorfloat32] [--repeats 6] [--keep DIR]

Durations are those of XLA's own profile, of each kernel the shortest of the repeats, so that what
else runs on the machine counts little. On a CPU, kernels that hand work to other threads may end
before these do; shares, not sums, are what to read.
"""

import argparse
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.measure import cost, kernel_count, machine, queue, seconds
from benchmarks.turns import wait_for_turn
from benchmarks.workloads import KINDS, training

LARGEST = 12  # kernels that are named


def shortest_durations(run: Any, repeats: int, keep: Path | None) -> dict[str, float]:
    """Seconds of each kernel, the shortest of the repeats; the trace stays in ``keep``.

    An operation that starts several kernels takes what they take together.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or temporary
        with jax.profiler.trace(folder):
            for _ in range(repeats):
                jax.block_until_ready(run())
        path = max(Path(folder).rglob("*.xplane.pb"))
        data = jax.profiler.ProfileData.from_file(str(path))
    durations = defaultdict(list)
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name is not None:
                    durations[str(name), event.name].append(event.duration_ns / 1e9)
    totals: dict[str, float] = defaultdict(float)
    for (name, _), values in durations.items():
        # What a loop or a call takes is that of the kernels in it, which may run many times.
        if not re.fullmatch(r"(while|call|conditional)(\.\d+)?", name):
            totals[name] += min(values) * len(values) / repeats
    return totals


def describe(text: str) -> dict[str, tuple[str, str]]:
    """Kernel → (kind of work, part of the model), from the text of a compiled program."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = ", line)
        if not match:
            continue
        source = re.search(r'op_name="([^"]*)"', line)
        found[match[1]] = kind_of(match[1], line), part_of(source[1] if source else "")
    return found


def kind_of(name: str, line: str) -> str:
    """Matrix products, sums over devices, gathers, or elementwise work and sums."""
    if "__ynn_fusion" in line or " dot(" in line or re.search("gemm|cublas|__triton", line):
        return "matrix products"
    if re.match("all-reduce|reduce-scatter|all-gather", name):
        return "sums over devices"
    return "gathers" if "gather" in name or "scatter" in name else "elementwise and sums"


def part_of(source: str) -> str:
    """The part of the model in an operation's name, without the numbers of blocks."""
    names = [n for n in source.split("/") if re.search("backbone|head_|blocks|bases|out_", n)]
    part = re.sub(r"_\d+\b", "", names[-1]) if names else "optimiser, loss and the rest"
    return f"{part}, backward" if names and "transpose(" in source else part


def show_kernels(
    run: Callable[[], Any], compiled: Any, repeats: int, keep: Path | None = None
) -> None:
    """Prints the time of a program by kind of work and by part of the model.

    Args:
        run: runs it.
        compiled: the program.
        repeats: runs of which each kernel's shortest time counts.
        keep: folder for the trace and the program's text.
    """
    elapsed = min(seconds(run, queue()) for _ in range(4))
    durations = shortest_durations(run, repeats, keep)
    total = sum(durations.values())
    text = compiled.as_text()
    if keep:
        (keep / "program.txt").write_text(text, encoding="utf-8")
    described = describe(text)
    flops, moved = cost(compiled)
    print(f"{1e3 * total:.2f} ms in kernels, a run takes {1e3 * elapsed:.2f} ms", end=": ")
    print(f"{kernel_count(compiled)} kernels, {flops / 1e9:.0f} GFLOP, {moved / 1e9:.1f} GB")
    for column in (0, 1):
        time, count = defaultdict(float), Counter()
        for name, duration in durations.items():
            label = described.get(name, ("other", "other"))[column]
            time[label] += duration
            count[label] += 1
        print()
        for label, value in sorted(time.items(), key=lambda pair: -pair[1])[:16]:
            print(f"  {value / total:6.1%}  {count[label]:5d} kernels  {label}")
    print()
    for name in sorted(durations, key=lambda name: -durations[name])[:LARGEST]:
        kind, part = described.get(name, ("other", "other"))
        print(f"  {1e3 * durations[name]:7.3f} ms  {name}: {kind}, {part}")


def main() -> None:
    """Prints the tables of a training step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--model", default="gemnet_oc_small")
    parser.add_argument("--batch", choices=KINDS, default="molecules")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "tensorfloat32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="folder for the trace, as TensorBoard reads it")
    options = parser.parse_args()
    model = {"name": options.model, "precision": options.precision}
    made = training(options.batch, model, options.copies)
    wait_for_turn()
    print(f"{machine()}\n{options.model}, {options.batch}:", end=" ")
    show_kernels(made.run, made.compiled, options.repeats, options.keep)


if __name__ == "__main__":
    main()
