"""HAT on five image sets, each a task: CIFAR-10, MNIST, SVHN, FashionMNIST, notMNIST.

    python -m hatjax.main --config configs/hat_5datasets.py
    python -m hatjax.main --config configs/hat_5datasets.py:resnet18
    python -m hatjax.main --config configs/hat_5datasets.py --config.data.sets="('mnist','cifar10')"

The five sets of Ebrahimi et al., ECCV 2020; config.data.sets selects some of them.
"""

from hatjax import config


def get_config(arg: str = "alexnet"):
    return config.make("5datasets", "hat", network=arg)
