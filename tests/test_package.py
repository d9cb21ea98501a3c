"""The wheel alone: without a checkout, by the names of what it holds."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from atomjax.runtime.config import ConfigError, bundled_configs, load_config

ROOT = Path(__file__).resolve().parents[1]


def test_configs_by_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert {"quickstart", "finetune/own", "paper/survey"} <= set(bundled_configs())
    assert load_config("quickstart") == load_config(ROOT / "configs" / "quickstart.py")
    named = load_config("li_electrode:mine.xyz")
    assert named == load_config(f"{ROOT / 'configs' / 'li_electrode.py'}:mine.xyz")
    with pytest.raises(ConfigError, match="Did you mean 'quickstart'"):
        load_config("quickstrt")
    # A file of the user goes before a config of that name.
    Path("transfer").write_text("")
    with pytest.raises(ConfigError, match="not a Python file"):
        load_config("transfer")


@pytest.mark.slow
def test_the_wheel_runs_without_the_checkout(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    # The dependencies are this environment's; atomjax itself is the wheel's.
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*words: str) -> str:
        made = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        return made.stdout

    assert str(tmp_path) in run("-c", "import atomjax; print(atomjax.__file__)")
    launch = ("-m", "atomjax.launch", "--config", "quickstart")
    assert "conformers" in run(*launch, "--print-config")
    assert wheel.stat().st_size < 6e6


def test_importing_atomjax_imports_neither_jax_nor_numpy():
    program = "import sys, atomjax; print(sorted({'jax', 'jaxlib', 'numpy'} & set(sys.modules)))"
    made = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout.strip() == "[]"
