"""HAT on permutations of any image set in the data root: hat_permuted.py:NAME,COUNT.

    python -m hatjax.main --config configs/hat_permuted.py:fashion_mnist,10

For any other approach: configs/baseline.py:ewc,fashion_mnist-permuted10,same
"""

from hatjax import config


def get_config(arg: str = "digits,10"):
    return config.of_set(arg, "permuted", "hat")
