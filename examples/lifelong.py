"""A network that learns for life: tasks are added, found, forgotten and taken out.

    python examples/lifelong.py FOLDER

One process learns three tasks, pairs of scikit-learn's handwritten digits, and saves them. Another
loads them, adds two, classifies digits without being told of which task they are, forgets a task on
purpose and exports the network of another.
"""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from sklearn.datasets import load_digits

import hatjax
from hatjax import export

x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8).astype(np.uint8)


def task(first: int) -> tuple:
    """The digits `first` and first + 1: x_train, y_train, x_test, y_test."""
    mine = (y == first) | (y == first + 1)
    images, labels = x[mine], y[mine].astype(str)
    return images[:250], labels[:250], images[250:], labels[250:]


pairs = [task(first) for first in (0, 2, 4, 6, 8)]
tests = [pair[2:] for pair in pairs]
settings = {"epochs": 20, "network": {"widths": (150, 150)}, "quiet": True, "approach.c": 1.5}


def learn(folder: Path) -> None:
    """Three tasks, in the workdir `first`."""
    result = hatjax.fit(pairs[:3], workdir=folder / "first", **settings)
    print(f"three tasks learned: {result.accuracy[-1].round(3)}")


def go_on(folder: Path) -> None:
    """Two more, in the workdir `second`; the first one stays as it is."""
    model = hatjax.load(folder / "first")
    before = [np.asarray(hatjax.predict(model, x, t)) for t, (x, _) in enumerate(tests[:3])]
    where = folder / "second"
    result = hatjax.extend(model, pairs[3:], earlier=tests[:3], workdir=where, quiet=True)
    after = [np.asarray(hatjax.predict(result.model, x, t)) for t, (x, _) in enumerate(tests[:3])]
    moved = max(np.abs(a - b).max() for a, b in zip(after, before, strict=True))
    print(f"five tasks: {result.accuracy[-1].round(3)}; earlier logits moved by {moved:.1e}")

    for t, (images, labels) in enumerate(tests):
        found = hatjax.predict(result.model, images, names=True)
        print(
            f"digits {2 * t} and {2 * t + 1}, untold: task found {np.mean(found.task == t):.1%}, "
            f"digit right {np.mean(found.label == labels):.1%}"
        )

    without = hatjax.forget_task(result.model, 1, jax.random.key(0))
    print(f"task 1 forgotten; left: {[t for t, there in enumerate(without.learned) if there]}")
    kept = [hatjax.evaluate(without, *tests[t], t) for t in (0, 2, 3, 4)]
    print(f"the others: {np.round(kept, 3)}")

    small, where = hatjax.cut(without, 4), folder / "eights-and-nines"
    where.mkdir()
    export.save(where, small, report={})
    again = export.load(where)
    right = np.mean(np.argmax(export.predict(again, tests[4][0]), -1) == (tests[4][1] == "9"))
    print(f"the network of task 4 alone: {right:.1%} right")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        {"learn": learn, "go_on": go_on}[sys.argv[2]](Path(sys.argv[1]))
    elif len(sys.argv) == 2:
        for part in ("learn", "go_on"):
            subprocess.run([sys.executable, __file__, sys.argv[1], part], check=True)
    else:
        sys.exit(__doc__)
