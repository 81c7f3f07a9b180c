"""Any approach on any experiment: baseline.py:APPROACH,EXPERIMENT[,same][,NETWORK].

    python -m hatjax.main --config configs/baseline.py:sgd,pmnist
    python -m hatjax.main --config configs/baseline.py:ewc,cifar100,resnet18
    python -m hatjax.main --config configs/baseline.py:packnet,fashion_mnist-split5,same

EXPERIMENT may also be NAME-splitCOUNT or NAME-permutedCOUNT: any image set in the data root, in so
many tasks by class or of permuted pixels.

In the MNIST experiments and on image sets of your own all approaches but HAT and AdaHAT use the
published baselines' network, 3 x 800 units; "same" gives them HAT's, 2 x 2000. NETWORK replaces
that of the experiment: mlp, alexnet, convnet, resnet18, resnet34 or vit.
"""

from hatjax import config
from hatjax.errors import InputError


def get_config(arg: str = "sgd,digits"):
    approach, _, rest = arg.partition(",")
    experiment, *more = rest.split(",")
    same = more[:1] == ["same"]
    network = more[1:] if same else more
    if not approach or not experiment or len(network) > 1:
        raise InputError(
            f"argument {arg!r}: expected APPROACH,EXPERIMENT, and optionally same and a NETWORK, "
            "as in baseline.py:sgd,pmnist"
        )
    return config.make(experiment, approach, same, *network)
