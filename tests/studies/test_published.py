"""Results of runs in the papers' tables."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from atomjax.runtime.config import load_config
from atomjax.runtime.parts import DONE
from atomjax.studies import published
from atomjax.studies.published import (
    VALUE_MAE,
    RunError,
    fill_tables,
    main,
    measure,
    published_tables,
    read_runs,
)
from atomjax.training.settings import RunSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def make_run(directory: Path, source: str, files: dict[str, Any], **finetune: Any) -> Path:
    """The directory of a finished run, without having made it."""
    plain = load_config(f"{CONFIGS}/finetune/{source}")
    plain["finetune"] |= finetune
    directory.mkdir(parents=True)
    config = json.dumps(RunSettings.from_config(plain).to_dict())
    (directory / "config.json").write_text(config)
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    return directory


def results(dataset: str, metric: str, value: float, seed: int = 0) -> dict[str, Any]:
    return {"results.json": {"seed": seed, "test": {dataset: {metric: value}}}}


def test_published_numbers_are_those_of_the_papers():
    tables = published_tables()
    assert [name for name in tables if name.startswith("csi")] == [
        f"csi_table{n}" for n in range(1, 6)
    ]
    gap = [task["key"] for task in tables["jmp_table2"].tasks].index("qm9/gap")
    assert tables["jmp_table2"].models["JMP-L"][gap] == 19.1
    assert tables["jmp_table3"].models["JMP-S"][0] == 6.7
    assert tables["csi_table1"].models["C = 2 M × 5, ANI-1x, GemNet-OC-S"] == [5.4, 2.9, 5.13, 2.9]
    for table in tables.values():
        assert all(len(values) == len(table.tasks) for values in table.models.values())


def test_every_task_of_the_configs_has_its_place():
    keys = {task["key"] for table in published_tables().values() for task in table.tasks}
    counts = {"qm9/": 12, "rmd17/": 10, "rmd17_50/": 10, "md22/": 7, "spice/": 2, "qmof/": 1}
    assert {start: sum(key.startswith(start) for key in keys) for start in counts} == counts
    assert sum(key.startswith("matbench/") for key in keys) == 16


def test_cells_carry_their_seeds_and_the_unit_of_the_table(tmp_path):
    runs = [
        make_run(tmp_path / f"gap{s}", "qm9.py:gap", results("qm9", "value_mae", 0.02 + s / 500, s))
        for s in (0, 1)
    ]
    scratch = make_run(
        tmp_path / "scratch",
        "qm9.py:gap",
        results("qm9", "value_mae", 0.0385),
        checkpoint=None,
    )
    (table,) = fill_tables(read_runs([*runs, scratch]), ["jmp_table2"])
    row = next(line for line in table.splitlines() if line.startswith("| Δε"))
    assert row.endswith("| 23.1 | 19.1 | 21 ± 1.4 (seeds 0, 1) | 38.5 (seed 0) |")
    assert "| **gemnet_oc_small from jmp_small** | **gemnet_oc_small from scratch** |" in table
    with pytest.raises(RunError, match="has seed 0 twice"):
        measure(read_runs([runs[0], runs[0]]))


def test_seeds_are_compared_on_the_folds_that_all_have():
    def run(seed: int, fold: int, error: float):
        data = {"name": "phonons", "arguments": {"fold": fold}}
        config = {"model": {"name": "m"}, "finetune": {"checkpoint": None}}
        config["data"] = {"train": [data]}
        results = {"seed": seed, "test": {"phonons": {VALUE_MAE: error}}}
        return config, results, f"{seed}/{fold}"

    runs = [run(0, fold, 10.0 if fold < 3 else 40.0) for fold in range(5)]
    runs += [run(1, fold, 12.0) for fold in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "task_key", lambda config: "matbench/phonons")
        (found,) = measure(runs).values()
    assert found["matbench/phonons/mean"] == ([0, 1], [10.0, 12.0], 2)


def test_folds_and_few_shots(tmp_path):
    for f, seed in itertools.product(range(5), (0, 1)):
        make_run(
            tmp_path / "phonons" / f"fold_{f}" / f"seed_{seed}",
            f"matbench.py:phonons,fold{f}",
            {**results("phonons", "value_mae", 20.0 + f + 10 * seed, seed), DONE: {}},
        )
    few = make_run(
        tmp_path / "few",
        "rmd17.py:aspirin,few",
        results("aspirin", "force_mae_mev_per_angstrom", 40.0),
    )
    (measured,) = measure(read_runs([tmp_path / "phonons", few])).values()
    assert measured["matbench/phonons/fold0"] == ([0, 1], [20.0, 30.0], 1)
    assert measured["matbench/phonons/mean"] == ([0, 1], [22.0, 32.0], 5)
    assert set(measured) == {
        "matbench/phonons/fold0",
        "matbench/phonons/mean",
        "rmd17_50/aspirin",
    }


def test_pretrainings_are_rows_of_the_second_paper(tmp_path, capsys):
    budget = load_config(f"{CONFIGS}/pretrain/budget.py:ani1x")
    pretrained = tmp_path / "ani1x"
    pretrained.mkdir()
    config = RunSettings.from_config(budget).to_dict()
    (pretrained / "config.json").write_text(json.dumps(config))
    run = make_run(
        tmp_path / "aspirin",
        "rmd17.py:aspirin",
        results("aspirin", "force_mae_mev_per_angstrom", 5.5, seed=3),
        checkpoint=str(pretrained),
    )
    assert main([str(run), "--table", "csi_table1"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == (
        "| **gemnet_oc_small from ani1x: ani1x, 2,000,000 × 5** | 5.5 (seed 3) | – | – | – |"
    )
    assert main([str(run), "--out", str(tmp_path / "all.md")]) == 0
    text = (tmp_path / "all.md").read_text()
    assert text.count("5.5 (seed 3)") == 5  # JMP's table 3, and tables 1, 2, 3 and 5


def test_what_is_no_finished_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    run = make_run(tmp_path / "gap", "qm9.py:gap", {})
    with pytest.raises(RunError, match="holds no finished run"):
        read_runs([run])
