"""The survey: rank correlations, what its report says, and its settings."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from atomjax.launch import main
from atomjax.runtime.config import ConfigError, load_config
from atomjax.runtime.run import Run
from atomjax.similarity.analysis.rank_correlation import rank_correlation, regret, spearman
from atomjax.studies import ReportError, engine
from atomjax.studies.survey import SURVEY, SurveySettings
from atomjax.studies.transfer import SCRATCH
from tests.similarity.test_job import ROOT, dataset, launch
from tests.studies.trainings import FORCE, replace_comparison, replace_trainings
from tests.training.sections import train_section
from tests.training.workflow import MODEL, write_structures


def test_correlation_is_one_where_the_order_is_the_same():
    distances = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [9.0, 8.0]])
    errors = np.stack([distances**3, distances**3 + 0.1], axis=2)
    found = rank_correlation(distances, errors)
    np.testing.assert_allclose(found.by_task, 1)
    assert found.mean == pytest.approx(1)
    np.testing.assert_allclose(found.interval, 1)
    # Only one of the 24 orders does as well.
    assert found.p_value == pytest.approx(1 / 24)


def test_correlation_of_seeds_that_disagree_is_uncertain():
    distances = np.arange(4.0)[:, None]
    errors = np.stack([distances, distances[::-1] + 0.01], axis=2)
    low, high = rank_correlation(distances, errors).interval
    assert low < -0.5 < 0.5 < high


def test_spearman_is_pearson_of_ranks_with_ties_shared():
    a = np.array([[1.0], [2.0], [2.0], [7.0]])
    b = np.array([[4.0], [1.0], [3.0], [9.0]])
    ranks = np.array([1, 2.5, 2.5, 4]), np.array([3, 1, 2, 4])
    np.testing.assert_allclose(spearman(a, b), np.corrcoef(*ranks)[0, 1])
    assert spearman(np.ones((3, 1)), a[:3]) == [0.0]


def test_regret_is_what_the_best_set_would_save():
    distances = np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 4.0]])
    errors = np.array([[12.0, 30.0], [10.0, 20.0], [11.0, 40.0]])
    found = rank_correlation(distances, errors[:, :, None])
    # Two sets are nearest to the second task, and either may be chosen.
    np.testing.assert_allclose(found.regret, [0.2, 0.5])
    np.testing.assert_allclose(regret(errors, np.ones((3, 2), bool)), [0.1, 0.5])


def test_interval_covers_tasks_that_disagree():
    distances = np.repeat(np.arange(5.0)[:, None], 6, axis=1)
    errors = 1 + distances
    errors[:, :2] = 9 - errors[:, :2]
    low, high = rank_correlation(distances, errors[:, :, None]).interval
    assert low < 0 < high < 1.01


def test_two_sets_are_too_few():
    with pytest.raises(ValueError, match="at least three sets"):
        rank_correlation(np.ones((2, 1)), np.ones((2, 1, 3)))


def survey_config(folder) -> dict:
    task = write_structures(folder / "task.extxyz", 20, seed=9)
    sets = {name: write_structures(folder / f"{name}.extxyz", 20, seed=i) for i, name in
            enumerate(("one", "two", "three"))}  # fmt: skip
    schedule = train_section(batch_size=4, epochs=2, scale_factor_batches=2)
    return {
        "workflow": "survey",
        "seeds": [0, 1],
        "candidates": [dataset(name, path, split={"validation": 4}) for name, path in sets.items()],
        "tasks": [
            {
                "data": dataset("task", task, split={"train": 8, "validation": 4, "test": 6}),
                "head": {"kind": "energy_forces", "forces": "direct"},
                "train": schedule,
            }
        ],
        "starts": [
            *({"name": name, "structures": {name: 8}, "epochs": 2} for name in sets),
            {"name": "mixed", "structures": {"one": 4, "two": 4}, "epochs": 2},
            {"name": "one, less", "structures": {"one": 4}, "epochs": 2},
        ],
        "pairs": [["mixed", "one"], ["one", SCRATCH]],
        "model": MODEL,
        "train": schedule,
        "sampling": {"strategy": "random", "size": 8},
        "extractor": {"batch_size": 10},
        "resamples": 20,
    }


@pytest.fixture
def settings(tmp_path) -> SurveySettings:
    return SurveySettings.from_config(survey_config(tmp_path))


def test_starts_become_pretrainings_of_their_budget(settings):
    assert settings.singles == {"one": "one", "two": "two", "three": "three"}
    mixed = settings.pretraining(settings.starts[3], seed=1)
    assert [(d.name, d.max_structures) for d in mixed.data.train] == [("one", 4), ("two", 4)]
    assert (mixed.train.epochs, mixed.train.budget, mixed.seed) == (2, 16, 1)
    tuned = settings.finetuning(settings.tasks[0], 1)
    assert tuned.finetune is not None
    assert tuned.finetune.checkpoint is None
    assert tuned.seed == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": [{"name": "x", "structures": {"four": 1}, "epochs": 1}]}, "takes four"),
        ({"starts": [{"name": "a/b", "structures": {"one": 1}, "epochs": 1}]}, "name a file"),
        ({"starts": [{"name": "x", "structures": {}, "epochs": 1}]}, "at least one structure"),
        ({"pairs": [["one", "seven"]]}, "pairs name seven"),
        ({"seeds": [1, 1]}, "all different"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        SurveySettings.from_config({**survey_config(tmp_path), **changes})


def report(folder, monkeypatch, workdir=None, **changes) -> dict:
    """The summary of a survey with errors in the order of the CSI, in the folder ``run``."""
    errors = {"one": 10.0, "two": 20.0, "three": 30.0, "mixed": 12.0, "one, less": 15.0}
    errors |= {"two, less": 18.0, "three, less": 14.0}

    def measured(settings):
        if settings.finetune is None:
            return {}
        checkpoint = settings.finetune.checkpoint
        error = errors[Path(checkpoint).parent.name] if checkpoint else 40.0
        if settings.workflow == "probe":
            return {"validation_mae": error / 5 + settings.seed, "log_evidence": error}
        return {FORCE: error + 2 * settings.seed}

    replace_trainings(monkeypatch, measured)
    csi = {"one": 1.0, "two": 2.0, "three": 3.0}
    pairs = {(n, "task"): {"csi": value, "csi_flat-norms": -value} for n, value in csi.items()}
    replace_comparison(monkeypatch, pairs)
    config = {**survey_config(folder), **changes}
    run = Run(workdir or folder / "run", config, console=Console(quiet=True))
    return SURVEY(config, run)


def test_report_holds_every_number(tmp_path, monkeypatch):
    summary = report(tmp_path, monkeypatch)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == summary
    assert summary["correlations"]["csi"]["by_task"] == {"task": pytest.approx(1)}
    assert summary["correlations"]["csi_flat-norms"]["mean"] == pytest.approx(-1)
    assert summary["pairs"]["mixed / one"]["task"] == pytest.approx([1.2, 14 / 12])
    text = (tmp_path / "run" / "report.md").read_text()
    assert "| one | 11 ± 1.4 | 8 × 2 | 10, 12 |" in text
    assert "| scratch | 41 ± 1.4 |  | 40, 42 |" in text
    assert "| CSI | 1.00 | 1.00 | 1.00 to 1.00 | 0.167 |" in text
    assert "| mixed / one | 1.18 ± 0.024 |" in text
    assert "(plots/errors.png)" in text
    assert text.index("(plots/correlations.png)") < text.index("(plots/errors.png)")


def test_gradients_are_a_predictor(tmp_path, monkeypatch):
    distances = {"one": 0.5, "two": 1.0, "three": 1.4}

    def compared(settings, run, compiled=None):
        del run, compiled
        assert settings.initialisations == 3
        sizes = [one.data.train[0].max_structures for one in settings.upstream]
        assert sizes == [8] * 3, "as many as the comparison takes"
        return {
            "pairs": [
                {"upstream": name, "downstream": "task", "gradient_distance": value}
                for name, value in distances.items()
            ]
        }

    monkeypatch.setitem(engine.TRAININGS, "gradients", compared)
    found = report(tmp_path, monkeypatch, gradients=3)["correlations"]
    assert found["gradient_distance"]["mean"] == pytest.approx(1)
    assert "| distance of gradients | 1.00 |" in (tmp_path / "run" / "report.md").read_text()


def test_seeds_of_several_run_directories_are_joined(tmp_path, monkeypatch):
    """Each seed by a run of its own, side questions of one seed by one of them."""
    starts = survey_config(tmp_path)["starts"]
    starts[-1]["seeds"] = [0]
    whole = report(tmp_path, monkeypatch, starts=starts)
    joined = tmp_path / "joined"
    for seed in (0, 1):
        part = tmp_path / f"part_{seed}"
        summary = report(tmp_path, monkeypatch, part, starts=starts, seeds=[seed])
        assert summary["seeds"] == [seed]
        shutil.copytree(part, joined, dirs_exist_ok=True)
    (joined / "config.json").unlink()
    # Nothing is computed: where its checkpoints were makes no difference.
    config = {**survey_config(tmp_path), "starts": starts}
    found = SURVEY(config, Run(joined, config, console=Console(quiet=True)), report_only=True)
    del found["seconds"], whole["seconds"]
    assert found == whole
    assert len(found["errors"]["one, less"]["task"][FORCE]["values"]) == 1


def test_probes_are_predictors_of_single_sets(tmp_path, monkeypatch):
    found = report(tmp_path, monkeypatch, probe=True)["correlations"]
    assert found["probe_mae"]["mean"] == pytest.approx(1)
    assert found["log_evidence"]["mean"] == pytest.approx(-1), "large evidence means near"
    assert len(list((tmp_path / "run" / "probed" / "task").glob("*/seed_*"))) == 3 * 2
    text = (tmp_path / "run" / "report.md").read_text()
    assert "| error of a linear probe | 1.00 |" in text
    assert "probe of" not in text.partition("## Time")[0]


def test_errors_under_a_smaller_budget_are_a_predictor(tmp_path, monkeypatch):
    starts = survey_config(tmp_path)["starts"]
    less = [{"structures": {name: 4}, "name": f"{name}, less"} for name in ("two", "three")]
    starts += [{"epochs": 2, "seeds": [0], **one} for one in less]
    found = report(tmp_path, monkeypatch, starts=starts)["correlations"]
    # 16, 18 and 14 where the whole budget gives 10, 20 and 30.
    assert found["error_under_8"]["mean"] == pytest.approx(-0.5)
    text = (tmp_path / "run" / "report.md").read_text()
    assert "| error under C = 8 | -0.50 |" in text
    # One candidate without such a start leaves the budget out.
    assert "error_under_8" not in report(tmp_path, monkeypatch, tmp_path / "other")["correlations"]


def test_starts_may_have_fewer_seeds(tmp_path, monkeypatch):
    starts = survey_config(tmp_path)["starts"]
    starts[3]["seeds"] = [0]
    summary = report(tmp_path, monkeypatch, starts=starts)
    assert summary["errors"]["mixed"]["task"][FORCE]["values"] == [12.0]
    assert summary["pairs"]["mixed / one"]["task"] == pytest.approx([1.2])
    assert "| mixed | 12 | 8 × 2 | 12 |" in (tmp_path / "run" / "report.md").read_text()


def test_tasks_without_a_test_error_are_refused(tmp_path, monkeypatch):
    replace_trainings(monkeypatch, lambda _: {})
    replace_comparison(monkeypatch, {("one", "task"): {"csi": 1.0}})
    config = survey_config(tmp_path)
    with pytest.raises(ReportError, match="no test error on 'task'"):
        SURVEY(config, Run(tmp_path / "run", config, console=Console(quiet=True)))


def test_shipped_survey_is_valid_and_keeps_the_budget(capsys):
    pytest.importorskip("tblite", reason="the sets are labelled with tblite (extra demo)")
    path = ROOT / "configs" / "paper" / "survey.py"
    assert main([f"--config={path}", "--validate"]) == 0
    assert "34 pretrainings, 185 finetunings, 105 linear probes" in capsys.readouterr().out
    settings = SurveySettings.from_config(load_config(path))
    sets = ["conformers", "reactions", "trajectory", "slabs", "alloys", "oxides", "pairs"]
    assert list(settings.singles) == sets
    published = SurveySettings.from_config(load_config(f"{path}:folder"))
    names = [task.data.name for task in published.tasks]
    assert names[5:] == ["dimers", "cathode", "perovskites", "carbon", "spinels"]
    assert [*published.singles] == [*sets, "metals", "covalent", "ionic"]
    assert {start.budget for start in published.starts} == {20_000, 2_000}
    assert list(published.smaller_budgets) == [2_000]


@pytest.mark.slow
def test_survey_runs_every_stage_and_resumes(tmp_path, capfd):
    config = {**survey_config(tmp_path), "probe": True}
    assert launch(tmp_path, config) == 0
    shown = capfd.readouterr().out
    summary = json.loads((tmp_path / "run" / "report.json").read_text())
    stages = [
        "csi",
        *(f"pretrain/{n}/seed_{s}" for n, s in itertools.product(("one", "mixed"), (0, 1))),
        "finetuned/task/one/seed_1",
        "finetuned/task/scratch/seed_0",
        "probed/task/two/seed_0",
    ]
    assert all(f"== {stage}\n" in shown for stage in stages)
    judged = summary["errors"].items()
    tuned = [e["task"][FORCE]["values"] for _, e in judged if FORCE in e.get("task", {})]
    assert [len(values) for values in tuned] == [2] * 6
    assert launch(tmp_path, config) == 0
    assert capfd.readouterr().out.count("done before") == 1 + 2 * (5 + 6 + 3)
    again = json.loads((tmp_path / "run" / "report.json").read_text())
    assert again["errors"] == summary["errors"]
