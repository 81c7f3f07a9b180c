"""All approaches on split and on permuted MNIST, three seeds, with the report at the end.

    python -m hatjax.study configs/study_mnist.py                        scaled down
    python -m hatjax.study configs/study_mnist.py --config.scale=paper   the paper's protocol

--dry_run lists the runs. Scaled down (plans.SCALES), most take minutes on two CPU cores.
"""

from hatjax import plans


def get_config():
    return plans.study(
        name="study_mnist",
        scale="small",
        seeds=3,
        experiments={"mnist2": {}, "pmnist": {}},
    )
