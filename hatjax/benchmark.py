"""Time a HAT step against an SGD step on the same network, both as they run in a compiled epoch.

    python -m hatjax.benchmark --widths=2000,2000 --batch=64

Prints the milliseconds a step of both, and the median ratio of interleaved pairs: on a noisy
machine the ratio within a pair is what can be trusted.
"""

import time
from collections.abc import Callable

from absl import app, flags

WIDTHS = flags.DEFINE_list("widths", ["2000", "2000"], "Units of the hidden layers.")
INPUTS = flags.DEFINE_integer("inputs", 28, "Pixels on a side of the grey images.")
BATCH = flags.DEFINE_integer("batch", 64, "Examples a step.")
STEPS = flags.DEFINE_integer("steps", 50, "Steps timed at once.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Interleaved pairs of timings.")
TASKS = flags.DEFINE_integer("tasks", 10, "Tasks that the network has heads and embeddings for.")


def one_pass(approach: str) -> Callable[[], None]:
    """A function that runs `steps` compiled training steps and waits for them."""
    import jax
    import numpy as np

    from hatjax import approaches, config, feed, networks, train
    from hatjax.types import Split, Task

    c = config.make("pmnist", approach)
    c.network.widths = tuple(int(w) for w in WIDTHS.value)
    c.batch = BATCH.value
    n, side = BATCH.value * STEPS.value, INPUTS.value
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, side, side, 1), np.uint8)
    split = Split(x, rng.integers(0, 10, n).astype(np.int32))
    mean, std = np.full(1, 127.0), np.full(1, 74.0)
    tasks = [Task(str(t), 10, split, split, split, mean, std) for t in range(TASKS.value)]
    network = networks.make(c, x.shape[1:], (10,) * TASKS.value)
    method = approaches.make(c, network)
    program, hyper = train.compile(c, method), train.hyperparameters(c)
    key = jax.random.key(0)
    data = feed.put(tasks, 0, "train", n)
    # Timed in the second task, where HAT has a past to protect.
    state = program.begin(*program.init(key), 1, key, hyper)
    order = jax.jit(feed.shuffle)(key, data)
    steps = jax.jit(
        lambda state, data, order: train.run_steps(c, method, state, data, order, 1, key, hyper)[0],
        donate_argnums=0,
    )
    box = [state]

    def run() -> None:
        box[0] = jax.block_until_ready(steps(box[0], data, order))

    return run


def main(_: list[str]) -> None:
    import jax
    import numpy as np

    passes = {name: one_pass(name) for name in ("hat", "sgd")}
    for run in passes.values():
        run()  # compiles
        run()
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(ROUNDS.value):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / STEPS.value)
    ratio = np.array(times["hat"]) / np.array(times["sgd"])
    print(f"widths {','.join(WIDTHS.value)}, batch {BATCH.value}, {jax.devices()[0].device_kind}")
    for name, t in times.items():
        print(f"{name:4} {1e3 * np.median(t):8.2f} ms a step (best {1e3 * min(t):.2f})")
    print(f"hat / sgd {np.median(ratio):.3f} (pairs {ratio.min():.3f} to {ratio.max():.3f})")


if __name__ == "__main__":
    app.run(main)
