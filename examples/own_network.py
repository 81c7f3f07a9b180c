"""Your own network in hatjax.fit: any Flax module, here a nested one with batch norms.

    python examples/own_network.py

Learns the handwritten digits 0-4, then 5-9. The module declares its gated layers (`units`) and
the axes of its parameters on which their gates lie (`rules`); each task has its own norms. hatjax
does the rest: protected training, evaluation, results on disk. To use the network with the
commands, call hatjax.register in a configuration file.
"""

import flax.linen as nn
import numpy as np
from sklearn.datasets import load_digits

import hatjax as hj


class Block(nn.Module):
    """A convolution, a norm and ReLU. The gate comes last: a norm would reopen closed units."""

    filters: int

    @nn.compact
    def __call__(self, x, a, train):
        h = nn.Conv(self.filters, (3, 3), name="conv")(x)
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(h)
        return nn.relu(h) * a


class Mine(nn.Module):
    """Images "b h w c" -> features "b 64"."""

    units = {"first": 24, "second": 32, "fc": 64}
    rules = {
        r"block1/conv/kernel": (None, None, None, "first"),
        r"block1/conv/bias": ("first",),
        r"block2/conv/kernel": (None, None, "first", "second"),
        r"block2/conv/bias": ("second",),
        r"block\d/norm/.*": hj.PER_TASK,
        r"fc/kernel": ("second", "fc"),  # flattened: the gate repeats along the axis
        r"fc/bias": ("fc",),
    }

    @nn.compact
    def __call__(self, x, gates, train):
        h = Block(24, name="block1")(x, gates["first"], train)
        h = nn.max_pool(h, (2, 2), (2, 2))
        h = Block(32, name="block2")(h, gates["second"], train)
        h = nn.max_pool(h, (2, 2), (2, 2))
        return nn.relu(nn.Dense(64, name="fc")(h.reshape(len(h), -1))) * gates["fc"]


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8).astype(np.float32)
    sets = [
        (x[a][:700], y[a][:700] - low, x[a][700:], y[a][700:] - low)
        for low in (0, 5)
        for a in [(low <= y) & (y < low + 5)]
    ]
    result = hj.fit(
        sets, network=Mine(), optimizer="momentum", lr=0.01, epochs=15, batch=32, quiet=True
    )
    for t, row in enumerate(result.accuracy):
        print(f"after task {t + 1}:", *(f"{accuracy:.1%}" for accuracy in row[: t + 1]))
    print("gates of task 1:", {k: int(a.sum()) for k, a in hj.task_masks(result.model, 0).items()})


if __name__ == "__main__":
    main()
