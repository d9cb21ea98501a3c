"""Every benchmark of speed at fixed sizes, each in a process of its own, in one file of results.

    python -m benchmarks.all [--quick] [--device gpu] [--minutes 10] [--original module:function]

They run in the order of what their figures are worth, and the file is written after each, so that
what a time limit cuts off is the least of it. It holds the machine with its matmul rates, and for
every part its command, its rows, page faults and memory of its process, and how many cores others
kept busy just before. ``docs/results/benchmarks_DEVICE.json`` is where docs/performance.md takes
its tables from.

On an accelerator the parts are those of the first hour with one: agreement with the reference
numbers in float32 and TF32 (``--oracle``, where the folder is at hand), steps in TF32 and bfloat16,
a profile of one, extraction, the CSI, small models, memory, and the loader beside the device.
``--together`` compiles those of the device side by side; see ``benchmarks.turns``.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import QUIET, foreign_load
from benchmarks.rows import write_result
from benchmarks.turns import FOLDER, give_turn, is_ready

ROOT = Path(__file__).resolve().parent.parent
# Seconds left under which no part is begun.
LEAST = 15.0
# Share of the minutes after which parts that are compiled no longer wait for those that are not.
COMPILING = 0.5


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: its key in the file.
        words: module and arguments.
        rows: whether it appends rows to a file; otherwise its text is kept.
        quick: whether it belongs to the quick selection.
        judged: whether it fails where its command does.
        host: whether it is the host's work, which nothing else may run beside.
    """

    name: str
    words: str
    rows: bool = True
    quick: bool = False
    judged: bool = True
    host: bool = False


def step(model: str, batch: str, *more: str, quick: bool = False) -> Part:
    """A training step."""
    words = " ".join([f"benchmarks.step --model {model} --batch {batch}", *more])
    return Part(" ".join(["step", model, batch, *more]), words, quick=quick)


def extraction(batch: str, quick: bool = False) -> Part:
    """Extraction from the batch of this name, four times as large as on a CPU."""
    words = f"benchmarks.extract --copies 4 --only {batch.split()[-1]}"
    return Part(f"extraction {batch}", words, quick=quick)


TF32, BF16 = "--precision tensorfloat32", "--precision bfloat16"
CPU = (
    step("gemnet_oc_small", "molecules", quick=True),
    step("gemnet_oc_small", "slabs"),
    step("gemnet_oc_small", "mixed"),
    step("gemnet_oc_small", "dynamics"),
    step("gemnet_oc_large", "molecules"),
    step("gemnet_oc_tiny", "dynamics", "--repeats 50", quick=True),
    step("gemnet_oc_tiny", "dynamics", "--copies 4", "--repeats 20"),
    Part("extraction", "benchmarks.extract", quick=True),
    Part("csi", "benchmarks.csi --only table", quick=True),
    Part("streaming", "benchmarks.csi --only stream peak --dimensions 512 1024"),
    Part("profile", "benchmarks.profile", rows=False),
    Part("loader", "benchmarks.loader --workers"),
)
ACCELERATOR = (
    step("gemnet_oc_small", "molecules", "--copies 16", TF32, quick=True),
    # The trace stays, as TensorBoard reads it, with the program's text.
    Part(
        "profile",
        f"benchmarks.profile --copies 16 {TF32} --keep runs/trace",
        rows=False,
        quick=True,
    ),
    step("gemnet_oc_small", "slabs", "--copies 4", TF32, quick=True),
    extraction("molecules", quick=True),
    extraction("slabs of 14"),
    extraction("slabs of 82"),
    Part(
        "profile extraction",
        "benchmarks.extract --copies 4 --only molecules --profile runs/trace_extraction",
        rows=False,
    ),
    step("gemnet_oc_small", "molecules", "--copies 16", BF16, quick=True),
    step("gemnet_oc_small", "mixed", "--copies 4", TF32),
    step("gemnet_oc_small", "dynamics", "--copies 8", TF32),
    step("gemnet_oc_large", "molecules", "--copies 8", TF32),
    Part("csi", "benchmarks.csi --only table", quick=True, host=True),
    step("gemnet_oc_tiny", "dynamics", "--repeats 50"),
    step("gemnet_oc_tiny", "dynamics", "--copies 4", "--repeats 50"),
    Part("memory", "benchmarks.memory", rows=False),
    Part("loader", "benchmarks.loader --workers", host=True),
)
ORIGINALS = ("benchmarks.step", "benchmarks.extract")
COMPARED = "--model gemnet_oc_small --model eqv2_31M --model csi"


def parts_of(options: argparse.Namespace) -> Iterator[Part]:
    """The parts to run, in order."""
    accelerator = options.device != "cpu"
    if accelerator and options.oracle:
        for precision in ("float32", "tensorfloat32"):
            words = f"atomjax.parity --oracle {options.oracle} --dtype float32 {COMPARED}"
            # The limits are those of float32; of TF32 the errors are what is to know.
            judged = precision == "float32"
            yield Part(f"parity {precision}", words, rows=False, quick=True, judged=judged)
    for part in ACCELERATOR if accelerator else CPU:
        if part.quick or not options.quick:
            yield part


@dataclass
class Running:
    """A part that has been started.

    Attributes:
        part: what runs.
        shown: its command.
        process: its process.
        folder: temporary folder of its rows and text.
        began: time of its start.
    """

    part: Part
    shown: str
    process: subprocess.Popen[bytes]
    folder: tempfile.TemporaryDirectory[str]
    began: float


