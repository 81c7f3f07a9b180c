"""All commands under one name, and configurations by name, from an installed package."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hostile
from tests.installed import REPOSITORY, python


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """hatjax as a wheel lays it out: with configs/ inside of the package."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(REPOSITORY / "hatjax", site / "hatjax")
    shutil.copytree(REPOSITORY / "configs", site / "hatjax" / "configs")
    (site / "configs").mkdir()  # of another package
    return site


def test_commands_from_an_installed_package(installed, tmp_path):
    def call(*args):
        return python(tmp_path, "-m", "hatjax", *args, path=installed)

    version = call("--version")
    assert version.stdout.strip() == "0.2.0" and version.returncode == 0
    text = call("--help")
    commands = ("train", "study", "report", "export", "forget", "benchmark")
    assert text.returncode == 0 and all(f"    {name} " in text.stdout for name in commands)
    assert call().returncode == 2 and not call().stdout
    wrong = call("trian")
    assert wrong.returncode == 2 and "Did you mean 'train'" in hostile.one_line(wrong.stderr)
    config = "configs/baseline.py:ewc,digits"
    done = call("train", "--dry_run", f"--config={config}", "--config.network.widths=9,9")
    assert done.returncode == 0 and '"lamb"' in done.stdout, done.stderr
    listed = call("study", "--dry_run", "study_published.py", "--config.seeds=1")
    assert listed.stdout.count("to do") == 5, listed.stderr
    asked = call("report")
    assert asked.returncode == 2 and "which runs?" in hostile.one_line(asked.stderr)
    assert not list(tmp_path.glob("results"))


def test_help_imports_nothing_heavy():
    code = "import sys, hatjax.__main__; assert not {'jax', 'absl', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


WITHOUT_TORCH = """
import runpy, sys

sys.modules["torch"] = sys.modules["torchvision"] = None  # as if they were not installed
sys.argv = ["hatjax.main", *sys.argv[1:]]
runpy.run_module("hatjax.main", run_name="__main__", alter_sys=True)
"""


def test_without_torch_all_but_raw_sets_works(tmp_path):
    config = f"--config={REPOSITORY}/configs/hat_split.py"
    flags = ["--config.epochs=1", "--config.network.widths=9,9"]
    done = python(tmp_path, "-c", WITHOUT_TORCH, f"{config}:digits,2", *flags, "--workdir=w")
    assert done.returncode == 0 and (tmp_path / "w" / "done").exists(), done.stderr
    raw = python(
        tmp_path, "-c", WITHOUT_TORCH, f"{config}:mnist,2", *flags, f"--config.data.root={tmp_path}"
    )
    line = hostile.one_line(raw.stderr)
    assert raw.returncode == 2 and "pip install torchvision" in line and "NAME.npz" in line
