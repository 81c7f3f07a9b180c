"""HAT on CIFAR-100 in tasks of different classes: hat_cifar100.py:COUNT,NETWORK.

    python -m hatjax.main --config configs/hat_cifar100.py                  10 tasks, AlexNet
    python -m hatjax.main --config configs/hat_cifar100.py:20,resnet18      20 tasks, ResNet-18

For any other approach: configs/baseline.py:ewc,cifar100,resnet18 --config.tasks.count=20
"""

from hatjax import config


def get_config(arg: str = "10,alexnet"):
    return config.in_tasks("cifar100", arg, "hat")
