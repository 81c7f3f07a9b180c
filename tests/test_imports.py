"""Imports go the way the data flows, and heavy packages stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

from hatjax.config import APPROACHES, NETWORKS

PACKAGE = Path(__file__).parents[1] / "hatjax"
ORDER = [
    "errors", "types", "config", "fidelity", "plans", "protection", "hat", "data", "networks",
    "training", "approaches", "workdir", "analysis", "experiment", "cli", "export", "forget",
    "benchmark", "main", "report", "plot", "study", "__main__",
]  # fmt: skip
ONLY_IN = {
    "flax": {"networks"},
    "torchvision": {"data"},
    "torch": {"data", "benchmark"},
    "orbax": {"workdir"},
    "filelock": {"data", "workdir", "experiment"},
    "tensorstore": {"workdir"},
    "matplotlib": {"report", "plot"},
    "pandas": {"report", "plot"},
    "jinja2": {"report"},
    "tensorboardX": {"experiment"},
}


def modules():
    """(package part, file, its imported module names)"""
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if path == PACKAGE / "__init__.py":
            continue
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        yield part, path, names


def test_imports_go_one_way():
    for part, path, names in modules():
        assert part in ORDER, f"{path}: say where {part} stands in the order"
        for name in names:
            if name.startswith("hatjax."):
                other = name.split(".")[1]
                assert other == part or ORDER.index(other) < ORDER.index(part), (path, name)


def test_heavy_packages_stay_in_their_place():
    for part, path, names in modules():
        for name in names:
            allowed = ONLY_IN.get(name.split(".")[0])
            assert allowed is None or part in allowed, (path, name)


def test_training_never_imports_torch():
    code = (
        "import sys; from hatjax import config, main; from hatjax.experiment import run;"
        "c = config.make('digits', 'hat');"
        "run.prepare(c); assert not {'torch', 'torchvision'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_help_and_names_import_no_jax():
    code = (
        "import sys; from hatjax import cli, config, main, plans;"
        "assert 'pathnet' in config.APPROACHES and 'vit' in config.NETWORKS;"
        "assert not {'jax', 'flax', 'optax'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_names_are_those_of_the_files():
    folders = {"approaches": APPROACHES, "networks/architectures": NETWORKS}
    for folder, names in folders.items():
        files = {p.stem for p in (PACKAGE / folder).glob("*.py")} - {"__init__"}
        assert set(names.files) == files
