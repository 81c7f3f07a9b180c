"""Every field of a configuration: its default, its meaning, what it may be.

configs/*.py build theirs with `make(experiment, approach)` and change what they like. No heavy
import is allowed here, so that `--help` answers at once.
"""

import json
import math
import os
import re
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from hatjax.errors import InputError, oneline, shown, unknown

# What an approach is made of.
APPROACHES: dict[str, dict[str, Any]] = {
    # s_max, c: paper section 3; clip, e_max, cosh_max: published code.
    "hat": dict(
        gated=True,
        s_max=400.0,  # the steepness of the gates at the end of an epoch; good: 25..800
        c=0.75,  # how dear new units are (eq. 4); good: 0.1..2.5
        clip=10000.0,  # largest global norm of a gradient
        e_max=6.0,  # bound of the embeddings
        cosh_max=50.0,  # bound of |s e| in the compensation
        gate_init="normal",  # embeddings start as "normal" N(0, 1) or "uniform" U(0, 2)
    ),
    # The others: from the published code, its defaults where the paper does not say.
    "random": dict(gated=False),
    "sgd": dict(gated=False, clip=10000.0),
    "sgd_restart": dict(gated=False, clip=10000.0),
    "sgd_frozen": dict(gated=False, clip=10000.0),
    "joint": dict(gated=False, clip=10000.0),
    "lwf": dict(
        gated=False,
        lamb=2.0,  # weight of the old heads' distillation
        temperature=1.0,  # of the distillation
        clip=100.0,
    ),
    "lfl": dict(
        gated=False,
        lamb=0.05,  # weight of the features' squared distance
        clip=200.0,
    ),
    "ewc": dict(
        gated=False,
        lamb=5000.0,  # weight of the pull, in the published code's unit (approaches/ewc.py)
        clip=100.0,
    ),
    "imm_mean": dict(
        gated=False,
        lamb=1e-4,  # weight of the pull to the last task's parameters
        clip=10000.0,
    ),
    "imm_mode": dict(
        gated=False,
        lamb=0.01,  # as in the published code, whose comment says 1
        clip=1000.0,
    ),
    "progressive": dict(gated=False, clip=10000.0),
    "pathnet": dict(
        gated=False,
        rivals=2,  # paths of a generation
        generations=20,
        clip=1000.0,
    ),
}

# Its numbers that shape the compiled program. All others are arguments of it (`traced`).
SHAPING = ("approach.rivals", "approach.generations")

# What an approach adds to the network. `expand` makes it as large as those of the others: for
# AlexNet published, for the MLPs computed (EXPERIMENTS).
ADDITIONS: dict[str, dict[str, Any]] = {
    "progressive": dict(
        expand=1.117,  # a column is expand / tasks times as wide as the network
    ),
    "pathnet": dict(
        expand=0.258,  # a module is so many times as wide as the network's layer
        modules=16,  # in each layer
        active=3,  # of them on a path
    ),
}

# HAT's network in the MNIST experiments, and the smaller one of the published baselines.
_MLP: dict[str, Any] = dict(name="mlp", widths=(2000, 2000), dropout_in=0.2, dropout=0.5)
_MLP_BASELINE: dict[str, Any] = dict(
    name="mlp", widths=(800, 800, 800), dropout_in=0.0, dropout=0.5
)
_ALEXNET: dict[str, Any] = dict(
    name="alexnet", widths=(64, 128, 256, 2048, 2048), dropout=(0.2, 0.2, 0.5, 0.5, 0.5)
)

