"""An epoch on images in the device's memory, and streamed from the host's and from the disk."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from hatjax.benchmark import steps
from hatjax.benchmark.steps import Case
from hatjax.benchmark.timing import Times, interleave, once
from hatjax.data import feed, lazy
from hatjax.training import keys, replicas, streaming, train
from hatjax.types import Data, Split, Task

MEMORY = "in memory"


def times(case: Case, most: int, rounds: int) -> tuple[Times, int]:
    """Seconds an epoch of HAT, with its validation, and how many images that reads."""
    sequence = steps.tasks(case._replace(replicas=1), most * case.batch)
    read = len(sequence[0].train.y) + len(sequence[0].valid.y)
    with tempfile.TemporaryDirectory() as folder:
        disk = [on_disk(sequence[0], Path(folder))] * len(sequence)
        runs = {
            MEMORY: epochs(case, sequence, streamed=False),
            "from the host": epochs(case, sequence, streamed=True),
            "from the disk": epochs(case, disk, streamed=True),
        }
        return interleave({name: once(run) for name, run in runs.items()}, 1, rounds), read


def on_disk(task: Task, folder: Path) -> Task:
    """The task with its training images in a file, whose rows are in another order."""
    places = np.random.default_rng(0).permutation(len(task.train.y))
    out = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, task.train.x.shape)
    out[places] = task.train.x
    out.flush()
    mapped = np.load(folder / "x.npy", mmap_mode="r")
    return task._replace(train=Split(lazy.rows(mapped, places), task.train.y))


def epochs(case: Case, sequence: list[Task], streamed: bool) -> Callable[[], None]:
    """A function that trains HAT for another epoch."""
    config, _, approach = steps.build(case._replace(replicas=1), "hat")
    place = replicas.Placement(1)
    compiled = streaming.compile(config, approach, place)
    if not streamed:
        compiled = replicas.compile(config, approach, place.padded)

    def data(split: str, batch: int) -> Data | streaming.Stream:
        length = feed.capacity(sequence, split, batch)
        if streamed:
            return streaming.put(place, [sequence], [0], 0, split, length)
        return place.data(feed.stack([feed.pad(sequence, 0, split, length)], [0]))

    learned, valid = data("train", config.batch), data("valid", config.eval_batch)
    turn, hyper = feed.turn(sequence, 0), train.hyperparameters(config)
    turn = turn._replace(task=np.array([turn.task]))
    hyper = jax.tree.map(lambda v: np.full(1, v), hyper)
    key = keys.key(0)[None]
    box = [compiled.begin(*compiled.init(key), turn, key, hyper)]

    def run() -> None:
        box[0] = jax.block_until_ready(compiled.epoch(box[0], learned, valid, turn, hyper)[0])

    return run
