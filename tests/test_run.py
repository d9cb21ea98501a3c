"""The run directory."""

import io
import json
from dataclasses import dataclass, field

import ml_collections
import pytest
from rich.console import Console

import atomjax
from atomjax.runtime.config import ConfigError
from atomjax.runtime.earlier import as_it_began
from atomjax.runtime.files import DamagedFile
from atomjax.runtime.run import Run


@dataclass(frozen=True)
class Settings:
    seed: int = 3
    widths: tuple[int, ...] = (1, 2)


def read(path):
    return json.loads(path.read_text())


def test_config_versions_and_seed_are_written(tmp_path):
    Run(tmp_path / "run", Settings())
    assert read(tmp_path / "run" / "config.json") == {"seed": 3, "widths": [1, 2]}
    (start,) = read(tmp_path / "run" / "versions.json")
    assert start["atomjax"] == atomjax.__version__
    assert start["jax"]
    assert start["python"]
    assert "cpu" in start["device"].lower()


def test_same_config_continues_and_records_the_start(tmp_path):
    Run(tmp_path, Settings())
    Run(tmp_path, ml_collections.ConfigDict({"seed": 3, "widths": (1, 2)}))
    assert len(read(tmp_path / "versions.json")) == 2


def test_other_config_is_refused_and_names_the_key(tmp_path):
    Run(tmp_path, Settings())
    with pytest.raises(ConfigError, match=r"config\.seed: 3 -> 4") as caught:
        Run(tmp_path, Settings(seed=4))
    assert "--workdir" in str(caught.value)
    assert read(tmp_path / "config.json")["seed"] == 3


@dataclass(frozen=True)
class LaterSettings(Settings):
    gain: float = 1.0
    short: bool = field(default=True, metadata={"before": False})


@dataclass(frozen=True)
class Nested:
    parts: tuple[Settings, ...]


def test_fields_that_a_run_did_not_know_mean_what_it_did(tmp_path):
    Run(tmp_path / "run", Settings())
    with pytest.raises(ConfigError, match=r"config\.short: False -> True") as caught:
        Run(tmp_path / "run", LaterSettings())
    assert "gain" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"config\.gain: 1\.0 -> 2\.0"):
        Run(tmp_path / "run", LaterSettings(gain=2.0, short=False))
    Run(tmp_path / "run", LaterSettings(short=False))
    Run(tmp_path / "nested", Nested((Settings(), Settings(seed=4))))
    later = Nested((LaterSettings(short=False), LaterSettings(seed=4)))
    with pytest.raises(ConfigError, match=r"config\.parts\.1\.short: False -> True") as caught:
        Run(tmp_path / "nested", later)
    assert "parts.0" not in str(caught.value)


def test_a_run_goes_on_as_the_version_that_began_it_would_have(tmp_path):
    assert as_it_began(LaterSettings(), tmp_path / "new") == (LaterSettings(), [])
    Run(tmp_path / "run", Settings())
    for _ in range(2):
        settings, notes = as_it_began(LaterSettings(), tmp_path / "run")
        assert (settings, notes) == (LaterSettings(short=False), ["config.short=False"])
        Run(tmp_path / "run", settings)
    Run(tmp_path / "run", LaterSettings(), accept_changes=True)
    # From then on the run knows the field.
    assert as_it_began(LaterSettings(), tmp_path / "run") == (LaterSettings(), [])
    Run(tmp_path / "nested", Nested((Settings(), Settings(seed=4))))
    later = Nested((LaterSettings(), LaterSettings(seed=4), LaterSettings()))
    settings, notes = as_it_began(later, tmp_path / "nested")
    assert settings == Nested(
        (LaterSettings(short=False), LaterSettings(seed=4, short=False), LaterSettings())
    )
    assert notes == ["config.parts.0.short=False", "config.parts.1.short=False"]


def test_accepted_changes_keep_the_old_config(tmp_path):
    Run(tmp_path, Settings())
    Run(tmp_path, Settings(seed=4), accept_changes=True)
    assert read(tmp_path / "config.json")["seed"] == 4
    assert read(tmp_path / "config.previous.json")["seed"] == 3


