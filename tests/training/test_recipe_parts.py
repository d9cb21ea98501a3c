"""The parts of the papers' recipes together, in one training of two data sets."""

import json

from rich.console import Console

from atomjax.runtime.run import Run
from atomjax.training.pretrain import pretrain
from tests.training.workflow import make_config, write_structures


def test_balanced_pretraining_with_plateau_and_frozen_embedding(tmp_path):
    config = make_config(
        write_structures(tmp_path / "chains.xyz"),
        epochs=4,
        max_structures=20,
        budget=80,
        warmup_epochs=1,
        decay_epochs=2,
        plateau={"patience": 0, "factor": 0.5, "threshold": 0.9999},
        freeze=["embedding"],
        clip_norm=None,
        clip_value=1.0,
        force_loss="huber",
    )
    first = config["data"]["train"][0]
    few = write_structures(tmp_path / "few.xyz", count=24, seed=1)
    second = {**first, "name": "few", "path": str(few)}
    config["data"] |= {"train": [first, second], "mixture": {"kind": "balanced"}, "max_test": 3}
    run = Run(tmp_path / "run", config, console=Console(quiet=True))
    results = pretrain(config, run)
    # 10 of 24 and all 8 of the second set, two of them twice an epoch.
    assert (results["budget"], results["structures"], results["steps"]) == (80, 18, 16)
    assert set(results["test"]) == {"chains", "few"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    assert rates[1] < rates[4] < rates[5] > rates[8] > rates[16]
    assert rates[16] in (rates[9], rates[9] / 2)