# The networks by name, and the fields of each in config.network with their defaults. An experiment
# has its own; these are those of a network that is chosen in its place. hatjax.networks.register
# adds to them.
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {k: v for k, v in _MLP.items() if k != "name"},
    "alexnet": {k: v for k, v in _ALEXNET.items() if k != "name"},
    "convnet": dict(
        widths=(32, 64, 128),  # of the convolutions
        kernel=3,  # their side
        norm="batch",  # or "layer", "group", "none"
        dropout=0.0,
    ),
    # Of the stages: the smaller ResNet of continual learning, a third of the published widths.
    "resnet18": dict(widths=(20, 40, 80, 160), norm="batch"),
    "resnet34": dict(widths=(20, 40, 80, 160), norm="batch"),
    # ViT-Ti, for images of 32 x 32.
    "vit": dict(
        patch=4,  # side of the patches in pixels
        width=192,
        depth=12,
        heads=3,
        mlp=4,  # hidden units of a block's MLP, in widths
        dropout=0.0,
    ),
}
_RESNET: dict[str, Any] = dict(name="resnet18") | NETWORKS["resnet18"]
_PAPER: dict[str, Any] = dict(
    lr=0.05, lr_factor=3.0, lr_patience=5, lr_min=1e-4, epochs=200, batch=64
)

# The paper's eight data sets, in the published code's order, which the seed then shuffles.
MIXTURE = (
    "cifar10", "cifar100", "mnist", "svhn", "fashion_mnist", "gtsrb", "facescrub", "notmnist",
)  # fmt: skip

FIVE = ("cifar10", "mnist", "svhn", "fashion_mnist", "notmnist")

# What is learned: data, tasks, network and schedule, and what an approach has otherwise than usual.
EXPERIMENTS: dict[str, dict[str, Any]] = {
    # Ten permutations of scikit-learn's handwritten digits, 8x8: no download, under a minute.
    "digits": dict(
        data=dict(sets=("digits",)),
        tasks=dict(kind="permuted", count=10),
        network=_MLP | dict(widths=(400, 400), dropout_in=0.0, dropout=0.2),
        expand=dict(progressive=1.05, pathnet=0.222),
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
        network=_ALEXNET,
        schedule=_PAPER,
    ),
    # CIFAR-100 in tasks of classes in a row, in random order.
    "cifar100": dict(
        data=dict(sets=("cifar100",)),
        tasks=dict(kind="split", count=10, valid_code=0.10),
        network=_ALEXNET,
        schedule=_PAPER,
    ),
    # Five image sets, each a task, in random order (Ebrahimi et al., ECCV 2020).
    "5datasets": dict(
        data=dict(sets=FIVE, image=(32, 32, 3)),
        tasks=dict(kind="split", count=1, valid_code=0.15),
        network=_ALEXNET,
        schedule=_PAPER,
    ),
    # 200 classes of ImageNet, 64 x 64 pixels.
    "tinyimagenet": dict(
        data=dict(sets=("tiny-imagenet-200",)),
        tasks=dict(kind="split", count=10, valid_code=0.10),
        network=_RESNET,
        schedule=_PAPER,
    ),
    # Eight image sets, each a task, in random order (paper section 4.1).
    "mixture": dict(
        data=dict(sets=MIXTURE, image=(32, 32, 3)),
        tasks=dict(kind="split", count=1, valid_code=0.15),
        network=_ALEXNET,
        schedule=_PAPER,
    ),
    # One set of the mixture alone: how few weights learn it (paper section 4.4).
    "compression": dict(
        data=dict(sets=("cifar10",), image=(32, 32, 3)),
        tasks=dict(kind="split", count=1, valid_code=0.15),
        network=_ALEXNET,
        approaches=dict(hat=dict(c=1.5, gate_init="uniform")),
        schedule=_PAPER,
    ),
}


