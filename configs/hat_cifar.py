"""HAT on CIFAR-10 in 5 tasks of 2 classes and CIFAR-100 in 5 of 20, shuffled (paper appendix).

    python -m hatjax.main --config configs/hat_cifar.py
    python -m hatjax.main --config configs/hat_cifar.py --config.data.examples=1000
"""

from hatjax import config


def get_config():
    return config.make("cifar", "hat")
