"""Configurations: every field, its default, its meaning, what it may be.

    making          every field with its default; configurations by name
    experiments     data, tasks, network and schedule of each experiment
    registry        approaches and networks by name, each with the fields of its own file
    ranges          what a field may be
    checks          whether a configuration can be used
    grid            fields and values that a sweep tries
    text            as dotted paths and as JSON; values as a user writes them
    file            configuration files, by path or by name

configs/*.py build theirs with `make(experiment, approach)` and change what they like. No heavy
import is allowed here, so that `--help` answers at once.
"""

from hatjax.config.checks import (
    FREE,
    LATER,
    check,
    chosen_by,
    completed,
    other_approach,
    traced,
)
from hatjax.config.experiments import EXPERIMENTS, FIVE, MIXTURE
from hatjax.config.making import (
    choose,
    choose_network,
    free_types,
    in_tasks,
    is_of_set,
    make,
    of_arrays,
    of_set,
    usual,
)
from hatjax.config.registry import APPROACHES, NETWORKS, ApproachSpec, NetworkSpec, NoSettings
from hatjax.config.text import DEPTH, fields, from_json, literal, split, to_json

__all__ = [
    "APPROACHES", "DEPTH", "EXPERIMENTS", "FIVE", "FREE", "LATER", "MIXTURE", "NETWORKS",
    "ApproachSpec", "NetworkSpec", "NoSettings", "check", "choose", "choose_network", "chosen_by",
    "completed", "fields", "free_types", "from_json", "in_tasks", "is_of_set", "literal", "make",
    "of_arrays", "of_set", "other_approach", "split", "to_json", "traced", "usual",
]  # fmt: skip