def make(
    experiment: str, approach: str, same: bool = False, network: str | None = None
) -> ConfigDict:
    """The configuration of an experiment and an approach by name; InputError if one is unknown.

    In the MNIST experiments the published baselines have a smaller network than HAT, with a third
    of its parameters; `same` gives them HAT's. `network` is one of NETWORKS in place of the
    experiment's.
    """
    if network is not None and network not in NETWORKS:
        raise unknown("network", network, NETWORKS)
    if experiment not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    if approach not in APPROACHES:
        raise unknown("approach", approach, APPROACHES)
    e = EXPERIMENTS[experiment]
    if network is not None:
        c = make(experiment, approach, same)
        choose_network(c, network)
        return c
    smaller = "baseline" in e and not same and approach != "hat"
    network = e["baseline" if smaller else "network"] | ADDITIONS.get(approach, {})
    expand = e.get("expand_baseline" if smaller else "expand", {})
    if approach in expand:
        network["expand"] = expand[approach]
    own = e.get("approaches", {})
    return ConfigDict(
        dict(
            experiment=experiment,  # a name for results
            seed=0,  # of permutations, task order, held-out share, parameters, shuffling, dropout
            seeds=1,  # train so many at once: seed, seed + 1, ...
            grid="",  # and these settings, each with each: "approach.s_max=25,400 approach.c=0.1,1"
            at_once=0,  # at most so many of them in one program; 0: as many as the memory holds
            fidelity="paper",  # "paper": the equations; "code": the published code with its defects
            data=dict(
                root="",  # folder of image sets; "": $HATJAX_DATA, else the user's cache folder
                sets=e["data"]["sets"],  # names of the image sets
                image=e["data"].get("image", ()),  # make them (h, w, channels); (): as they are
                examples=0,  # use at most so many training images a task; 0: all
                augment=(),  # of the training images, anew in every epoch: "crop", "flip"
            ),
            tasks=dict(
                kind=e["tasks"]["kind"],  # "permuted" (pixels) or "split" (by class)
                count=e["tasks"]["count"],  # of permutations, or for each image set; 1: a whole set
                shuffle=e["tasks"].get("shuffle", True),  # order the tasks by the seed
                valid=0.15,  # share of the training images held out for the schedule
                # The same under fidelity "code"; 0: the training images themselves serve.
                valid_code=e["tasks"].get("valid_code", 0.0),
            ),
            network=network,
            # A name of optax, or "momentum", "nesterov"; its arguments are fields, too:
            # --config.optimizer.name=adamw --config.optimizer.weight_decay=0.05
            optimizer=dict(name="sgd"),
            approach=dict(name=approach) | APPROACHES[approach] | own.get(approach, {}),
            schedule="plateau",  # of the learning rate in a task; or "cosine", "constant"
            lr=e["schedule"]["lr"],
            lr_factor=e["schedule"]["lr_factor"],  # lr is divided by it
            lr_patience=e["schedule"]["lr_patience"],  # after so many epochs without improvement
            lr_min=e["schedule"]["lr_min"],  # a task ends below it
            epochs=e["schedule"]["epochs"],  # a task ends after so many
            batch=e["schedule"]["batch"],
            eval_batch=500,  # examples at once in evaluation
            # After an epoch whose loss is not a number: "stop", or "lower" the learning rate by
            # lr_factor and go on from the state before that epoch.
            on_nan="stop",
            checkpoint=dict(  # saved at the end of every task, and besides
                epochs=0,  # after so many epochs of a task; 0: not by their number
                minutes=5.0,  # after the first epoch that ends so long after the last; 0: not
            ),
        )
    )


