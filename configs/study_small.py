"""All approaches on the paper's MNIST and CIFAR experiments, scaled down for two CPU cores.

    python -m hatjax.study configs/study_small.py
    python -m hatjax.study configs/study_small.py --config.seeds=3 --config.same=True
"""

from hatjax import plans


def get_config():
    return plans.study(
        name="study_small", scale="small", experiments={"mnist2": {}, "pmnist": {}, "cifar": {}}
    )
