"""README's figure, from the runs in docs/results: python docs/figure.py [FILE]."""

import sys
from pathlib import Path

import numpy as np

from hatjax.report import figures, style

HERE = Path(__file__).parent
RUNS = HERE / "results" / "cifar-half"


def main(file: str | Path = HERE / "forgetting.png") -> None:
    """Accuracy on the first of ten tasks while the others are learned: HAT, SGD, EWC."""
    runs = {
        name: [np.load(run / "accuracy.npy") for run in sorted((RUNS / name).glob("seed*"))]
        for name in ("hat", "sgd", "ewc")
    }
    with style.context():
        figures.forgetting(runs).savefig(file)


if __name__ == "__main__":
    if any(word.startswith("-") for word in sys.argv[1:]) or len(sys.argv) > 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
