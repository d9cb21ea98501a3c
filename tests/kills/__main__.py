"""Kills running workflows at random moments, and compares what they make with unbroken runs.

python -m tests.kills --kills 50 --seed 0

prints what happened and writes it as JSON; the exit status is 1 where a command that went on ended
in an error or with another result, or where anything was left behind. Linux only.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.documents import outcome_table
from tests.kills.campaign import Campaign
from tests.kills.workflows import WORKFLOWS


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--kills", type=int, default=50)
    add("--seed", type=int, default=0)
    add("--jobs", type=int, default=1, help="workflows at once")
    add("--workflow", action="append", default=[], choices=list(WORKFLOWS), metavar="NAME")
    add("--out", type=Path, default=Path("kills.json"))
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/compiled")
        names = tuple(given.workflow) or tuple(WORKFLOWS)
        campaign = Campaign(Path(folder), given.seed, names)
        campaign.run(given.kills, given.jobs)
    content = {
        "command": " ".join(
            ["python -m tests.kills", *(sys.argv[1:] if arguments is None else arguments)]
        ),
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}",
        "shared_memory_counted": campaign.memory_counted,
        "workflows": campaign.counts,
    }
    given.out.write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join([*outcome_table(campaign.counts), "", *campaign.faults]))
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
