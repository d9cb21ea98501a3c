"""The similarity job on two processes, against one."""

import json

import numpy as np
import pytest

from tests.processes import Processes, write_config
from tests.similarity.test_job import make_config


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    config = write_config(tmp_path / "config.py", make_config(tmp_path))
    found = []
    for count in (2, 1):
        workdir = tmp_path / str(count)
        processes = Processes(count, config, workdir)
        assert processes.finish() == [0] * count, "\n".join(processes.logs())
        found.append(json.loads((workdir / "csi.json").read_text()))
        statistics = sorted((workdir / "features").glob("*/flat.npz"))
        assert len(statistics) == 3
        found[-1]["statistics"] = [dict(np.load(path)) for path in statistics]
    two, one = found
    assert [pair["upstream"] for pair in two["pairs"]] == [p["upstream"] for p in one["pairs"]]
    for ours, theirs in zip(two["pairs"], one["pairs"], strict=True):
        assert ours["csi"] == pytest.approx(theirs["csi"], rel=1e-4)
        assert ours["mean_term"] == pytest.approx(theirs["mean_term"], rel=1e-4)
    for ours, theirs in zip(two["statistics"], one["statistics"], strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            # Rounding in float32: what cancels is as exact as what it is made of.
            atol = 1e-5 + 1e-6 * float(np.abs(value).max())
            np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=atol, err_msg=name)
    assert (tmp_path / "2" / "report.md").exists()
