"""Tries damaged and hostile files on everything that reads one.

python -m tests.reliability --minutes 10 --seed 0

prints how the trials ended and writes it as JSON; the exit status is 1 where one ended as none may:
with a traceback, out of memory, hung, or crashed, and in a format of this project's own also with
another content than was written. Linux only.
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
from tests.reliability.campaign import Campaign
from tests.reliability.inputs import INPUTS

SHOWN = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0)
    add("--seed", type=int, default=0)
    add("--input", action="append", default=[], choices=list(INPUTS), metavar="NAME")
    add("--trial", type=int, help="make this one alone again and say how it ended")
    add("--out", type=Path, default=Path("reliability.json"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        campaign = Campaign(Path(folder), given.seed, given.input)
        if given.trial is not None:
            print(campaign.trial(given.trial))
            return 0
        campaign.run(seconds=60 * given.minutes)
    forbidden = [trial for trial in campaign.trials if trial.forbidden]
    content = {
        "command": f"python -m tests.reliability --minutes {given.minutes:g} --seed {given.seed}",
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}",
        "trials": len(campaign.trials),
        "inputs": campaign.counts(),
        "mutations": campaign.by_mutation(),
    }
    given.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print("\n".join([*outcome_table(content["inputs"]), "", *outcome_table(content["mutations"])]))
    for trial in forbidden[:SHOWN]:
        print(f"{trial.number}: {trial.name}, {trial.file}, {trial.mutation}: {trial.outcome}:")
        print(f"    {trial.message[:300]}")
    print(f"{len(campaign.trials)} trials, {len(forbidden)} of them ended as none may")
    return 1 if forbidden else 0


if __name__ == "__main__":
    sys.exit(main())
