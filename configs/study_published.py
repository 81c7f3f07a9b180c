"""MNIST in two tasks under fidelity "code", for comparison with the published code.

    python -m hatjax.study configs/study_published.py
"""

from hatjax import plans


def get_config():
    return plans.study(
        name="study_published",
        approaches=("sgd", "ewc", "lwf", "imm_mean", "hat"),
        experiments={"mnist2": {"epochs": 3, "fidelity": "code"}},
        seeds=3,
    )
