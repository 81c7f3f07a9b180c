"""Any approach on any experiment: baseline.py:APPROACH,EXPERIMENT.

    python -m hatjax.main --config configs/baseline.py:sgd,pmnist
"""

from hatjax import config
from hatjax.errors import InputError


def get_config(arg: str = "sgd,digits"):
    approach, _, experiment = arg.partition(",")
    if not experiment:
        raise InputError(f"argument {arg!r}: expected APPROACH,EXPERIMENT, as in baseline.py:sgd,pmnist")
    return config.make(experiment, approach)
