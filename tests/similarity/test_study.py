"""The study: what its report says either way, and the whole of it on a few small structures."""

import json

import pytest

from atomjax.runtime.run import Run
from atomjax.similarity.settings import SimilaritySettings
from atomjax.studies.report import Outcome, ReportError
from atomjax.studies.study import comparison_settings, transfer_settings
from atomjax.studies.study_report import SCRATCH, StudyOutcome, summarize_study, write_study
from tests.similarity.test_job import dataset, launch, make_config
from tests.training.workflow import write_structures

METRIC = "force_mae_mev_per_angstrom"


def trained(seed: int, error: float) -> Outcome:
    history = [{"step": s, f"validation/task/{METRIC}": error * (3 - s)} for s in (1, 2)]
    return Outcome(seed=seed, seconds=10, test={METRIC: error}, history=history)


def outcome(near: list[float], far: list[float], scratch: list[float], **changes) -> StudyOutcome:
    given = {"near": near, "far": far, SCRATCH: scratch}
    fields = {
        "task": "task",
        "labels": 8,
        "closest": "near",
        "farthest": "far",
        "csi": {"near": 1.5, "other": 2.0, "far": 9.0},
        "confidence": 0.99,
        "outside": False,
        "budget": 40,
        "seconds_comparing": 5.0,
        "pretrained": {name: Outcome(seed=0, seconds=20) for name in ("near", "far")},
        "outcomes": {
            name: [trained(seed, error) for seed, error in enumerate(errors)]
            for name, errors in given.items()
        },
    }
    return StudyOutcome(**{**fields, **changes})


@pytest.mark.parametrize(
    ("near", "far", "words"),
    [([60.0, 70.0], [80.0, 90.0], "The prediction held"), ([80.0, 85.0], [70.0, 90.0], "NOT hold")],
)
def test_report_says_whether_the_prediction_held(tmp_path, near, far, words):
    run = Run(tmp_path)
    summary = write_study(outcome(near, far, [100.0, 100.0]), run)
    assert summary["held"] == (sum(near) < sum(far))
    assert summary["seeds_that_held"] == sum(n < f for n, f in zip(near, far, strict=True))
    assert summary["better_than_scratch"]
    assert summary["seconds"] == 5 + 2 * 20 + 6 * 10
    assert json.loads((tmp_path / "study.json").read_text()) == summary
    report = (tmp_path / "report.md").read_text()
    assert words in report
    assert "near 1.5, other 2, far 9" in report
    assert "2 seed(s): a difference of a few per cent may be chance" in report
    assert (tmp_path / "plots" / "curves.png").stat().st_size > 0


def test_equal_errors_do_not_count_as_held():
    assert not summarize_study(outcome([70.0], [70.0], [60.0]))["held"]


def test_task_outside_the_candidates_is_noted(tmp_path):
    write_study(outcome([1.0], [2.0], [3.0], outside=True), Run(tmp_path))
    assert "task lies outside all candidates" in (tmp_path / "report.md").read_text()


def test_nothing_measured_is_an_error():
    runs = [Outcome(seed=0, seconds=1)]
    empty = outcome([1.0], [1.0], [1.0], outcomes={"near": runs, "far": runs, SCRATCH: runs})
    with pytest.raises(ReportError, match="test split with labels"):
        summarize_study(empty)


def study_config(folder) -> dict:
    config = make_config(folder, workflow="study", aggregations=["flat"], invariants=["none"])
    del config["downstream"]
    # Something without labels cannot be pretrained on.
    config["candidates"][0] = dataset("far", write_structures(folder / "far.extxyz", 20, seed=5))
    config["finetune"] = {
        "seeds": [1],
        "data": {
            "train": [
                dataset(
                    "task",
                    folder / "task.extxyz",
                    split={"train": 8, "validation": 4, "test": 6},
                )
            ]
        },
        "train": {"batch_size": 4, "epochs": 2, "scale_factor_batches": 2},
    }
    config["sampling"]["size"] = 8
    return config


def test_stages_have_one_budget_and_the_same_task(tmp_path):
    settings = SimilaritySettings.from_config(study_config(tmp_path))
    assert [d.name for d in comparison_settings(settings).downstream] == ["task"]
    plans = [transfer_settings(settings, name, available=10) for name in ("near", "far")]
    assert [p.data.train[0].name for p in plans] == ["near", "far"]
    assert plans[0].train == plans[1].train
    # 40 samples for three epochs would need 13 structures; ten allow four.
    train = plans[0].train
    assert (train.epochs, train.max_structures, train.budget) == (4, 10, 40)
    assert plans[0].finetune == plans[1].finetune


@pytest.mark.slow
def test_study_runs_every_stage_and_resumes(tmp_path, capfd):
    config = study_config(tmp_path)
    assert launch(tmp_path, config) == 0
    shown = capfd.readouterr().out
    summary = json.loads((tmp_path / "run" / "study.json").read_text())
    for stage in ("csi", "pretrain/near", "pretrain/far", "finetuned/near/seed_1"):
        assert f"== {stage}" in shown
    assert {summary["recommended"], summary["farthest"]} == {"near", "far"}
    assert set(summary["errors"]) == {"near", "far", "scratch"}
    assert launch(tmp_path, config) == 0
    assert capfd.readouterr().out.count("done before") == 6
    assert json.loads((tmp_path / "run" / "study.json").read_text()) == summary
