"""Accuracy at few labels, ours and theirs: the same files, the same labels, the same CPU seconds.

    taskset -c 0 python -m benchmarks.accuracy --peer-python VENV/bin/python

Every row is a training in a process of its own, pinned by the caller to one core, and goes into
the file of results when it is done; the same command makes what is missing. ``--table`` prints the
table of a file. CPU seconds are those of training and validation, without compilation (ours), the
final tables of errors (theirs) and the labelling of generated data. What a pretraining took is in
a column of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy_sets import SETS, write_set
from benchmarks.machine import processor
from benchmarks.rows import write_result

OURS = ("gemnet_oc", "equiformer_v2")
STARTS = ("scratch", "pretrained")
PEERS = ("mace", "nequip")
# "packaged": from the weights that come with atomjax.
ROWS = (
    *PEERS,
    *(f"{network}/{start}" for network in OURS for start in STARTS),
    "gemnet_oc/packaged",
)
# For the peers, what ``atomjax.runtime.allocator`` does for us: without it up to a quarter of
# their time goes to page faults.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
OUT = Path("docs/results/accuracy.json")
HEADINGS = ("set", "row", "pretraining s", "s", "steps/s", "F meV/Å", "E meV/atom", "frame ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sets", nargs="+", choices=SETS, default=list(SETS))
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    add("--seeds", nargs="+", type=int, default=[0])
    add("--budget", type=float, default=480.0, help="CPU seconds of each training")
    add("--pretraining", type=float, default=1200.0, help="CPU seconds of each pretraining")
    add("--workdir", type=Path, default=Path("runs/accuracy"))
    add("--out", type=Path, default=OUT)
    help_peers = "interpreters that can import the peers, if this one cannot"
    add("--peer-python", nargs="+", default=[sys.executable], help=help_peers)
    add("--table", action="store_true", help="print the existing results and stop")
    options = parser.parse_args()
    if not options.table:
        run_missing(options)
    print(table(load(options.out)))


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of results; none where there is no file."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def run_missing(options: argparse.Namespace) -> None:
    """Runs the rows that the file of results does not have, and adds each when it is done."""
    for key in wanted(options):
        rows = load(options.out)
        if any(all(row[name] == value for name, value in key.items()) for row in rows):
            continue
        command, environment = command_of(key, options)
        if command is None:
            print(f"{key['row']}: cannot be imported here; see --peer-python", flush=True)
            continue
        print(f"{key['set']}: {key['row']}, seed {key['seed']}", flush=True)
        result = options.workdir / "row.json"
        result.unlink(missing_ok=True)
        subprocess.run([*command, "--out", str(result)], check=True, env=environment)
        machine = f"1 core of {processor()}, Python {platform.python_version()}"
        rows.append({**key, **json.loads(result.read_text()), "machine": machine})
        document = {
            "command": f"python -m benchmarks.accuracy --budget {options.budget:g} "
            f"--pretraining {options.pretraining:g}",
            "machine": machine,
            "rows": rows,
        }
        write_result(options.out, document)


def wanted(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Keys that identify the rows to compute."""
    for seed in options.seeds:
        for name in options.sets:
            for row in options.rows:
                key = {"set": name, "row": row, "seed": seed, "budget": options.budget}
                pretraining = options.pretraining if row.endswith("/pretrained") else None
                yield {**key, "pretraining_budget": pretraining}


def command_of(
    key: Mapping[str, Any], options: argparse.Namespace
) -> tuple[list[str] | None, dict[str, str]]:
    """The command of a row, None where its program is not installed, and its environment."""
    sets = write_set(key["set"], options.workdir)
    common = ["--sets", str(sets), "--budget", str(key["budget"]), "--seed", str(key["seed"])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if key["row"] in PEERS:
        environment = {**ALLOCATOR, **environment}
        python = next((p for p in options.peer_python if imports(p, key["row"])), None)
        if python is None:
            return None, environment
        script = str(Path(__file__).with_name("accuracy_peers.py"))
        # -P: torch would otherwise import this folder's profile.py for Python's own.
        return [python, "-P", script, key["row"], *common], environment
    command = [sys.executable, "-m", "benchmarks.accuracy_ours", *key["row"].split("/"), *common]
    if key["pretraining_budget"]:
        command += ["--pretraining", str(key["pretraining_budget"])]
    return [*command, "--workdir", str(options.workdir)], environment


def imports(python: str, module: str) -> bool:
    """Check whether an interpreter can import a module."""
    return not subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table in Markdown, by set and then by force error."""
    lines = [" | ".join(HEADINGS), " | ".join(["---", "---", *["---:"] * (len(HEADINGS) - 2)])]
    for row in sorted(rows, key=lambda row: (list(SETS).index(row["set"]), row["force_mae_mev"])):
        pretraining = row.get("pretraining")
        upstream = f" on {pretraining['set']}" if pretraining else ""
        cells = (
            row["set"],
            f"{row['row']}{upstream} ({row['version']})",
            _seconds(pretraining) if pretraining else "",
            f"{row['cpu_seconds']:.0f}",
            f"{row['steps_per_second']:.1f}",
            f"{row['force_mae_mev']:.1f}",
            f"{row['energy_mae_mev_per_atom']:.1f}",
            f"{1e3 * row['calculator_seconds']:.1f}",
        )
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _seconds(pretraining: Mapping[str, Any]) -> str:
    """What a pretraining took, in CPU seconds, or on the clock where these are not known."""
    known = pretraining.get("cpu_seconds")
    return f"{pretraining['wall_seconds']:.0f} (wall)" if known is None else f"{known:.0f}"


if __name__ == "__main__":
    main()
