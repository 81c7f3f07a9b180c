"""How long a training step takes, what of that is HAT's, and how far it is from the limit.

`python -m hatjax.benchmark --help` tells what can be measured.
"""
