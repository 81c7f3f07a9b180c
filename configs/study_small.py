"""All approaches on the paper's MNIST and CIFAR experiments, scaled down for two CPU cores.

    python -m hatjax.study configs/study_small.py
    python -m hatjax.study configs/study_small.py --config.seeds="(0,1,2)" --config.same=True
"""

from hatjax import plans


def get_config():
    return plans.study(
        name="study_small",
        experiments={
            "mnist2": {"epochs": 3},
            "pmnist": {"epochs": 5, "data": {"examples": 10000}},
            "cifar": {
                "epochs": 20,
                "batch": 32,
                "data": {"examples": 2000},
                "network": {"widths": (16, 32, 64, 256, 256)},
            },
        },
    )
