"""The oldest versions that are tested are the lower bounds of pyproject.toml."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [*PROJECT["dependencies"], *EXTRAS["tensorboard"], *EXTRAS["dev"]]
PYTHONS = [c.split()[-1] for c in PROJECT["classifiers"] if ":: Python ::" in c]
BOUNDS = {r.name: r.specifier for r in map(Requirement, NEEDED) if r.name != "hatjax"}


def pins(python: str) -> dict:
    lines = (ROOT / "tests/oldest.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        r.name: r.specifier
        for r in requirements
        if r.marker is None or r.marker.evaluate({"python_version": python})
    }


@pytest.mark.parametrize("name", BOUNDS)
def test_the_oldest_is_the_lower_bound(name):
    (lower,) = (Version(s.version) for s in BOUNDS[name] if s.operator == ">=")
    assert name in pins("3.11"), f"tests/oldest.txt lacks {name}=={lower}"
    (pin,) = pins("3.11")[name]
    assert (pin.operator, Version(pin.version)) == ("==", lower)


@pytest.mark.parametrize("python", PYTHONS)
def test_every_python_has_a_whole_set(python):
    assert pins(python).keys() >= BOUNDS.keys()
