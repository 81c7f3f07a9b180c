"""HAT on TinyImageNet, 200 classes of 64 x 64 pixels, in tasks: hat_tinyimagenet.py:COUNT,NETWORK.

    python -m hatjax.main --config configs/hat_tinyimagenet.py              10 tasks, ResNet-18
    python -m hatjax.main --config configs/hat_tinyimagenet.py:20,resnet34

It is not downloaded: unpack tiny-imagenet-200.zip in the data root. Its folder is read as it is;
folders tiny-imagenet-200/train/CLASS and tiny-imagenet-200/test/CLASS work too.
"""

from hatjax import config


def get_config(arg: str = "10,resnet18"):
    return config.in_tasks("tinyimagenet", arg, "hat")
