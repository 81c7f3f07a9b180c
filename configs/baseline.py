"""Any approach on any experiment: baseline.py:APPROACH,EXPERIMENT[,same].

    python -m hatjax.main --config configs/baseline.py:sgd,pmnist

In the MNIST experiments the published baselines have a network of their own, 3 x 800 units; "same"
gives them HAT's, 2 x 2000.
"""

from hatjax import config
from hatjax.errors import InputError


def get_config(arg: str = "sgd,digits"):
    match arg.split(","):
        case [approach, experiment]:
            return config.make(experiment, approach)
        case [approach, experiment, "same"]:
            return config.make(experiment, approach, same=True)
    raise InputError(
        f"argument {arg!r}: expected APPROACH,EXPERIMENT or APPROACH,EXPERIMENT,same, as in "
        "baseline.py:sgd,pmnist"
    )
