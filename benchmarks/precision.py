"""Loss curves of the precision policies side by side, and the force error that each costs.

    python -m benchmarks.precision [--structures 400] [--epochs 4]

Pretrains the quickstart's model on conformers like the quickstart's (``configs/transfer.py``), once
with each policy, from the same weights, over the same batches. On a CPU tensorfloat32 is float32,
digit for digit, and bfloat16 is emulated: right in its numbers, slow in its time.
"""

import argparse
import io
import tempfile
from pathlib import Path
from typing import get_args

from rich.console import Console

from atomjax.models.precision import Precision
from atomjax.runtime.config import build, change, load_config
from atomjax.runtime.run import Run
from atomjax.studies.transfer import upstream_settings
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import RunSettings, TransferSettings
from benchmarks.measure import machine

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "transfer.py"


def settings_of(policy: str, options: argparse.Namespace) -> RunSettings:
    """The config's pretraining, shortened, with one policy."""
    changes = {
        "pretraining.data.train.0.arguments.count": options.structures,
        "pretraining.data.train.0.split": {"validation": options.structures // 8},
        "pretraining.train.epochs": options.epochs,
        "pretraining.train.precision": policy,
        "pretraining.train.log_every": 5,
        "pretraining.train.schedule.warmup_steps": 10,
        "pretraining.train.validation.eval_every": 0,
    }
    return upstream_settings(build(TransferSettings, change(load_config(CONFIG), changes)))


def main() -> None:
    """Prints a table of losses by step, and the validation errors below it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--structures", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    policies = get_args(Precision)
    losses: dict[str, dict[int, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for policy in policies:
        with tempfile.TemporaryDirectory() as folder:
            settings = settings_of(policy, options)
            run = Run(folder, settings, console=Console(file=io.StringIO()))
            results = pretrain(settings, run)
            logged = run.metrics()
            run.close()
        losses[policy] = {int(m["step"]): m["train/loss"] for m in logged if "train/loss" in m}
        [errors[policy]] = results["validation"].values()
    print(machine())
    print("| step | " + " | ".join(policies) + " |")
    steps = sorted(losses[policies[0]])
    for step in steps[:: max(1, len(steps) // 10)]:
        print(f"| {step} | " + " | ".join(f"{losses[p][step]:.4f}" for p in policies) + " |")
    for name in errors[policies[0]]:
        print(f"| {name} | " + " | ".join(f"{errors[p][name]:.5g}" for p in policies) + " |")


if __name__ == "__main__":
    main()