def test_metrics_go_to_json_lines_and_tensorboard(tmp_path):
    run = Run(tmp_path)
    run.log(1, {"train/loss": 0.5})
    run.log(2, {"train/loss": 0.25, "validation/force_mae": 3})
    expected = [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "train/loss": 0.25, "validation/force_mae": 3.0},
    ]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
    assert run.metrics() == expected
    run.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/force_mae" in events.read_bytes()


def test_rewind_leaves_each_step_once(tmp_path):
    run = Run(tmp_path)
    for step in range(1, 6):
        run.log(step, {"loss": step})
    run.close()
    resumed = Run(tmp_path)
    resumed.rewind(3)
    for step in range(4, 7):
        resumed.log(step, {"loss": 10 * step})
    records = resumed.metrics()
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["loss"] for record in records] == [1, 2, 3, 40, 50, 60]


def test_line_cut_off_by_a_crash_is_dropped(tmp_path):
    run = Run(tmp_path)
    run.log(1, {"loss": 1})
    run.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    resumed = Run(tmp_path)
    assert [record["step"] for record in resumed.metrics()] == [1]
    resumed.log(2, {"loss": 2})
    assert [record["step"] for record in resumed.metrics()] == [1, 2]


@pytest.mark.parametrize("damage", [b"{", b"[1]", b"\xff\xfe{}", b'"x"', b"", b"\0" * 30])
def test_a_damaged_config_is_named_with_a_mend(tmp_path, damage):
    Run(tmp_path, Settings())
    (tmp_path / "config.json").write_bytes(damage)
    for start in (lambda: Run(tmp_path, Settings()), lambda: as_it_began(Settings(), tmp_path)):
        with pytest.raises(DamagedFile, match=r"config\.json is damaged: .*give another --workdir"):
            start()


@pytest.mark.parametrize("damage", [b"{}", b'{"a": 1', b"\xff"])
def test_a_damaged_list_of_starts_is_named_with_a_mend(tmp_path, damage):
    Run(tmp_path, Settings())
    (tmp_path / "versions.json").write_bytes(damage)
    with pytest.raises(DamagedFile, match=r"versions\.json is damaged: .*delete it; every start"):
        Run(tmp_path, Settings())


@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"[1]", b"3", b"{}", b"\xff", b"\0"),
        *(b'{"step": "2"}', b'{"step": null}', b'{"step": 1.5}'),
        *(b'{"step": 2, "loss": "low"}', b'{"step": 2, "loss": null}'),
    ],
)
def test_a_damaged_line_of_metrics_is_named_with_a_mend(tmp_path, line):
    run = Run(tmp_path)
    run.log(1, {"loss": 1})
    run.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n" + b'{"step": 3, "loss": 2}\n')
    for read_again in (run.metrics, lambda: run.rewind(2)):
        with pytest.raises(
            DamagedFile, match=r"metrics\.jsonl: line 2 is damaged.*delete the line"
        ):
            read_again()


def test_metrics_go_on_behind_what_is_no_text(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2, \xff')
    run = Run(tmp_path)
    run.log(2, {"loss": 1})
    assert [record["step"] for record in run.metrics()] == [1, 2]
    run.close()


def test_child_shares_the_terminal_and_has_its_own_files(tmp_path):
    stream = io.StringIO()
    run = Run(tmp_path, console=Console(file=stream))
    child = run.child("pretrain", Settings())
    child.say("hello")
    assert child.child("deeper").root == tmp_path
    child.log(1, {"loss": 1})
    assert stream.getvalue() == "hello\n"
    assert (tmp_path / "pretrain" / "metrics.jsonl").exists()
    assert (tmp_path / "pretrain" / "config.json").exists()
    assert not (tmp_path / "config.json").exists()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    stream = io.StringIO()
    run = Run(tmp_path, Settings(), console=Console(file=stream))
    run.log(1, {"loss": 1})
    run.rewind(0)
    run.say("hello")
    with run.progress(3, "work") as tracker:
        tracker.advance(3)
    run.write_json("report.json", {})
    assert list(tmp_path.iterdir()) == []
    assert stream.getvalue() == ""


def test_json_is_written_whole_or_not_at_all(tmp_path):
    run = Run(tmp_path)
    run.write_json("report.json", {"a": 1})
    with pytest.raises(TypeError):
        run.write_json("report.json", {"a": object()})
    assert read(tmp_path / "report.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
