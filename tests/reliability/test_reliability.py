"""The campaign: that it sees what it is to see, and that nothing ends as none may."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from atomjax.structures.readers import ReadError
from tests.reliability import campaign as module
from tests.reliability.__main__ import main
from tests.reliability.campaign import OUTCOMES, Campaign, in_process
from tests.reliability.inputs import INPUTS, Input
from tests.reliability.mutations import MUTATIONS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory by Linux's means")


def ended(call, folder: Path, seconds: int = 60) -> str:
    return in_process(call, folder, seconds=seconds, memory=1 << 28)[0]


def test_every_way_to_end_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1")

    def say(error: Exception) -> str:
        raise error

    assert ended(lambda: "digest", tmp_path) == "read"
    assert ended(lambda: say(ReadError("a.xyz: is damaged")), tmp_path) == "clear error"
    assert ended(lambda: say(ReadError("is damaged")), tmp_path) == "error without file"
    assert ended(lambda: say(KeyError("positions")), tmp_path) == "traceback"
    assert ended(lambda: time.sleep(600) or "", tmp_path, seconds=3) == "hang"
    assert ended(lambda: str(np.ones(1 << 28).sum()), tmp_path) == "memory"
    assert ended(lambda: str(os.kill(os.getpid(), signal.SIGBUS)), tmp_path) == "crash"


@pytest.mark.slow
def test_a_silent_change_is_forbidden_in_our_own_formats_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {
        name: Input(
            lambda folder: (folder / "a.txt").write_text("12345"),
            lambda folder: (folder / "a.txt").read_bytes(),
            own,
        )
        for name, own in (("ours", True), ("theirs", False))
    }
    monkeypatch.setattr(module, "INPUTS", inputs)
    campaign = Campaign(tmp_path, seed=3)
    campaign.run(count=20)
    assert {trial.outcome for trial in campaign.trials} <= {"silent change", "harmless"}
    for trial in campaign.trials:
        assert trial.forbidden == (trial.name == "ours" and trial.outcome == "silent change")
    again = Campaign(tmp_path / "again", seed=3)
    again.run(count=20)
    assert again.trials == campaign.trials
    assert sum(campaign.counts()["ours"].values()) + sum(campaign.counts()["theirs"].values()) == 20


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_change_and_are_told_by_their_seed(name: str) -> None:
    data = json.dumps({"counts": list(range(40)), "x": [1.5, 2.5]}).encode()
    made = [MUTATIONS[name](np.random.default_rng([seed]), data) for seed in range(30)]
    assert made == [MUTATIONS[name](np.random.default_rng([seed]), data) for seed in range(30)]
    assert sum(one != data for one in made) > 20


@pytest.mark.slow
def test_a_few_damaged_files_end_well(tmp_path: Path) -> None:
    quick = [name for name, one in INPUTS.items() if not one.slow]
    campaign = Campaign(tmp_path, seed=0, names=quick[::3])
    campaign.run(count=40)
    assert [trial for trial in campaign.trials if trial.forbidden] == []
    assert sum(trial.outcome == "clear error" for trial in campaign.trials) > 20


@pytest.mark.slow
def test_ten_minutes_of_damaged_files_end_well(tmp_path: Path, capsys) -> None:
    out = tmp_path / "reliability.json"
    status = main(["--minutes", "10", "--seed", "1", "--out", str(out)])
    content = json.loads(out.read_text())
    assert set(content["inputs"]) == set(INPUTS)
    assert all(set(counts) == set(OUTCOMES) for counts in content["inputs"].values())
    assert status == 0, capsys.readouterr().out
