"""The command line."""

import json
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atomjax.command import launch
from atomjax.runtime.config import ConfigError
from atomjax.runtime.workflows import WORKFLOWS, Workflow, find_workflow

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    workflow: str
    batch_size: int = 4
    seed: int = 0
    short: bool = field(default=True, metadata={"before": False})


def check(settings):
    if settings.batch_size > 100:
        raise ConfigError("config.batch_size=101 is more than the 100 structures there are")
    return ["100 structures"]


def work(settings, run):
    if settings.seed == 13:
        raise FloatingPointError("loss is nan at step 7")
    if settings.seed == 14:
        raise KeyboardInterrupt
    if settings.seed == 15:
        raise KeyError("a bug")
    run.log(1, {"loss": settings.batch_size, "short": settings.short})
    return {}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config file of a workflow made for these tests."""
    module = types.ModuleType("workflow_for_tests")
    vars(module).update(Settings=Settings, check=check, work=work)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    parts = {
        part: f"{module.__name__}:{name}"
        for part, name in [("settings", "Settings"), ("check", "check"), ("function", "work")]
    }
    monkeypatch.setattr(
        "atomjax.runtime.workflows.WORKFLOWS", {**WORKFLOWS, "w": Workflow(**parts)}
    )
    path = tmp_path / "work.py"
    path.write_text("def get_config():\n    return {'workflow': 'w', 'batch_size': 8}\n")
    return str(path)


@pytest.fixture
def workdir(tmp_path):
    return str(tmp_path / "run")


def test_runs_with_overrides(config, workdir):
    status = launch.main(["--config", config, "--workdir", workdir, "--config.batch_size=16"])
    assert status == 0
    record = json.loads((Path(workdir) / "metrics.jsonl").read_text())
    assert record == {"step": 1, "loss": 16.0, "short": 1.0}
    resolved = json.loads((Path(workdir) / "config.json").read_text())
    assert resolved == {"workflow": "w", "batch_size": 16, "seed": 0, "short": True}


def test_print_config_shows_what_would_run(config, capsys):
    assert launch.main(["--config", config, "--print-config", "--config.seed", "5"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"workflow": "w", "batch_size": 8, "seed": 5, "short": True}


def test_validate_runs_nothing(config, workdir, capsys):
    assert launch.main(["--config", config, "--workdir", workdir, "--validate"]) == 0
    assert "ok\n100 structures" in capsys.readouterr().out
    assert not Path(workdir).exists()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--config.batch_sise=1"], ["config.batch_sise", "Did you mean 'batch_size'?"]),
        (["--config.batch_size=x"], ["config.batch_size", "an integer", "'x'"]),
        (["--config.workflow=v"], ["config.workflow", "'v'", "Known"]),
        (["--config.batch_size=101"], ["config.batch_size=101", "100 structures"]),
        (["--wokdir=x"], ["--wokdir", "Did you mean '--workdir'?"]),
        (["--config.seed"], ["--config.seed", "no value"]),
    ],
)
def test_mistakes_are_one_message_and_status_2(config, workdir, capsys, arguments, fragments):
    assert launch.main(["--config", config, "--workdir", workdir, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    for fragment in fragments:
        assert fragment in error
    assert not Path(workdir).exists()


def several(settings, run, *, jobs, report_only):
    run.write_json("asked.json", {"jobs": jobs, "report_only": report_only})
    return {}


@pytest.fixture
def study(config, monkeypatch, tmp_path):
    """A config of a workflow of several trainings, which asks for three side by side."""
    parts = Workflow(settings=Settings, check=check, function=several, several=True)
    monkeypatch.setattr("atomjax.runtime.workflows.WORKFLOWS", {**WORKFLOWS, "s": parts})
    path = tmp_path / "study.py"
    path.write_text("def get_config():\n    return {'workflow': 's', 'jobs': 3}\n")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], {"jobs": 3, "report_only": False}),
        (["--jobs=2"], {"jobs": 2, "report_only": False}),
        (["--jobs=0", "--report-only"], {"jobs": 0, "report_only": True}),
        (["--config.jobs=4"], {"jobs": 4, "report_only": False}),
    ],
)
def test_trainings_side_by_side_are_asked_for(study, workdir, arguments, asked):
    command = ["--config", study, "--workdir", workdir]
    assert launch.main([*command, *arguments]) == 0
    assert json.loads((Path(workdir) / "asked.json").read_text()) == asked
    # What changes no result is no part of the configuration, and may be another the next time.
    assert "jobs" not in json.loads((Path(workdir) / "config.json").read_text())
    assert launch.main([*command, "--jobs=1"]) == 0


def test_jobs_are_for_workflows_of_several_trainings(config, study, workdir, capsys):
    assert launch.main(["--config", study, "--workdir", workdir, "--jobs=-1"]) == 2
    assert "jobs=-1 must be 0" in capsys.readouterr().err
    assert launch.main(["--config", study, "--workdir", workdir, "--config.jobs=many"]) == 2
    assert "config.jobs must be an integer" in capsys.readouterr().err
    for flag in ("--jobs=2", "--report-only"):
        path = str(ROOT / "configs" / "pretrain" / "budget.py:ani1x")
        assert launch.main(["--config", path, "--workdir", workdir, flag]) == 2
        assert "(finetune, transfer, sweep" in capsys.readouterr().err


def test_missing_workdir_is_asked_for(config, capsys):
    assert launch.main(["--config", config]) == 2
    assert "--workdir is missing" in capsys.readouterr().err


def test_failed_run_keeps_its_traceback_in_the_workdir(config, workdir, capsys):
    assert launch.main(["--config", config, "--workdir", workdir, "--config.seed=13"]) == 1
    error = capsys.readouterr().err
    assert "error: loss is nan at step 7" in error
    assert "Traceback" not in error
    assert "FloatingPointError" in (Path(workdir) / "error.txt").read_text()


def test_debug_shows_the_traceback(config, workdir, capsys):
    arguments = ["--config", config, "--workdir", workdir, "--config.seed=13", "--debug"]
    assert launch.main(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_has_its_own_status(config, workdir, capsys):
    assert launch.main(["--config", config, "--workdir", workdir, "--config.seed=14"]) == 130
    assert "resumes" in capsys.readouterr().err


def test_bugs_keep_their_traceback(config, workdir):
    with pytest.raises(KeyError, match="a bug"):
        launch.main(["--config", config, "--workdir", workdir, "--config.seed=15"])


def test_changed_config_is_refused_unless_accepted(config, workdir, capsys):
    arguments = ["--config", config, "--workdir", workdir]
    assert launch.main(arguments) == 0
    assert launch.main([*arguments, "--config.seed=1"]) == 2
    assert "config.seed: 0 -> 1" in capsys.readouterr().err
    assert launch.main([*arguments, "--config.seed=1", "--accept-changes"]) == 0


def test_a_run_of_an_earlier_version_goes_on_as_it_began(config, workdir, capsys):
    arguments = ["--config", config, "--workdir", workdir]
    assert launch.main(arguments) == 0
    path = Path(workdir) / "config.json"
    earlier = json.loads(path.read_text())
    del earlier["short"]
    path.write_text(json.dumps(earlier))
    # The second start finds what the first one left.
    for _ in range(2):
        assert launch.main(arguments) == 0
        assert "config.short=False" in capsys.readouterr().out
    assert launch.main([*arguments, "--accept-changes"]) == 0
    assert launch.main(arguments) == 0
    logged = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["short"] for line in logged] == [1, 0, 0, 1, 1]


def test_process_options_go_together(config, workdir, capsys):
    arguments = ["--config", config, "--workdir", workdir, "--coordinator", "localhost:1234"]
    assert launch.main(arguments) == 2
    assert "--process-id" in capsys.readouterr().err


def test_timeouts_are_positive(config, workdir, capsys):
    arguments = ["--config", config, "--workdir", workdir, "--coordinator", "localhost:1234"]
    arguments += ["--num-processes=2", "--process-id=1", "--stall-timeout=0"]
    assert launch.main(arguments) == 2
    assert "--stall-timeout=0 must be positive" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["options", "environment"])
def test_processes_connect_as_told(config, workdir, monkeypatch, source):
    calls = []

    def initialize(
        *given, cluster_detection_method, heartbeat_timeout_seconds, initialization_timeout
    ):
        calls.append(given)
        assert cluster_detection_method == "deactivate"
        # Our own comes first, with a message that says more.
        assert heartbeat_timeout_seconds > 30
        # Nodes that replace others fetch images for minutes.
        assert initialization_timeout >= 1800

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    arguments = ["--config", config, "--workdir", workdir, "--heartbeat-timeout=30"]
    if source == "options":
        arguments += ["--coordinator", "host:1", "--num-processes", "2", "--process-id", "1"]
    else:
        monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1")
        monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
        monkeypatch.setenv("JAX_PROCESS_ID", "1")
    assert launch.main(arguments) == 0
    assert calls == [("host:1", 2, 1)]


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("std::bad_cast"), 75), (ValueError("coordinator_address should be defined"), 2)],
)
def test_processes_that_do_not_come_are_waited_for_again(
    config, workdir, monkeypatch, capsys, error, status
):
    def initialize(*given, **options):
        raise error

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    assert launch.main(["--config", config, "--workdir", workdir, "--distributed"]) == status
    said = capsys.readouterr().err
    assert "did not find each other" in said
    assert "bad_cast" not in said


def test_variables_of_processes_may_be_empty_and_must_be_numbers(
    config, workdir, monkeypatch, capsys
):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "")
    assert launch.main(["--config", config, "--workdir", workdir]) == 0
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    assert launch.main(["--config", config, "--workdir", workdir]) == 2
    assert "JAX_NUM_PROCESSES" in capsys.readouterr().err


def test_every_workflow_resolves():
    for name in WORKFLOWS:
        workflow = find_workflow({"workflow": name})
        assert callable(workflow.load_check())
        assert callable(workflow.load_function())


def test_missing_workflow_lists_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"config\.workflow: missing.*finetune, gradients, halving, pretrain"
    ):
        find_workflow({})


def test_help_and_package_import_wait_for_nothing_heavy():
    code = (
        "import sys, atomjax, atomjax.launch\n"
        "try:\n    atomjax.launch.main(['--help'])\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "print([name for name in ('jax', 'flax', 'matplotlib', 'ase') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--workdir" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
