"""Configurations by name: every field, its default and what it means."""

import re
from typing import Any

from ml_collections import ConfigDict, FieldReference

from hatjax.config import ranges
from hatjax.config.experiments import EXPERIMENTS
from hatjax.config.registry import APPROACHES, NETWORKS
from hatjax.errors import InputError, unknown

OF_SET = re.compile(r"(.+)-(split|permuted)([0-9]{1,9})")  # an experiment on any image set


def make(
    experiment: str, approach: str, same: bool = False, network: str | None = None
) -> ConfigDict:
    """The configuration of an experiment and an approach by name; InputError if one is unknown.

    Besides EXPERIMENTS there is one for any image set in the data root and any number of tasks:
    "cifar10-split5", by class, and "cifar10-permuted10", of permuted pixels.

    In the MNIST experiments all approaches but HAT and AdaHAT have a smaller network, with a third
    of its parameters, as in the published code; `same` gives them HAT's. `network` is one of
    NETWORKS in place of the experiment's.
    """
    if parts := OF_SET.fullmatch(experiment):
        name, kind, count = parts.groups()
        c = make("digits" if name == "digits" else "pmnist", approach, same, network)
        c.experiment, c.data.sets = experiment, (name,)
        c.tasks.kind, c.tasks.count = kind, int(count)
        return c
    if network is not None and network not in NETWORKS:
        raise unknown("network", network, NETWORKS)
    if experiment not in EXPERIMENTS:
        raise InputError(
            f"{unknown('experiment', experiment, EXPERIMENTS)} On any image set: NAME-split5, by "
            "class, or NAME-permuted10"
        )
    if approach not in APPROACHES:
        raise unknown("approach", approach, APPROACHES)
    e, spec = EXPERIMENTS[experiment], APPROACHES[approach]
    if network is not None:
        c = make(experiment, approach, same)
        choose_network(c, network)
        return c
    smaller = "baseline" in e and spec.smaller and not same
    layout = e["baseline" if smaller else "network"]
    expand = e.get("expand_baseline" if smaller else "expand", {})
    own = e.get("approaches", {}).get(approach, {})
    c = ConfigDict(
        dict(
            experiment=experiment,  # a name for results
            seed=0,  # of permutations, task order, held-out share, parameters, shuffling, dropout
            seeds=1,  # run so many at once: seed, seed + 1, ...; or those of a tuple, as (0, 5)
            grid="",  # and these settings, each with each: "approach.s_max=25,400 approach.c=0.1,1"
            at_once=0,  # at most so many of them in one program; 0: as many as the memory holds
            fidelity="paper",  # "paper": the equations; "code": the published code with its defects
            data=dict(
                root="",  # folder of image sets; "": $HATJAX_DATA, else the user's cache folder
                sets=e["data"]["sets"],  # names of the image sets
                image=e["data"].get("image", ()),  # make them (h, w, channels); (): as they are
                examples=0,  # use at most so many training images a task; 0: all
                augment=(),  # of the training images, anew in every epoch: "crop", "flip"
                # Whether images stay on the host and go to the device a stretch of batches at a
                # time: "yes", "no", or "auto", where a task's take more than half of its memory.
                stream="auto",
            ),
            tasks=dict(
                kind=e["tasks"]["kind"],  # "permuted" (pixels) or "split" (by class)
                count=e["tasks"]["count"],  # of permutations, or for each image set; 1: a whole set
                shuffle=e["tasks"].get("shuffle", True),  # order the tasks by the seed
                valid=0.15,  # share of the training images held out for the schedule
                # The same under fidelity "code"; 0: the training images themselves serve.
                valid_code=e["tasks"].get("valid_code", 0.0),
            ),
            extends=dict(
                run="",  # the workdir of a finished run, whose tasks come before these (--extend)
                # How many tasks that run added, and each run before it, the first one first. It is
                # filled in: the first run's number also sets the widths of a progressive network.
                tasks=(),
            ),
            network=dict(name=layout["name"])
            | dict(NETWORKS[layout["name"]].fields)
            | layout
            | dict(spec.network)
            | ({"expand": expand[approach]} if approach in expand else {}),
            # A name of optax, or "momentum", "nesterov"; its arguments are fields, too:
            # --config.optimizer.name=adamw --config.optimizer.weight_decay=0.05
            optimizer=dict(name="sgd"),
            approach=dict(name=approach) | spec.fields() | own,
            schedule="plateau",  # of the learning rate in a task; or "cosine", "constant"
            lr=e["schedule"]["lr"],
            lr_factor=e["schedule"]["lr_factor"],  # lr is divided by it
            lr_patience=e["schedule"]["lr_patience"],  # after so many epochs without improvement
            lr_min=e["schedule"]["lr_min"],  # a task ends below it
            epochs=spec.epochs * e["schedule"]["epochs"],  # a task ends after so many
            batch=e["schedule"]["batch"],  # examples of a step; at most all that a task has
            eval_batch=500,  # examples at once in evaluation, likewise
            # Of matrix products and convolutions in float32: "default" is the device's own, on
            # NVIDIA's GPUs that of TensorFloat-32; "float32" is exact; or "bfloat16".
            precision="default",
            mesh=dict(
                data=1,  # devices that share each batch of a run; the others take other runs
            ),
            # After an epoch whose loss is not a number: "stop", or "lower" the learning rate by
            # lr_factor and go on from the state before that epoch.
            on_nan="stop",
            checkpoint=dict(  # saved at the end of every task, and besides
                epochs=0,  # after so many epochs of a task; 0: not by their number
                minutes=5.0,  # after the first epoch that ends so long after the last; 0: not
            ),
        )
    )
    free_types(c)
    return c


