"""HAT on ten permutations of MNIST, 2 x 2000 units (paper appendix; 98.6 % there).

    python -m hatjax.main --config configs/hat_pmnist.py --config.epochs=5
"""

from hatjax import config


def get_config():
    return config.make("pmnist", "hat")
