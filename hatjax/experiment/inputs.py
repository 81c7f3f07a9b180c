"""The inputs of one program: settings, random keys and images of its runs."""

import math
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax.analysis.models import Model
from hatjax.data import feed
from hatjax.data.stream import Stream
from hatjax.data.tasks.fingerprint import fingerprints
from hatjax.training import device_memory, keys, replicas, streaming, train
from hatjax.types import Approach, Array, Data, Task, Tree, Turn


class Inputs:
    """The inputs of R runs that one program trains together.

    `folder` is that of the sweep; `configs` maps the names of the runs' workdirs in it to their
    configurations. A single run has the name "", and `folder` is its workdir. `sequences` maps each
    seed to its tasks. Every device gets the same number of runs: if R does not divide evenly, the
    last run is repeated, and the results of the copies are dropped.

    Runs that extend others (experiment.extending) have all tasks in their sequences, and learn from
    number `first` on; `model` is what they go on from, if it is given and not read from a workdir.
    """

    def __init__(
        self,
        folder: Path,
        configs: dict[str, ConfigDict],
        sequences: dict[int, list[Task]],
        approach: Approach,
        model: Model | None = None,
    ):
        self.names, self.configs, self.count = list(configs), list(configs.values()), len(configs)
        self.folder, self.places = folder, [folder / name for name in configs]
        self.config = self.configs[0]  # for fields that all runs share
        self.placement = replicas.Placement(self.count, self.config.mesh.data)
        padded = [*self.configs, *[self.configs[-1]] * (self.placement.padded - self.count)]
        self.tasks = [sequences[c.seed] for c in padded]  # "R T"
        self.total = len(self.tasks[0])
        self.union, self.first = approach.union, sum(self.config.extends.tasks)
        self.model = model
        self.streamed = device_memory.streams(self.config, self.tasks[0], approach.union)
        self.hyper = self.placement.put(
            jax.tree.map(lambda *v: np.stack(v), *map(train.hyperparameters, padded))
        )
        self._sequences = sequences
        self._fingerprints: dict[int, dict[str, str]] = {}  # by seed
        self._version = [list(sequences).index(c.seed) for c in padded]
        self._seeds = self.placement.put(np.array([c.seed for c in padded], np.uint32))
        self._fold = jax.jit(
            jax.vmap(lambda seed, i: jax.random.fold_in(keys.key(seed), i), (0, None))
        )
        self._lengths = {
            "train": self._length("train", self.config.batch, self.union),
            "valid": self._length("valid", self.config.eval_batch, self.union),
            "test": self._length("test", self.config.eval_batch),
        }

    def key(self, i: int) -> Array:
        """The i-th random key "R" of each run: 0 for the parameters, t + 1 for task t."""
        return self._fold(self._seeds, i)

    def turn(self, t: int) -> Turn:
        """Task t, and its row in the per-task arrays of each run."""
        rows = np.array([sequence[t].row for sequence in self.tasks], np.int32)
        return Turn(self.placement.put(rows), self.placement.put(np.int32(t), shared=True))

    def data(self, t: int, split: str) -> Data | Stream:
        """Task t's `split`; joint training adds earlier tasks, except for "test".

        On the devices, or a Stream: in training one of its own order for each run.
        """
        union = self.union and split != "test"
        if not self.streamed:
            each = [
                feed.pad(sequence, t, split, self._lengths[split], union)
                for sequence in self._sequences.values()
            ]
            return self.placement.data(feed.stack(each, self._version))
        versions, version = [*self._sequences.values()], self._version
        if split == "train":
            versions, version = self.tasks, [*range(len(self.tasks))]
        length = self._lengths[split]
        return streaming.put(self.placement, versions, version, t, split, length, union)

    def batches(self, r: int, t: int) -> int:
        """The number of batches in an epoch of run r on task t."""
        return math.ceil(feed.count(self.tasks[r], t, "train", self.union) / self.config.batch)

    def single_run(self, r: int, t: int) -> tuple[Data | Stream, Turn]:
        """The training data and turn of run r in task t, without the axis R of runs."""
        put = streaming.put_alone if self.streamed else feed.put
        sequence = self.tasks[r]
        data = put(sequence, t, "train", self._lengths["train"], self.union)
        return data, feed.turn(sequence, t)

    def of_run(self, r: int, tree: Tree) -> Tree:
        """Run r's slice of a tree "R ...", on the host."""
        return jax.tree.map(lambda x: np.asarray(x[r]), tree)

    def fingerprints(self, r: int) -> dict[str, str]:
        """The fingerprint of each task's images and labels in run r, by the task's name."""
        seed = self.configs[r].seed
        if seed not in self._fingerprints:
            self._fingerprints[seed] = fingerprints(self._sequences[seed])
        return self._fingerprints[seed]

    def _length(self, split: str, batch: int, union: bool = False) -> int:
        # Of the tasks that are only tested, nothing else is put on the device.
        first = 0 if union or split == "test" else self.first
        return max(feed.capacity(s[first:], split, batch, union) for s in self._sequences.values())
