"""The paper: its Table 1 and all its figures, from ten seeds.

    python -m hatjax.study configs/study_paper.py --dry_run
    python -m hatjax.study configs/study_paper.py
    python -m hatjax.study configs/study_paper.py --config.scale=small --config.seeds=1

The mixture of eight image sets gives Table 1, Fig. 3, 5 and 6, and with a grid over s_max and c
Fig. 4; one set alone Fig. 7; incremental CIFAR, permuted and split MNIST are the appendix. It is
meant for GPUs: up to 200 epochs a task, mostly with AlexNet.
"""

from hatjax import config, plans


def get_config():
    grid = "approach.s_max=25,100,400,800 approach.c=0.1,0.75,2.5,4"
    compression = {
        f"compression-{name}": {"approaches": ("hat",), "data": {"sets": (name,)}}
        for name in config.MIXTURE
    }
    return plans.study(
        name="study_paper",
        approaches=plans.PAPER,
        seeds=10,
        experiments={
            "mixture": {"grid": {"hat": grid}},
            **compression,
            "cifar": {},
            "pmnist": {},
            "mnist2": {},
        },
    )
