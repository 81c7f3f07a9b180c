"""The experiments: data, tasks, network and schedule of each, by name."""

from typing import Any

# HAT's network in the MNIST experiments, and the smaller one of the published baselines.
_MLP: dict[str, Any] = dict(name="mlp")
_MLP_BASELINE: dict[str, Any] = dict(name="mlp", widths=(800, 800, 800), dropout_in=0.0)
_PAPER: dict[str, Any] = dict(
    lr=0.05, lr_factor=3.0, lr_patience=5, lr_min=1e-4, epochs=200, batch=64
)

# The paper's eight data sets, in the published code's order, which the seed then shuffles.
MIXTURE = (
    "cifar10", "cifar100", "mnist", "svhn", "fashion_mnist", "gtsrb", "facescrub", "notmnist",
)  # fmt: skip

FIVE = ("cifar10", "mnist", "svhn", "fashion_mnist", "notmnist")

# Of each experiment:
#
#   data, tasks, schedule   fields of the configuration; those that are absent have usual values
#   network                 the name of the network, and what differs from its defaults
#   baseline                the smaller network of the published baselines, if they have one
#   expand, expand_baseline config.network.expand of the approaches that have it, so that their
#                           networks are as large as the others': for AlexNet published (the
#                           approaches' defaults), for the MLPs computed
#   approaches              what differs from an approach's defaults
EXPERIMENTS: dict[str, dict[str, Any]] = {
    # Ten permutations of scikit-learn's handwritten digits, 8x8: no download, under a minute.
    "digits": dict(
        data=dict(sets=("digits",)),
        tasks=dict(kind="permuted", count=10),
        network=_MLP | dict(widths=(400, 400), dropout_in=0.0, dropout=0.2),
        expand=dict(progressive=1.05, pathnet=0.222),
        # Ten tasks fill this small network: units are asked for more sparingly. They start open,
        # since a task has few steps to learn in.
        approaches=dict.fromkeys(("hat", "adahat"), dict(c=1.5, gate_init="uniform")),
        schedule=_PAPER | dict(epochs=40, batch=32),
    ),
    # MNIST's digits 0-4, then 5-9 (paper appendix).
    "mnist2": dict(
        data=dict(sets=("mnist",)),
        tasks=dict(kind="split", count=2, shuffle=False),
        network=_MLP,
        expand=dict(progressive=0.911, pathnet=0.159),
        baseline=_MLP_BASELINE,
        expand_baseline=dict(progressive=0.955, pathnet=0.147),
        schedule=_PAPER,
    ),
    # Ten permutations of MNIST (paper appendix).
    "pmnist": dict(
        data=dict(sets=("mnist",)),
        tasks=dict(kind="permuted", count=10),
        network=_MLP,
        expand=dict(progressive=0.985, pathnet=0.163),
        baseline=_MLP_BASELINE,
        expand_baseline=dict(progressive=1.087, pathnet=0.151),
        schedule=_PAPER,
    ),
    # CIFAR-10 in 5 tasks of 2 classes and CIFAR-100 in 5 of 20, in random order (paper appendix).
    "cifar": dict(
        data=dict(sets=("cifar10", "cifar100")),
        tasks=dict(kind="split", count=5, valid_code=0.10),
        network=dict(name="alexnet"),
        schedule=_PAPER,
    ),
    # CIFAR-100 in tasks of classes in a row, in random order.
    "cifar100": dict(
        data=dict(sets=("cifar100",)),
        tasks=dict(kind="split", count=10, valid_code=0.10),
        network=dict(name="alexnet"),
        schedule=_PAPER,
    ),
    # Five image sets, each a task, in random order (Ebrahimi et al., ECCV 2020).
    "5datasets": dict(
        data=dict(sets=FIVE, image=(32, 32, 3)),
        tasks=dict(kind="split", count=1, valid_code=0.15),
        network=dict(name="alexnet"),
        schedule=_PAPER,
    ),
    # 200 classes of ImageNet, 64 x 64 pixels.
    "tinyimagenet": dict(
        data=dict(sets=("tiny-imagenet-200",)),
        tasks=dict(kind="split", count=10, valid_code=0.10),
        network=dict(name="resnet18"),
        schedule=_PAPER,
    ),
    # Eight image sets, each a task, in random order (paper section 4.1).
    "mixture": dict(
        data=dict(sets=MIXTURE, image=(32, 32, 3)),
        tasks=dict(kind="split", count=1, valid_code=0.15),
        network=dict(name="alexnet"),
        schedule=_PAPER,
    ),
    # One set of the mixture alone: how few weights learn it (paper section 4.4).
    "compression": dict(
        data=dict(sets=("cifar10",), image=(32, 32, 3)),
        tasks=dict(kind="split", count=1, valid_code=0.15),
        network=dict(name="alexnet"),
        approaches=dict(hat=dict(c=1.5, gate_init="uniform")),
        schedule=_PAPER,
    ),
}
