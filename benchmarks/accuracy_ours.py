"""Trains one of our networks on the files of ``benchmarks.accuracy``, in a process of its own.

Settings are those of ``configs/finetune/own.py``, whose number of steps is replaced by as many as
fit the budget; a short training tells how long a step and a validation take. Compilation is not
counted. Pretraining is on a generated set that is like the task, with a budget of its own.
"""

import argparse
import contextlib
import io
import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from atomjax import __version__
from atomjax.data.facts import facts_of
from atomjax.inference.calculator import AtomjaxCalculator
from atomjax.recipes.own_data import own_config
from atomjax.recipes.small_data import CUTOFFS, choose_settings
from atomjax.runtime.config import change
from atomjax.runtime.progress import Display
from atomjax.runtime.run import Run
from atomjax.structures.generate import GenerateSpec, generate_with_report
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import read_metadata
from benchmarks.accuracy_peers import measure, read_frames
from benchmarks.rows import write_result

LOG_EVERY = 10
PILOT_STEPS = 40  # between the validations of a pilot
PILOT_VALIDATIONS = 4
VALIDATIONS = 20
# Task → generator of the pretraining set, and its arguments.
UPSTREAM: dict[str, tuple[str, dict[str, Any]]] = {
    "aspirin": ("conformers", {"count": 6200, "heavy_atoms": (2, 7)}),
    "s66x8": ("dimers", {"count": 4200}),
    "copper": ("slabs", {"count": 4200, "size": (2, 2, 3), "fixed_layers": 1}),
    "li_mn_o": ("oxides", {"count": 2200, "relaxation_steps": 2}),
}
# Task → weights that come with atomjax.
PACKAGED = {
    "aspirin": "atomjax-molecules",
    "s66x8": "atomjax-molecules",
    "copper": "atomjax-crystals",
    "li_mn_o": "atomjax-crystals",
}
PRETRAINING = {
    "train.batching.batch_size": 16,
    "train.schedule.warmup_steps": 100,
    "train.validation.eval_batch_size": 50,
}
HELD_OUT = 200  # structures that a pretraining is validated on


class Enough(Exception):
    """A pilot has seen what it needs."""


