"""Export the small network of one task of a trained HAT run.

    python -m hatjax.export results/digits-hat-seed0 --task=3
    python -m hatjax.export RUN --task=3 --out=DIR --batch=1

Tasks count from 1, as in the printed accuracies (in Python from 0). The folder, by default
RUN/export/task3, is all that hatjax.export.load needs:
    config.json   the configuration of the small network, an ungated one
    network.npz   its arrays, the kept units, and the normalisation and pixel order of images
    report.json   its size and speed, compared with the full network's
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.tree_util import keystr, tree_map_with_path

from hatjax import cli, networks
from hatjax import config as configs
from hatjax.analysis import models, savings
from hatjax.analysis.blocks import in_blocks, traced
from hatjax.analysis.single_task import Small, cut, shapes
from hatjax.data import about, reading
from hatjax.errors import InputError, oneline
from hatjax.types import About, Array
from hatjax.workdir import files

__all__ = ["Small", "cut", "load", "predict", "save"]

FILES = ("config.json", "network.npz", "report.json")


def save(where: Path, small: Small, report: dict) -> None:
    """Write FILES into the folder `where`; `report` is what savings.compare gives."""
    arrays: dict[str, Any] = {
        "task": np.array(small.task),
        "classes": np.array(small.network.classes),
        "image": np.array(small.image),
        "mean": small.mean,
        "std": small.std,
        "about": np.array(about.text(small.about)),
    }
    if small.pixels is not None:
        arrays["pixels"] = small.pixels
    arrays |= {f"units/{layer}": places for layer, places in small.units.items()}
    tree_map_with_path(lambda path, p: arrays.update({name(path): p}), small.params)
    (where / "config.json").write_text(configs.to_json(small.config))
    np.savez(where / "network.npz", **arrays)
    (where / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def name(path: tuple) -> str:
    """A parameter's name in network.npz, as in "trunk/fc1/kernel"."""
    return keystr(path, simple=True, separator="/")


def load(where: str | Path) -> Small:
    """Load the small network in a folder; InputError if it is missing or damaged."""
    where = Path(where)
    if not os.path.isfile(where / "network.npz"):  # also False for an invalid path
        raise InputError(
            f"{where} holds no exported network: python -m hatjax.export RUN --task=N writes one"
        )
    try:
        config = files.read_config(where)
        configs.check(config)
        arrays = reading.npz(where / "network.npz")
        image, classes = (tuple(int(n) for n in arrays[k]) for k in ("image", "classes"))
        network = networks.make(config, image, classes)
        expected = jax.eval_shape(network.init, jax.random.key(0))
        params = tree_map_with_path(lambda path, _: arrays[name(path)], expected)
        if shapes(params) != shapes(expected):
            raise ValueError("its arrays do not fit its configuration")
        known = str(arrays["about"]) if "about" in arrays else about.text(About())
        return Small(
            config,
            str(arrays["task"]),
            network,
            params,
            {k.removeprefix("units/"): v for k, v in arrays.items() if k.startswith("units/")},
            image,
            arrays["mean"],
            arrays["std"],
            arrays.get("pixels"),
            about.read(known, classes[0], image[2]),
        )
    except Exception as error:  # NumPy and zipfile raise many exception types for a damaged file
        raise InputError(
            f"{where} cannot be loaded ({oneline(error)}): export the task again"
        ) from error


def predict(small: Small, x: np.ndarray) -> Array:
    """Logits "n classes" for raw images "n h w c" (or "n h w" if grey), as models.predict does.

    Raises InputError as that does, and for what is no exported network.
    """
    if not isinstance(small, Small):
        raise InputError(
            f"a {type(small).__name__} is given where an exported network is expected: give "
            "export.cut(model, task) or export.load(FOLDER)"
        )
    network = jax.jit(small.network.apply)  # compiled once for all calls with these shapes

    def logits(some: Array) -> Array:
        inputs = models.normalised(some, small.image, small.mean, small.std, small.pixels)
        return network(small.params, inputs, 0).logits

    if traced(x):
        return logits(x)
    x = models.examples(models.as_trained(x, small.about), small.image)
    return jax.device_put(in_blocks(logits, x, small.config.eval_batch))


def main(argv: list[str]) -> None:
    """Export the task that the flags give."""
    logging.getLogger("jax").setLevel(logging.WARNING)
    given = flags.FLAGS
    try:
        model = models.load(argv[1])
        task = cli.index(given.task, len(model.names))
        where = Path(given.out or Path(argv[1]) / "export" / f"task{given.task}")
        small = cut(model, task)
        with files.folder(where, FILES) as part:
            report = savings.compare(model, task, small, given.batch)
            save(part, small, report)
    except InputError as error:
        cli.fail(error)
    print(f"{savings.table(report)}\nsaved in {where}")


if __name__ == "__main__":
    cli.define_run()
    flags.declare_key_flag("task")
    flags.declare_key_flag("config")
    flags.DEFINE_string("out", None, "Folder for the small network; default RUN/export/taskN.")
    flags.DEFINE_integer("batch", 64, "Batch size for the measured times.", lower_bound=1)
    cli.start(main, cli.parse_run)