def of_set(arg: str, kind: str, approach: str) -> ConfigDict:
    """The configuration of an argument "NAME,COUNT": an image set in so many tasks of a kind."""
    name, _, count = arg.partition(",")
    if not name or not re.fullmatch("[0-9]{1,9}", count):
        raise InputError(f"argument {arg!r}: expected NAME,COUNT, as in hat_{kind}.py:mnist,5")
    c = make("digits" if name == "digits" else "pmnist", approach)
    c.experiment = f"{name}-{kind}{count}"
    c.data.sets = (name,)
    c.tasks.kind, c.tasks.count = kind, int(count)
    return c


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

    `network` other than the MLP has the fields and defaults of NETWORKS.
    """
    c = make("digits", approach)
    if network != "mlp":
        choose_network(c, network)
    c.experiment = "arrays"
    c.data.sets = ("arrays",)
    c.tasks.kind, c.tasks.count, c.tasks.shuffle = "given", count, False
    return c


def choose_network(config: ConfigDict, name: object) -> None:
    """Put a network of NETWORKS in place of another in `config`; the same one stays as it is."""
    if isinstance(name, str) and name != config.network.name and name in NETWORKS:
        more = ADDITIONS.get(config.approach.name, {})
        config.network = ConfigDict(dict(name=name) | NETWORKS[name] | more)


def choose(config: ConfigDict, changes: dict[str, Any]) -> None:
    """Give `config` the fields that exist only since `changes`, {path: value}, ask for them.

    Those of the network that "network.name" names, in place of those of another, and the arguments
    of the optimizer. Another optimizer takes none of the arguments of the one before.
    """
    choose_network(config, changes.get("network.name"))
    name = changes.get("optimizer.name", config.optimizer.name)
    part = "optimizer."
    mine = {k.removeprefix(part): v for k, v in changes.items() if k.startswith(part)}
    kept = config.optimizer.to_dict() if name == config.optimizer.name else {}
    config.optimizer = ConfigDict(kept | mine | dict(name=name))


# The limits are those of 32-bit numbers, in which the compiled program counts and computes, and
# elsewhere far beyond what anybody trains: what is larger is a slip, and must not take the memory.
def _whole(least: int, most: int, note: str = "") -> tuple[str, Callable]:
    return f"a whole number of at least {least}, at most {most}{note}", lambda v: least <= v <= most


def _name(v: str) -> bool:
    """Whether a text can be the name of a file."""
    return bool(re.fullmatch(r"[^/\\\x00-\x1f]+", v)) and v[0] != "." and len(os.fsencode(v)) <= 100


def _number(v: object) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool)


# Field -> (what it may be, in words, and as a test). Others may be anything of their type.
_positive = ("a number from 1e-37 to 3e38", lambda v: 1e-37 <= v <= 3e38)
_weight = ("a number from 0 to 3e38", lambda v: 0 <= v <= 3e38)
_share = ("a number from 0 up to, not including, 1", lambda v: 0 <= v < 1)
_count = _whole(1, 2**31 - 1)
_batch = _whole(1, 10**6)
_modules = _whole(1, 1000)
RULES: dict[str, tuple[str, Callable]] = {
    "experiment": ("a name of at most 100 letters without / or \\, and no dot first", _name),
    "seed": ("a whole number from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32),
    "seeds": _whole(1, 10000),
    "at_once": _whole(0, 2**31 - 1, " (0: all that fit)"),
    "fidelity": ("'paper' or 'code'", lambda v: v in ("paper", "code")),
    "data.root": ("the path of a folder", lambda v: "\0" not in v and len(os.fsencode(v)) < 4096),
    "data.sets": (
        "a tuple of at least one name, each of at most 100 letters without / or \\",
        lambda v: v and all(_name(n) for n in v),
    ),
    "data.image": (
        "() or a tuple of three whole numbers from 1 to 65535: height, width, channels",
        lambda v: len(v) in (0, 3) and all(type(n) is int and 1 <= n < 2**16 for n in v),
    ),
    "data.augment": (
        "a tuple of 'crop' and 'flip', or ()",
        lambda v: set(v) <= {"crop", "flip"} and len(set(v)) == len(v),
    ),
    "data.examples": _whole(0, 2**31 - 1, " (0: all)"),
    "tasks.kind": ("'permuted' or 'split'", lambda v: v in ("permuted", "split", "given")),
    "tasks.count": _whole(1, 10000),
    "tasks.valid": ("a number between 0 and 1", lambda v: 0 < v < 1),
    "tasks.valid_code": _share,
    "network.widths": (
        "a tuple of one to 1000 whole numbers from 1 to 1000000",
        lambda v: 1 <= len(v) <= 1000 and all(type(n) is int and 1 <= n <= 10**6 for n in v),
    ),
    "network.dropout_in": _share,
    "network.dropout": (
        "a number from 0 up to, not including, 1, or a tuple of them",
        lambda v: all(_number(p) and 0 <= p < 1 for p in (v if isinstance(v, tuple) else (v,))),
    ),
    "network.kernel": _whole(1, 1000),
    "network.norm": (
        "'batch', 'layer', 'group' or 'none'",
        lambda v: v in ("batch", "layer", "group", "none"),
    ),
    "network.patch": _whole(1, 1000),
    "network.width": _whole(1, 10**6),
    "network.depth": _whole(1, 1000),
    "network.heads": _whole(1, 1000),
    "network.mlp": _whole(1, 100),
    "network.expand": ("a number above 0, at most 100", lambda v: 0 < v <= 100),
    "network.modules": _modules,
    "network.active": _modules,
    "approach.rivals": _modules,
    "approach.generations": _count,
    "approach.s_max": ("a number above 1, at most 3e38", lambda v: 1 < v <= 3e38),
    "approach.c": _weight,
    "approach.clip": _positive,
    "approach.lamb": _weight,
    "approach.temperature": _positive,
    "approach.e_max": _positive,
    "approach.cosh_max": ("a number above 0 and at most 80", lambda v: 0 < v <= 80),
    "approach.gate_init": ("'normal' or 'uniform'", lambda v: v in ("normal", "uniform")),
    "schedule": (
        "'plateau', 'cosine' or 'constant'",
        lambda v: v in ("plateau", "cosine", "constant"),
    ),
    "optimizer.name": ("the name of an optimizer of optax", lambda v: v and len(v) <= 100),
    "lr": _positive,
    "lr_factor": ("a number above 1, at most 3e38", lambda v: 1 < v <= 3e38),
    "lr_patience": _count,
    "lr_min": _positive,
    "epochs": _count,
    "batch": _batch,
    "eval_batch": _batch,
    "on_nan": ("'stop' or 'lower'", lambda v: v in ("stop", "lower")),
    "checkpoint.epochs": _whole(0, 2**31 - 1, " (0: none)"),
    "checkpoint.minutes": ("a number from 0 to 3e38 (0: none)", lambda v: 0 <= v <= 3e38),
}
# What a field is, if its default is of a type: in words, and as a test.
KINDS: dict[type, tuple[str, Callable]] = {
    bool: ("True or False", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: type(v) is int),
    float: ("a number", _number),
    str: ("a text", lambda v: isinstance(v, str)),
    tuple: ("a tuple", lambda v: isinstance(v, tuple)),
}

# Fields that do not say what is learned: a run may be resumed with others.
FREE = ("data.root", "at_once", "on_nan", "checkpoint.epochs", "checkpoint.minutes")

# Fields that runs of the first edition lack; they were made as with the usual values.
LATER = ("optimizer.name", "schedule", "data.augment")


def check(config: ConfigDict) -> None:
    """Raise InputError, naming field and value, for the first field that is not as it must be.

    It is missing, unknown (but networks and approaches may have fields of their own), of another
    type or out of its range.
    """
    mine = fields(config)
    name = mine.get("approach.name")
    if not isinstance(name, str):
        raise InputError(f"config.approach.name = {shown(name)}: expected the name of an approach")
    if name not in APPROACHES:
        raise unknown("approach", name, APPROACHES)
    needs = [f"approach.{k}" for k in APPROACHES[name]]
    needs += [f"network.{k}" for k in ADDITIONS.get(name, {})]
    if absent := [path for path in needs if path not in mine]:
        raise InputError(
            f"config.approach.name = {name!r}: the configuration is that of another approach, "
            f"without {absent[0]}; choose it by --config configs/baseline.py:{name},EXPERIMENT"
        )
    usual = usual_fields(name, mine.get("network.name"))
    for path in usual:
        if path not in mine and path != "network.dropout_in":  # which only MLPs have
            raise InputError(
                f"config.{path} is missing: begin with a configuration of configs/, or "
                "hatjax.config.make"
            )
    for path, value in mine.items():
        check_field(path, value, usual)
    if config.approach.gated != APPROACHES[name]["gated"]:
        raise InputError(
            f"config.approach.gated = {config.approach.gated}: the approach {name!r} needs "
            f"{APPROACHES[name]['gated']}"
        )
    if mine.get("network.active", 0) > mine.get("network.modules", math.inf):
        raise InputError(
            f"config.network.active = {config.network.active}: expected at most "
            f"config.network.modules = {config.network.modules}"
        )


def usual_fields(approach: str, network: object) -> dict[str, Any]:
    """The fields of a configuration with that approach and network, and their usual values."""
    c = make("digits", approach)
    choose_network(c, network)
    flat = fields(c)
    if isinstance(network, str) and network in NETWORKS:
        return flat
    return {path: v for path, v in flat.items() if not path.startswith("network.")} | {
        "network.name": c.network.name
    }


def completed(config: ConfigDict) -> ConfigDict:
    """With the usual values of the fields of FREE and LATER that runs of earlier versions lack."""
    usual, content = fields(make("digits", "sgd")), config.to_dict()
    for path in FREE + LATER:
        part, _, field = path.rpartition(".")
        inner = content.setdefault(part, {}) if part else content
        if isinstance(inner, dict):
            inner.setdefault(field, usual[path])
    return ConfigDict(content)


def check_field(path: str, value: Any, usual: dict[str, Any]) -> None:
    """Raise InputError if the field `path` is none, or cannot have the value; `usual` is of all."""
    if path not in usual and not path.startswith(("network.", "approach.", "optimizer.")):
        raise unknown("field of the configuration", path, usual)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"config.{path} = {value}: expected a finite number")
    if isinstance(value, float) and abs(value) > 3e38 and path not in RULES:
        raise InputError(f"config.{path} = {value}: expected a number up to 3e38")
    if path in usual and path != "network.dropout":  # a number or a tuple
        words, test = KINDS[type(usual[path])]
        if not test(value):
            raise InputError(f"config.{path} = {shown(value)}: expected {words}")
    words, test = RULES.get(path, ("numbers, texts, True, False, or tuples of them", _plain))
    try:
        good = test(value)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(f"config.{path} = {shown(value)}: expected {words}")


def _plain(v: Any) -> bool:
    """Whether JSON can hold a value."""
    if isinstance(v, tuple):
        return all(_plain(x) for x in v)
    return isinstance(v, bool | float | str) or isinstance(v, int) and abs(v) < 2**63


def traced(config: ConfigDict) -> dict[str, float]:
    """The numbers that the compiled program takes as arguments, by path: no change recompiles it.

    The numbers of config.approach but those of SHAPING, and those of the learning-rate schedule.
    """
    schedule = ("lr", "lr_factor", "lr_min")
    return {
        path: float(v)
        for path, v in fields(config).items()
        if path in schedule
        or (path.startswith("approach.") and _number(v) and path not in SHAPING)
    }


def fields(config: ConfigDict) -> dict[str, Any]:
    """All leaves by their dotted path, as in --config.approach.s_max."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{key}.{k}": v for k, v in fields(value).items()}
        else:
            flat[key] = value
    return flat


def to_json(config: ConfigDict) -> str:
    """The resolved configuration as JSON."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


DEPTH = 10  # of a configuration in JSON: more is none, and would exhaust the stack


def from_json(text: str) -> ConfigDict:
    """The configuration that to_json wrote; its fields are not checked.

    Raises InputError for what is not JSON or no object, with names that cannot be fields' or more
    than DEPTH levels.
    """

    def tuples(v, depth=0):
        if depth > DEPTH:
            raise ValueError(f"more than {DEPTH} levels")
        if isinstance(v, dict):
            return {k: tuples(x, depth + 1) for k, x in v.items()}
        return tuple(tuples(x, depth + 1) for x in v) if isinstance(v, list) else v

    try:
        content = tuples(json.loads(text))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not an object")
        return ConfigDict(content)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"not a configuration in JSON ({oneline(error)})") from error
