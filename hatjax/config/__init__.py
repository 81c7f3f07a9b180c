"""Configurations: every field, its default, its meaning, what it may be.

    making          every field with its default; configurations by name
    experiments     data, tasks, network and schedule of each experiment
    registry        approaches and networks by name, each with the fields of its own file
    ranges          what a field may be
    checks          whether a configuration can be used
    text            as dotted paths and as JSON

configs/*.py build theirs with `make(experiment, approach)` and change what they like. No heavy
import is allowed here, so that `--help` answers at once.
"""

from hatjax.config.checks import FREE, LATER, check, completed, traced
from hatjax.config.experiments import EXPERIMENTS, FIVE, MIXTURE
from hatjax.config.making import choose, choose_network, in_tasks, make, of_arrays, of_set
from hatjax.config.registry import APPROACHES, NETWORKS, ApproachSpec, NetworkSpec, NoSettings
from hatjax.config.text import DEPTH, fields, from_json, to_json

__all__ = [
    "APPROACHES", "DEPTH", "EXPERIMENTS", "FIVE", "FREE", "LATER", "MIXTURE", "NETWORKS",
    "ApproachSpec", "NetworkSpec", "NoSettings", "check", "choose", "choose_network", "completed",
    "fields", "from_json", "in_tasks", "make", "of_arrays", "of_set", "to_json", "traced",
]  # fmt: skip
