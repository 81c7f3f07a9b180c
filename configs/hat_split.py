"""HAT on any image set in the data root, split into tasks by class: hat_split.py:NAME,COUNT.

    python -m hatjax.main --config configs/hat_split.py:mnist,5

For any other approach: configs/baseline.py:ewc,mnist-split5,same
"""

from hatjax import config


def get_config(arg: str = "digits,5"):
    return config.of_set(arg, "split", "hat")
