"""The study: what its report says either way, and the whole of it on a few small structures."""

import json

import numpy as np
import pytest
from rich.console import Console

from atomjax.runtime.run import Run
from atomjax.similarity.settings import SimilaritySettings
from atomjax.studies import ReportError
from atomjax.studies.results import Results, Row, against, spread
from atomjax.studies.study import STUDY, study_points
from atomjax.studies.transfer import SCRATCH
from tests.similarity.test_job import crowded, dataset, launch, make_config
from tests.studies.trainings import FORCE, replace_comparison, replace_trainings, start
from tests.training.sections import train_section
from tests.training.workflow import write_structures

CSI = {
    ("near", "task"): {"csi": 1.5},
    ("other", "task"): {"csi": 2.0},
    ("far", "task"): {"csi": 9.0},
}


def test_a_reference_without_error_has_no_ratio():
    errors = {("scratch", 0): 0.0, ("scratch", 1): 0.2, ("tuned", 0): 0.1, ("tuned", 1): 0.1}
    rows = [Row(point, seed, "task", FORCE, value) for (point, seed), value in errors.items()]
    results = Results(rows, "study", [])
    assert results.gains("tuned", "scratch", FORCE) == [0.5]
    assert np.isnan(spread([])["mean"])
    assert [against(*pair) for pair in ((0.1, 0), (0, 0), (1, 2))] == [
        "above",
        "equal to",
        "50% below",
    ]


def study_config(folder) -> dict:
    config = make_config(folder, workflow="study", aggregations=["flat"], invariants=["none"])
    del config["downstream"]
    # Something without labels cannot be pretrained on.
    config["candidates"][0] = dataset("far", write_structures(folder / "far.extxyz", 20, seed=5))
    config["finetuning"] = {
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
        "train": train_section(batch_size=4, epochs=2, scale_factor_batches=2),
    }
    config["sampling"]["size"] = 8
    return config


def report(folder, monkeypatch, near, far, scratch, **recommendation) -> dict:
    """The summary of a study whose finetunings had these errors, in the folder ``run``."""
    given = {"near": near, "far": far, None: scratch}

    def errors(settings):
        measured = settings.finetune is not None and given[start(settings)]
        return {FORCE: measured[settings.seed]} if measured else {}

    replace_trainings(monkeypatch, errors)
    replace_comparison(monkeypatch, CSI, **recommendation)
    config = study_config(folder)
    other = dataset("other", crowded(folder / "other.extxyz"))
    config["candidates"].append(other)
    config["finetuning"]["seeds"] = list(range(len(scratch)))
    return STUDY(config, Run(folder / "run", config, console=Console(quiet=True)))


@pytest.mark.parametrize(
    ("near", "far", "words"),
    [([60.0, 70.0], [80.0, 90.0], "The prediction held"), ([80.0, 85.0], [70.0, 90.0], "NOT hold")],
)
def test_report_says_whether_the_prediction_held(tmp_path, monkeypatch, near, far, words):
    summary = report(tmp_path, monkeypatch, near, far, [100.0, 100.0])
    assert summary["held"] == (sum(near) < sum(far))
    assert summary["seeds_that_held"] == sum(n < f for n, f in zip(near, far, strict=True))
    assert summary["better_than_scratch"]
    assert summary["mean"] == {"near": sum(near) / 2, "far": sum(far) / 2, SCRATCH: 100.0}
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == summary
    text = (tmp_path / "run" / "report.md").read_text()
    assert words in text
    assert "near 1.5, other 2, far 9" in text
    assert "| comparing | 0:00 |" in text
    assert "2 seed(s): a difference of a few per cent may be chance" in text
    assert "(plots/training.png)" in text


def test_equal_errors_do_not_count_as_held(tmp_path, monkeypatch):
    assert not report(tmp_path, monkeypatch, [70.0], [70.0], [60.0])["held"]
    text = (tmp_path / "run" / "report.md").read_text()
    assert "(one seed; 17% above scratch)" in text
    assert "ahead of" not in text


def test_task_outside_the_candidates_is_noted(tmp_path, monkeypatch):
    report(tmp_path, monkeypatch, [1.0], [2.0], [3.0], outside=True)
    assert "task lies outside all candidates" in (tmp_path / "run" / "report.md").read_text()


def test_nothing_measured_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(ReportError, match="test split with labels"):
        report(tmp_path, monkeypatch, [], [], [0.0])


def test_stages_have_one_budget_and_the_same_task(tmp_path):
    settings = SimilaritySettings.from_config(study_config(tmp_path))
    compare, scratch = study_points(settings, {})
    assert scratch.name == "scratch/seed_1"
    assert [d.name for d in compare.settings.downstream] == ["task"]
    choice = {"ranking": ["near", "other", "far"]}
    done = {"csi": {"recommendations": [choice], "available": {"near": 12, "far": 10}}}
    points = {point.name: point for point in study_points(settings, done)}
    plans = [points[f"pretrain/{name}"].settings for name in ("near", "far")]
    assert [p.data.train[0].name for p in plans] == ["near", "far"]
    assert plans[0].train == plans[1].train
    # 40 samples for three epochs would need 13 structures; ten allow four.
    train = plans[0].train
    assert (train.epochs, train.max_structures, train.budget) == (4, 10, 40)
    tuned = [points[f"finetuned/{name}/seed_1"].settings for name in ("near", "far")]
    assert tuned[0] == tuned[1] == points["scratch/seed_1"].settings


@pytest.mark.slow
def test_study_runs_every_stage_and_resumes(tmp_path, capfd):
    config = study_config(tmp_path)
    assert launch(tmp_path, config) == 0
    shown = capfd.readouterr().out
    summary = json.loads((tmp_path / "run" / "report.json").read_text())
    for stage in ("csi", "pretrain/near", "pretrain/far", "finetuned/near/seed_1"):
        assert f"== {stage}" in shown
    assert {summary["recommended"], summary["farthest"]} == {"near", "far"}
    assert set(summary["errors"]) == {"near", "far", "scratch"}
    assert launch(tmp_path, config) == 0
    assert capfd.readouterr().out.count("done before") == 6
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == summary