def start(part: Part, options: argparse.Namespace, turns: str | None = None) -> Running:
    """Start a part; with a folder of turns it waits there once it is compiled."""
    folder = tempfile.TemporaryDirectory()
    words = part.words.split()
    command = [sys.executable, "-m", *words]
    if options.original and words[0] in ORIGINALS:
        command += ["--original", options.original]
    shown = " ".join(["python", *command[1:]])
    command += ["--rows", f"{folder.name}/rows"] if part.rows else []
    variables = dict(environment(part, options))
    if turns is not None:
        # Threads of linear algebra that spin for one another take the cores from compilation.
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        variables |= {FOLDER: turns, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **threads}
    with Path(folder.name, "text").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=variables)
    return Running(part, shown, process, folder, time.monotonic())


def finish(running: Running, load: float, limit: float | None) -> dict[str, Any]:
    """Wait for a part, for ``limit`` seconds at most, and return what goes into the file."""
    part = running.part
    print(f"\n== {running.shown}", flush=True)
    status, late, usage = wait(running.process, limit)
    with running.folder as folder:
        rows = Path(folder) / "rows"
        printed = (Path(folder) / "text").read_text(encoding="utf-8", errors="replace")
        lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
    print(printed, flush=True)
    result: dict[str, Any] = {
        "command": running.shown,
        "seconds": round(time.monotonic() - running.began, 1),
        "foreign_cores": round(load, 2),
        "page_faults": usage.ru_minflt,
        "process_gib": round(usage.ru_maxrss / 2**20, 2),
    }
    if load > QUIET:
        print(f"other processes keep {load:.1f} cores busy: these times are not to be trusted")
    if late or status < 0 or (status and part.judged):
        last = printed.splitlines()[-3:]
        killed = [f"killed by {signal.Signals(-status).name}"] if status < 0 else []
        result["failed"] = "out of time" if late else [*last, *killed]
    return {**result, "rows": [json.loads(line) for line in lines]} | (
        {} if part.rows else {"text": printed.splitlines()}
    )


Results = Iterator[tuple[str, dict[str, Any]]]


def one_after_the_other(
    parts: Sequence[Part], options: argparse.Namespace, end: float | None
) -> Results:
    """Run the parts, each to its end before the next begins."""
    for part in parts:
        left = None if end is None else end - time.monotonic()
        if left is not None and left < LEAST:
            yield part.name, {"command": part.words, "failed": "not begun"}
        else:
            load = foreign_load()
            yield part.name, finish(start(part, options), load, left)


def together(parts: Sequence[Part], options: argparse.Namespace, end: float | None) -> Results:
    """Compile the parts side by side, then measure each by itself, those first that are ready."""
    now = time.monotonic()
    compiled_by = None if end is None else now + COMPILING * (end - now)
    with tempfile.TemporaryDirectory() as turns:
        waiting = [start(part, options, turns) for part in parts]

        def is_waiting(running: Running) -> bool:
            ended = os.waitid(os.P_PID, running.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return ended is not None or is_ready(Path(turns), running.process.pid)

        try:
            while not all(map(is_waiting, waiting)):
                if compiled_by is not None and time.monotonic() > compiled_by:
                    break
                time.sleep(0.1)
            while waiting:
                ready = next(filter(is_waiting, waiting), None)
                left = None if end is None else end - time.monotonic()
                if ready is None and (left is None or left > 0):
                    time.sleep(0.1)
                    continue
                running = ready or waiting[0]
                load = foreign_load()
                give_turn(Path(turns), running.process.pid)
                result = finish(running, load, left)
                waiting.remove(running)
                yield running.part.name, result
        finally:
            for running in waiting:
                running.process.kill()


def environment(part: Part, options: argparse.Namespace) -> Mapping[str, str]:
    """The environment of a part."""
    # The CSI is computed on the host.
    platforms = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
    # The parts that are the host's work do not take the device's memory.
    own = {"JAX_PLATFORMS": "cpu" if part.name == "loader" else platforms[options.device]}
    if part.name.startswith("parity"):
        own["JAX_DEFAULT_MATMUL_PRECISION"] = part.name.split()[1]
    return {**os.environ, **own}


def wait(process: subprocess.Popen[bytes], limit: float | None) -> tuple[int, bool, Any]:
    """The exit status, whether the part ran out of time, and the use of resources."""
    end = None if limit is None else time.monotonic() + limit
    late = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, late, usage
        if end is not None and time.monotonic() > end:
            process.kill()
            end, late = None, True
        time.sleep(0.05)


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """The machine, as a process of its own sees it, so that none keeps the device."""
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.machine"],
        env=environment(Part("machine", ""), options),
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(made.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "gpu", "tpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="about five minutes")
    parser.add_argument(
        "--minutes", type=float, help="begin no part, and end the last, after these"
    )
    parser.add_argument(
        "--together", action="store_true", help="compile side by side, measure one by one"
    )
    parser.add_argument("--only", nargs="+", help="parts whose names begin so")
    parser.add_argument("--oracle", type=Path, help="folder of reference numbers")
    parser.add_argument("--original", help="see benchmarks/original.py")
    parser.add_argument("--out", type=Path, help="default: docs/results/benchmarks_DEVICE.json")
    options = parser.parse_args(arguments)
    out = options.out or ROOT / "docs" / "results" / f"benchmarks_{options.device}.json"
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    words = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m benchmarks.all", *words])
    document: dict[str, Any] = {"command": command, "machine": describe(options), "parts": {}}
    print(json.dumps(document["machine"], indent=1))
    chosen = [
        part
        for part in parts_of(options)
        if not options.only or part.name.startswith(tuple(options.only))
    ]
    alone = [part for part in chosen if part.host or not options.together]
    beside = [part for part in chosen if part not in alone]
    for name, result in itertools.chain(
        together(beside, options, end), one_after_the_other(alone, options, end)
    ):
        document["parts"][name] = result
        write_result(out, document)
    failed = [name for name, part in document["parts"].items() if "failed" in part]
    print(f"\nwritten to {out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
