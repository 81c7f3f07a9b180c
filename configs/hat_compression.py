"""HAT as a compressor: one image set, c 1.5, embeddings from U(0, 2) (paper section 4.4).

    python -m hatjax.main --config configs/hat_compression.py:mnist

The argument is the name of any image set. The paper keeps 1 % (MNIST) to 21 % (CIFAR-100) of the
weights.
"""

from hatjax import config


def get_config(arg: str = "cifar10"):
    c = config.make("compression", "hat")
    c.experiment = f"compression-{arg}"
    c.data.sets = (arg,)
    return c
