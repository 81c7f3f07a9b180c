"""ResNet-34: ResNet-18 with more blocks in its stages."""

import functools

from hatjax.config import NetworkSpec
from hatjax.networks.architectures import resnet18

make = functools.partial(resnet18.make, (3, 4, 6, 3))
NETWORK = NetworkSpec(make, resnet18.FIELDS, resnet18.RANGES, later=resnet18.LATER)
