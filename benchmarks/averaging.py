"""Effect of averaging the weights of short runs: validation errors with and without.

    python -m benchmarks.averaging --cache DIR [--out docs/results/averaging.json]

A small GemNet-OC with conservative forces is trained on 50 frames of a dynamics of aspirin (made
here, GFN2-xTB) for 100, 500 and 2,000 steps, each with a whole schedule. The same weights are
validated as they are, averaged from the initial weights on, as the originals do (decay 0.99), and
averaged with a warm-up, as is the default. Averages do not act on the training, so the three
belong to one run.
"""

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.data.settings import DataSettings
from atomjax.models import build_model, fit_scale_factors, init_variables, predict
from atomjax.runtime.config import build
from atomjax.runtime.run import Run
from atomjax.training.basis import with_basis
from atomjax.training.from_settings import head_config, load_splits, make_tasks, model_config
from atomjax.training.running.evaluate import Evaluator, make_evaluation_step
from atomjax.training.settings import (
    BatchingSettings,
    HeadSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScheduleSettings,
    TrainSettings,
)
from atomjax.training.update.optimizer import average_decay, make_optimizer, update_average
from atomjax.training.update.state import create_state, data_mesh, place, place_batch
from atomjax.training.update.step import make_train_step
from benchmarks.measure import machine, used
from benchmarks.rows import write_result

BATCH_SIZE, FRAMES, DECAY = 5, 50, 0.99
# Steps of a run → steps at which it is validated.
RUNS = {100: (20, 50, 100), 500: (20, 100, 500), 2000: (20, 100, 500, 1000, 2000)}
MODEL = {"num_blocks": 1, "quad_interaction": False}
DATA = {
    "train": [
        {
            "name": "aspirin",
            "kind": "generate",
            "generator": "dynamics",
            "arguments": {"count": 250, "molecule": "aspirin", "seed": 0},
            "split": {"train": FRAMES, "validation": 50, "test": 150},
            "graph": {"cutoff": 4.0, "cutoff_molecule": 4.0},
        }
    ]
}
FORCES = "aspirin/force_mae_mev_per_angstrom"


def settings_of(steps: int, cache: Path) -> RunSettings:
    """The settings of a training of so many steps."""
    return RunSettings(
        workflow="pretrain",
        model=ModelSettings(name="gemnet_oc_tiny", overrides=MODEL),
        data=build(DataSettings, {**DATA, "cache_dir": str(cache)}),
        train=TrainSettings(
            batching=BatchingSettings(batch_size=BATCH_SIZE),
            epochs=steps * BATCH_SIZE // FRAMES,
            optimizer=OptimizerSettings(learning_rate=2e-3),
            schedule=ScheduleSettings(warmup_steps=10),
        ),
        head=HeadSettings(forces="conservative"),
        seed=0,
    )


def validations(steps: int, cache: Path) -> Iterator[dict[str, Any]]:
    """Trains for so many steps; yields the errors at each of the steps to validate at."""
    settings = settings_of(steps, cache)
    splits = load_splits(settings, Run(cache / "run", console=Console(quiet=True)), None, None)
    mesh, tasks = data_mesh(), make_tasks(settings, splits.train)
    make_loader = functools.partial(BatchLoader, batch_size=BATCH_SIZE, num_devices=mesh.size)
    loader = make_loader(splits.train, epochs=settings.train.epochs)
    model = build_model(
        with_basis(model_config(settings), splits.train), [head_config(settings.head, "aspirin")]
    )
    example = loader.example_batch()
    variables = init_variables(model, jax.random.key(1), example)
    variables = fit_scale_factors(model, variables, [example])
    optimizer = make_optimizer(settings.train, variables["params"], loader.num_steps, ())
    apply = functools.partial(predict, model)
    step = make_train_step(apply, tasks, optimizer, mesh, ema_decay=DECAY, ema_warmup=False)
    evaluator = make_evaluator(make_loader, splits.validation, apply, tasks, mesh)
    state = place(create_state(variables, optimizer, settings.seed), mesh)
    short = place(variables["params"], mesh)

    @jax.jit
    def follow(average: Any, params: Any, updates: jax.Array) -> Any:
        return update_average(average, params, average_decay(DECAY, updates, warmup=True))

    for index, batch in loader.batches():
        state, _ = step(state, place_batch(batch, mesh))
        short = follow(short, state.params, state.step)
        if index + 1 in RUNS[steps]:
            kinds = {"none": state.params, "original": state.ema_params, "default": short}
            yield {
                "run": steps,
                "step": index + 1,
                **{
                    name: evaluator.metrics(
                        {"params": params, "scale_factors": state.scale_factors}
                    )[FORCES]
                    for name, params in kinds.items()
                },
            }


def make_evaluator(
    make_loader: Any, datasets: list[GraphDataset], apply: Any, tasks: Any, mesh: Any
) -> Evaluator:
    """Of the validation frames."""
    loader = make_loader(datasets, epochs=1, shuffle=False)
    return Evaluator(
        make_evaluation_step(apply, tasks, mesh),
        tasks,
        mesh,
        lambda: (batch for _, batch in loader.batches()),
        num_structures=len(datasets[0]),
    )


def main() -> None:
    """Measures, prints a table, and writes the figures where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.averaging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of the frames")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    print("| steps of the run | at step | weights as they are | from the start | with warm-up |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    rows = []
    for steps in RUNS:
        for row in validations(steps, options.cache):
            rows.append(row)
            errors = (row[name] for name in ("none", "original", "default"))
            cells = (f"{steps:,}", f"{row['step']:,}", *(f"{error:.0f}" for error in errors))
            print(f"| {' | '.join(cells)} |", flush=True)
    results = {
        "command": "python -m benchmarks.averaging",
        "machine": machine(),
        "cpu_seconds": round(used()[1]),
        "unit": "meV/Å, MAE of the forces of 50 validation frames",
        "decay": DECAY,
        "rows": rows,
    }
    if options.out:
        write_result(options.out, results)


if __name__ == "__main__":
    main()
