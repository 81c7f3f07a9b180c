"""HAT on the mixture of eight image sets, each a task (paper section 4.1).

    python -m hatjax.main --config configs/hat_mixture.py
    python -m hatjax.main --config configs/hat_mixture.py --config.data.sets="('mnist','gtsrb')"

config.data.sets can also name your own sets: NAME.npz or folders of images in the data root.
"""

from hatjax import config


def get_config():
    return config.make("mixture", "hat")
