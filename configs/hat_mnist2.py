"""HAT on MNIST in two tasks, digits 0-4 and 5-9 (paper appendix; 99.0 % there).

    python -m hatjax.main --config configs/hat_mnist2.py --config.epochs=3
"""

from hatjax import config


def get_config():
    return config.make("mnist2", "hat")
