"""HAT on ten permutations of scikit-learn's handwritten digits (8x8): the default, no download.

    python -m hatjax.main
"""

from hatjax import config


def get_config():
    return config.make("digits", "hat")
