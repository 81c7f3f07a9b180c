"""The time of a training step, the overhead of HAT, and the distance to the hardware limit.

`python -m hatjax.benchmark --help` lists the measurements.
"""
