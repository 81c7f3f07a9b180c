"""Runs that one program trains: their settings, and their tasks as the program takes them."""

import math
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax.data import feed
from hatjax.data.tasks.fingerprint import fingerprints
from hatjax.training import keys, replicas, train
from hatjax.types import Approach, Array, Data, Task, Tree, Turn


class Group:
    """Runs by workdir; `sequences` are the tasks of each seed among them.

    R counts the runs and those that only fill up equal shares of the devices, copies of the last.
    """

    def __init__(
        self,
        runs: dict[Path, ConfigDict],
        sequences: dict[int, list[Task]],
        approach: Approach,
    ):
        self.places, self.settings, self.count = list(runs), list(runs.values()), len(runs)
        self.config = self.settings[0]  # where they do not differ
        self.placement = replicas.Placement(self.count)
        padded = [*self.settings, *[self.settings[-1]] * (self.placement.padded - self.count)]
        self.tasks = [sequences[c.seed] for c in padded]  # "R T"
        self.names = [task.name for task in self.tasks[0]]
        self.total = len(self.names)
        self.union = approach.union
        self.hyper = self.placement.put(
            jax.tree.map(lambda *v: np.stack(v), *map(train.hyperparameters, padded))
        )
        self._sequences = sequences
        self._known: dict[int, dict[str, str]] = {}  # fingerprints by seed
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
        """Task t, and its row in each run."""
        rows = np.array([sequence[t].row for sequence in self.tasks], np.int32)
        return Turn(self.placement.put(rows), self.placement.put(np.int32(t), shared=True))

    def data(self, t: int, split: str) -> Data:
        """Task t's `split` on the devices, in joint training with those before but to test."""
        union = self.union and split != "test"
        each = [
            feed.pad(sequence, t, split, self._lengths[split], union)
            for sequence in self._sequences.values()
        ]
        return self.placement.data(feed.stack(each, self._version))

    def batches(self, r: int, t: int) -> tuple[int, int]:
        """The number of batches and of examples that run r has in an epoch of task t."""
        n = feed.count(self.tasks[r], t, "train", self.union)
        return math.ceil(n / self.config.batch), n

    def alone(self, r: int, t: int) -> tuple[Data, Turn]:
        """What run r trains on, as one run on its own takes it, without the axis R."""
        sequence = self.tasks[r]
        length = self._lengths["train"]
        return feed.put(sequence, t, "train", length, self.union), feed.turn(sequence, t)

    def one(self, r: int, tree: Tree) -> Tree:
        """What a tree that was fetched holds of run r."""
        return jax.tree.map(lambda x: np.asarray(x[r]), tree)

    def fingerprints(self, r: int) -> dict[str, str]:
        """What the tasks of run r are, by name."""
        seed = self.settings[r].seed
        if seed not in self._known:
            self._known[seed] = fingerprints(self._sequences[seed])
        return self._known[seed]

    def _length(self, split: str, batch: int, union: bool = False) -> int:
        return max(feed.capacity(s, split, batch, union) for s in self._sequences.values())
