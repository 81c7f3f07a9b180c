"""Time a HAT step against an SGD step on the same network, both as they run in a compiled epoch.

    python -m hatjax.benchmark --network=mlp --widths=2000,2000 --batch=64
    python -m hatjax.benchmark --network=alexnet --peer=torch

Prints the milliseconds a step, and the median ratios of interleaved runs: on a noisy machine the
ratio within a round is what can be trusted. With a peer, the same steps in eager PyTorch are timed.
"""

import logging
import time
from collections.abc import Callable

from absl import app, flags

NETWORK = flags.DEFINE_enum("network", "mlp", ["mlp", "alexnet"], "Kind of network.")
WIDTHS = flags.DEFINE_list("widths", [], "Units of the layers; default: those of the paper.")
BATCH = flags.DEFINE_integer("batch", 64, "Examples a step.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 50, "Steps timed at once.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Interleaved timings.", lower_bound=1)
TASKS = flags.DEFINE_integer("tasks", 10, "Tasks that the network has rows for.", lower_bound=2)
PEER = flags.DEFINE_enum("peer", None, ["torch"], "Time these steps too.")

PAPER = {  # network -> image, widths, dropout (of the MLP: input first)
    "mlp": ((28, 28, 1), (2000, 2000), (0.2, 0.5, 0.5)),
    "alexnet": ((32, 32, 3), (64, 128, 256, 2048, 2048), (0.2, 0.2, 0.5, 0.5, 0.5)),
}


def one_pass(name: str, approach: str) -> Callable[[], None]:
    """A function that runs `steps` compiled training steps of ours and waits for them."""
    import jax
    import numpy as np
    from ml_collections import ConfigDict

    from hatjax import approaches, config, feed, networks, train
    from hatjax.types import Split, Task

    image, widths, dropout = shape(name)
    c = config.make("pmnist", approach)
    rates = dict(dropout=dropout) if name == "alexnet" else dict(dropout_in=0.2, dropout=0.5)
    c.network = ConfigDict(dict(name=name, widths=widths, **rates))
    c.batch = BATCH.value
    n = BATCH.value * STEPS.value
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, *image), np.uint8)
    split = Split(x, rng.integers(0, 10, n).astype(np.int32))
    mean, std = np.full(image[2], 127.0), np.full(image[2], 74.0)
    tasks = [Task(str(t), t, 10, split, split, split, mean, std) for t in range(TASKS.value)]
    network = networks.make(c, image, (10,) * TASKS.value)
    method = approaches.make(c, network)
    program, hyper = train.compile(c, method), train.hyperparameters(c)
    key = jax.random.key(0)
    data = feed.put(tasks, 0, "train", n)
    params, memory = program.init(key)
    # In the second task, with a past that is neither empty nor whole.
    memory = jax.tree.map(lambda a: jax.random.uniform(key, a.shape), memory)
    turn = feed.turn(tasks, 1)
    state = program.begin(params, memory, turn, key, hyper)
    order = jax.jit(feed.shuffle)(key, data)
    steps = jax.jit(
        lambda state, data, order: train.run_steps(
            c, method, state, data, order, turn, key, hyper
        )[0],
        donate_argnums=0,
    )
    box = [state]

    def run() -> None:
        box[0] = jax.block_until_ready(steps(box[0], data, order))

    return run


def shape(name: str) -> tuple:
    """Image, widths and dropout rates of the network that the flags ask for."""
    image, widths, dropout = PAPER[name]
    widths = tuple(int(w) for w in WIDTHS.value) or widths
    if name == "mlp":
        dropout = (dropout[0], *[dropout[1]] * len(widths))
    return image, widths, dropout


def main(_: list[str]) -> None:
    import jax
    import numpy as np

    logging.getLogger("jax").setLevel(logging.WARNING)  # of backends that are not there
    name = NETWORK.value
    passes = {approach: one_pass(name, approach) for approach in ("hat", "sgd")}
    if PEER.value:
        from hatjax import peer

        for approach in ("hat", "sgd"):
            passes[f"torch {approach}"] = peer.one_pass(
                name, *shape(name), TASKS.value, approach == "hat", BATCH.value, STEPS.value
            )
    for run in passes.values():
        run()  # compiles
        run()
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(ROUNDS.value):
        for label, run in passes.items():
            start = time.perf_counter()
            run()
            times[label].append((time.perf_counter() - start) / STEPS.value)
    widths = ",".join(map(str, shape(name)[1]))
    print(f"{name} {widths}, batch {BATCH.value}, {jax.devices()[0].device_kind}")
    for label, t in times.items():
        print(f"{label:10} {1e3 * np.median(t):8.2f} ms a step (best {1e3 * min(t):.2f})")
    pairs = [("hat", "sgd"), ("torch hat", "hat"), ("torch sgd", "sgd")]
    for a, b in pairs[: 3 if PEER.value else 1]:
        ratio = np.array(times[a]) / np.array(times[b])
        label = f"{a} / {b}"
        print(f"{label:17} {np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f})")


if __name__ == "__main__":
    app.run(main)