def free_types(config: ConfigDict) -> None:
    """Let the fields that have no single type (Range.any_type) take values of any.

    A ConfigDict otherwise refuses another type than that of a field's first value: it would take
    config.seeds = 3, but not (0, 5) after it.
    """
    parts = [(config, ranges.FIELDS)]
    if isinstance(network := config.get("network"), ConfigDict) and "name" in network:
        spec = NETWORKS.get(str(network.name))
        parts += [(network, dict(spec.ranges))] if spec else []
    for part, of in parts:
        for field in [k for k, r in of.items() if r.any_type and k in part]:
            value = part[field]
            del part[field]
            part[field] = FieldReference(value, field_type=object)


def is_of_set(experiment: str) -> bool:
    """Whether `make` knows the experiment as one on any image set, as "cifar10-split5"."""
    return OF_SET.fullmatch(experiment) is not None


def usual(experiment: str) -> str:
    """The experiment whose defaults `experiment` has: of a variant "pmnist-mine", "pmnist"."""
    return experiment if is_of_set(experiment) else experiment.split("-")[0]


def of_set(arg: str, kind: str, approach: str) -> ConfigDict:
    """The configuration of an argument "NAME,COUNT": an image set in so many tasks of a kind."""
    name, _, count = arg.partition(",")
    if not name or not re.fullmatch("[0-9]{1,9}", count):
        raise InputError(f"argument {arg!r}: expected NAME,COUNT, as in hat_{kind}.py:mnist,5")
    return make(f"{name}-{kind}{count}", approach)


def in_tasks(experiment: str, arg: str, approach: str) -> ConfigDict:
    """An experiment for an argument "COUNT,NETWORK": in so many tasks, with that network."""
    count, _, network = arg.partition(",")
    if not re.fullmatch("[0-9]{1,9}", count):
        raise InputError(f"argument {arg!r}: expected COUNT,NETWORK, as in 20,resnet18")
    c = make(experiment, approach, network=network or None)
    c.tasks.count = int(count)
    return c


def of_arrays(count: int, approach: str, network: object = "mlp") -> ConfigDict:
    """The configuration of so many tasks that are given as arrays (hatjax.fit).

    `network` is a name of NETWORKS; another than "mlp" has its own fields and defaults.
    """
    c = make("digits", approach)
    if network != "mlp":
        choose_network(c, network)
    c.experiment = "arrays"
    c.data.sets = ("arrays",)
    c.tasks.kind, c.tasks.count, c.tasks.shuffle = "given", count, False
    return c


def choose_network(config: ConfigDict, name: object) -> None:
    """Put a network of NETWORKS in place of another in `config`; nothing if it is there already."""
    if isinstance(name, str) and name != config.network.name and name in NETWORKS:
        approach = APPROACHES.get(config.approach.name)
        added = {} if approach is None else dict(approach.network)
        config.network = ConfigDict(dict(name=name) | dict(NETWORKS[name].fields) | added)
        free_types(config)


def choose(config: ConfigDict, changes: dict[str, Any]) -> None:
    """Give `config` the fields that {path: value} of `changes` brings with it.

    The network that "network.name" names has other fields than the one before, and the fields of an
    optimizer are whatever arguments are given: another optimizer takes none of those of the one
    before.
    """
    choose_network(config, changes.get("network.name"))
    name = changes.get("optimizer.name", config.optimizer.name)
    part = "optimizer."
    mine = {k.removeprefix(part): v for k, v in changes.items() if k.startswith(part)}
    kept = config.optimizer.to_dict() if name == config.optimizer.name else {}
    config.optimizer = ConfigDict(kept | mine | dict(name=name))
