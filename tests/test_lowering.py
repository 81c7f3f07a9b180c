"""An epoch of HAT can be compiled for GPUs and TPUs, as far as that shows on a machine without."""

import jax
import numpy as np
import pytest

from hatjax import approaches, config, networks
from hatjax.benchmark import steps
from hatjax.data import feed
from hatjax.training import keys, replicas, train
from hatjax.types import Data, Turn

FIELDS = {
    "mlp": dict(widths=(6, 5)),
    "alexnet": dict(widths=(4, 4, 4, 8, 8)),
    "convnet": dict(widths=(4, 4)),
    "resnet18": dict(widths=(2, 2, 4, 4)),
    "vit": dict(width=12, depth=2),
}
CONV = ("alexnet", "convnet", "resnet18")


def traced(name: str, count: int, **fields):
    """An epoch of so many replicas on three tasks of ten images, traced on shapes alone."""
    c = config.make("cifar", "hat", network=name)
    c.network.update(FIELDS[name] | fields)
    c.batch = c.eval_batch = 4
    image, tasks = (32, 32, 3), steps.tasks(steps.Case("alexnet", tasks=3), 10)
    approach = approaches.make(c, networks.make(c, image, (10,) * 3, count))
    functions = train.functions(c, approach)
    train_data, valid = (
        feed.stack([feed.pad(tasks, 1, split, 12)], [0] * count) for split in ("train", "valid")
    )
    turn, axes = Turn(np.ones(count, np.int32), np.int32(1)), Turn(0, None)
    hyper = jax.tree.map(lambda v: np.full(count, v), train.hyperparameters(c))

    def begin(seed, turn, hyper):
        key = keys.key(seed)
        return functions.begin(*functions.init(key), turn, key, hyper)

    state = jax.eval_shape(
        replicas.over(count, begin, 0, axes, 0), np.arange(count, dtype=np.uint32), turn, hyper
    )
    epoch = replicas.over(count, functions.epoch, 0, Data, Data, axes, 0)
    return jax.jit(epoch, donate_argnums=0).trace(state, train_data, valid, turn, hyper)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("count", [1, 3])
def test_an_epoch_lowers_for_accelerators(name, count):
    """One replica with native convolutions and several with patches, as an accelerator has them."""
    conv = dict(conv="native" if count == 1 else "patches") if name in CONV else {}
    epoch = traced(name, count, **conv)
    for platform in ("cuda", "tpu"):
        text = epoch.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.while" in text and "callback" not in text
        assert ("stablehlo.convolution" in text) == (conv.get("conv") == "native")