class TimedRun(Run):
    """A run without output that records the CPU time between logged steps and validations.

    Attributes:
        spent: CPU seconds from one event to the next: of "training", ``LOG_EVERY`` steps; of
            "validation"; and of "after", the steps after a validation and the save with it.
    """

    def __init__(self, workdir: Path, config: Mapping[str, Any] | None = None, pilot: bool = False):
        super().__init__(workdir, config, console=Console(file=io.StringIO()))
        self.spent: dict[str, list[float]] = {"training": [], "validation": [], "after": []}
        self._kind = "training"
        self._last = time.process_time()
        self._pilot = pilot

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Notes the time, then logs.

        Raises:
            Enough: this is a pilot, and a second validation is done.
        """
        super().log(step, metrics)
        before, self._kind = self._kind, "training" if "train/loss" in metrics else "validation"
        kind = "after" if before == "validation" else self._kind
        now = time.process_time()
        self.spent[kind].append(now - self._last)
        self._last = now
        if self._pilot and len(self.spent["validation"]) == PILOT_VALIDATIONS:
            raise Enough

    def typical(self, kind: str) -> float:
        """The median of a kind without the first, which also compiles."""
        return float(np.median(self.spent[kind][1:]))

    def seconds(self, pilot: "TimedRun") -> float:
        """CPU seconds of all steps and validations, the first of each taken for typical ones.

        Args:
            pilot: tells what is typical where there is only a first.
        """
        return sum(
            sum(times[1:]) + (self if len(times) > 1 else pilot).typical(kind)
            for kind, times in self.spent.items()
            if times
        )

    def validation_seconds(self) -> float:
        """CPU seconds that a validation takes, with the save of a checkpoint."""
        saving = self.typical("after") - self.typical("training")
        return self.typical("validation") + max(0.0, saving)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy_ours", description=__doc__)
    parser.add_argument("network", choices=("gemnet_oc", "equiformer_v2"))
    parser.add_argument("start", choices=("scratch", "pretrained", "packaged"))
    parser.add_argument("--sets", type=Path, required=True, help="folder with train.xyz and so on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--budget", type=float, required=True, help="CPU seconds of training")
    parser.add_argument("--pretraining", type=float, help="CPU seconds of pretraining")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    jax.config.update("jax_compilation_cache_dir", str(options.workdir.resolve() / "compiled"))
    result: dict[str, Any] = {"version": f"atomjax {__version__}"}
    words = [*(str(options.sets / f"{p}.xyz") for p in ("train", "validation", "test"))]
    words.append(f"network={options.network}")
    if options.start != "scratch":
        made = pretrained if options.start == "pretrained" else packaged
        place, result["pretraining"] = made(options)
        words = [*words[:3], f"checkpoint={place}"]
    config = change(own_config(",".join(words)), {"seed": options.seed})
    name = f"{options.network}_{options.start}_{options.sets.name}_{options.seed}"
    # A finetuning has the length that the rule gives it, if the budget allows.
    longest = config["train"]["epochs"] if options.start != "scratch" else None
    workdir = options.workdir / name
    structures = len(read_frames(options.sets / "train.xyz"))
    result |= train(finetune, config, workdir, structures, options.budget, longest)
    calculator = AtomjaxCalculator(workdir)
    result |= measure(calculator, read_frames(options.sets / "test.xyz"))
    write_result(options.out, result)


def train(
    function: Any,
    config: dict[str, Any],
    workdir: Path,
    structures: int,
    budget: float,
    longest: int | None = None,
) -> dict[str, Any]:
    """Trains for a budget, after a short training to estimate the number of epochs.

    Args:
        function: the workflow.
        config: config of the training.
        workdir: directory of the run.
        structures: number of training structures.
        budget: CPU seconds of steps and validations.
        longest: epochs; None trains as many as the budget allows.
    """
    logged = {"train.log_every": LOG_EVERY}
    piloted = workdir.with_name(f"{workdir.name}_pilot")
    # Seconds of a run that was killed are not known.
    for folder in (piloted, workdir):
        shutil.rmtree(folder, ignore_errors=True)
    pilot = TimedRun(piloted, pilot=True)
    with contextlib.suppress(Enough):
        function(change(config, {**logged, "train.validation.eval_every": PILOT_STEPS}), pilot)
    step = pilot.typical("training") / LOG_EVERY
    an_epoch = math.ceil(structures / config["train"]["batching"]["batch_size"])
    left = budget - VALIDATIONS * pilot.validation_seconds()
    epochs = max(1, round(left / step / an_epoch))
    epochs = epochs if longest is None else min(epochs, longest)
    every = LOG_EVERY * max(1, epochs * an_epoch // VALIDATIONS // LOG_EVERY)
    length = {"train.epochs": epochs, "train.validation.eval_every": every}
    config = change(config, {**logged, **length})
    run = TimedRun(workdir, config)
    results = function(config, run)
    seconds = run.seconds(pilot)
    return {
        "parameters": results["parameters"],
        "steps": results["steps"],
        "cpu_seconds": seconds,
        "steps_per_second": results["steps"] / seconds,
    }


def packaged(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The name of the weights that come with atomjax, and what their pretraining took."""
    name = PACKAGED[options.sets.name]
    return name, {"set": name, "wall_seconds": read_metadata(name)["seconds"]}


def pretrained(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The run directory of a pretraining, made where it is missing, and its cost."""
    generator, arguments = UPSTREAM[options.sets.name]
    name = f"pretrained_{options.network}_{generator}_{options.pretraining:g}"
    place, note = options.workdir / name, options.workdir / f"{name}.json"
    if note.exists():
        return place, json.loads(note.read_text())
    cache = options.workdir / "data"
    spec = GenerateSpec.from_mapping({"kind": generator, "seed": 0, **arguments})
    frames, _ = generate_with_report(spec, cache, 1, Display(None))
    choice = choose_settings(facts_of(frames, CUTOFFS), options.network)
    dataset = {
        "name": generator,
        "kind": "generate",
        "generator": generator,
        "arguments": {"seed": 0, **arguments},
        "split": {"validation": HELD_OUT},
        "graph": choice.graph,
    }
    config = {
        "workflow": "pretrain",
        "seed": 0,
        "model": choice.model,
        "head": choice.head,
        "data": {"train": [dataset], "cache_dir": str(cache), "workers": 1},
        "train": choice.train,
    }
    structures = len(frames) - HELD_OUT
    config = change(config, PRETRAINING)
    result = train(pretrain, config, place, structures, options.pretraining)
    result |= {"structures": structures, "set": generator}
    write_result(note, result)
    return place, result


if __name__ == "__main__":
    main()
