"""The runs of a configuration: those of a study, and those of a sweep over seeds and a grid."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.config import grid
from hatjax.errors import InputError, oneline, shown, unknown

# The approaches that the paper of HAT compares, those of its Table 1 and its figures.
PAPER = (
    "hat", "random", "sgd", "sgd_restart", "sgd_frozen", "joint", "lwf", "lfl", "ewc", "imm_mean",
    "imm_mode", "progressive", "pathnet",
)  # fmt: skip

# The fields that each scale of a study changes in its experiments, and in SCALED in those of an
# approach. With "small", a run takes a few minutes on two CPU cores.
SCALES: dict[str, dict[str, dict]] = {
    "paper": {},
    "small": {
        "digits": {"epochs": 10},
        "mnist2": {"epochs": 3},
        "pmnist": {"epochs": 5, "data": {"examples": 10000}},
        "cifar": {
            "epochs": 20,
            "batch": 32,
            "data": {"examples": 2000},
            "network": {"widths": (16, 32, 64, 256, 256)},
        },
        "mixture": {
            "epochs": 10,
            "data": {"examples": 4000},
            "network": {"widths": (16, 32, 64, 256, 256)},
        },
        "compression": {"epochs": 15, "data": {"examples": 10000}},
    },
}

# Few steps do not open closed gates.
SCALED = {"small": dict.fromkeys(("hat", "adahat"), {"gate_init": "uniform"})}


def study(
    name: str,
    experiments: dict[str, dict],
    approaches: Sequence[str] = tuple(configs.APPROACHES),
    seeds: int | Sequence[int] = 1,
    same: bool = False,
    scale: str = "paper",
) -> ConfigDict:
    """The configuration of a study: all approaches on all experiments with all seeds.

    `seeds` is how many, from 0 on, or those of a tuple, as the field `seeds` of a single run.
    `experiments` maps each name to the fields that differ from the defaults: {"epochs": 3, "data":
    {"examples": 4000}}. A name is that of an experiment, as config.make takes it ("pmnist",
    "fashion_mnist-split5"), or EXPERIMENT-ANYTHING for a variant of one of config.EXPERIMENTS. Two
    more keys are "approaches", to run only some of them, and "grid", to add runs of an approach
    over a grid: {"hat": "approach.s_max=25,400 approach.c=0.1,1"}; that of an approach that does
    not run is of no effect. `scale` is one of SCALES; `same`
    is as in config.make.
    """
    c = ConfigDict(
        dict(
            name=name,
            approaches=tuple(approaches),
            seeds=seeds if isinstance(seeds, int) else tuple(seeds),
            same=same,
            scale=scale,
            experiments=experiments,
        )
    )
    configs.free_types(c)
    return c


# Fields that the experiments of a study cannot set, and keys that are not fields.
FIXED = ("experiment", "seed", "seeds", "at_once", "approach.name")
EXTRA_KEYS = ("approaches", "grid")


def runs(study: ConfigDict) -> dict[str, ConfigDict]:
    """The configurations of all runs of a study by name, experiment by experiment.

    InputError for an unknown name or field, or a value out of range.
    """
    if "experiments" not in study:
        raise InputError(
            "this is not the configuration of a study, which lists experiments: of a run it is for "
            "python -m hatjax.main --config FILE"
        )
    check(study)
    planned = {}
    for experiment, own in study.experiments.items():
        grids = own.get("grid", ConfigDict())
        some = own.get("approaches", study.approaches)
        if strange := set(some) - set(configs.APPROACHES):
            raise unknown("approach", min(strange), configs.APPROACHES)
        if (
            not isinstance(grids, ConfigDict)
            or not set(grids) <= set(configs.APPROACHES)
            or not all(isinstance(grid, str) for grid in grids.values())
        ):
            raise InputError(
                f"config.experiments.{experiment}.grid: expected a grid for each approach "
                "named in it, as in {'hat': 'approach.c=0.1,1'}"
            )
        for approach in [a for a in study.approaches if a in some]:
            for seed in seeds_of(study):
                c = of_study(study, experiment, approach, seed)
                planned[f"{experiment}-{approach}-seed{seed}"] = c
                if approach in grids:
                    several = c.copy_and_resolve_references()
                    several.grid = grids[approach]
                    planned |= {
                        f"{experiment}-{approach}-{name}": point
                        for name, point in replicas(several).items()
                        if configs.fields(point) != configs.fields(c)
                    }
    for run, c in planned.items():  # each goes on from the run of its name
        if c.extends.run and not (Path(c.extends.run) / "config.json").is_file():
            c.extends.run = str(Path(c.extends.run) / run)
    if not planned:
        raise InputError("the study has no runs: give experiments, approaches and seeds")
    return planned


def check(study: ConfigDict) -> None:
    """Raise InputError for the first field of a study that is missing or of the wrong type."""

    def names(v: object) -> bool:
        return isinstance(v, tuple) and all(isinstance(name, str) for name in v)

    expected: dict[str, tuple[str, Callable]] = {
        "name": configs.ranges.NAME[:2],
        "approaches": ("a tuple of names of approaches", names),
        "seeds": configs.ranges.SEEDS[:2],
        "same": ("True or False", lambda v: isinstance(v, bool)),
        "scale": ("a text", lambda v: isinstance(v, str)),
        "experiments": ("a dict of changed fields for each experiment", lambda v: isinstance(
            v, ConfigDict
        ) and all(isinstance(own, ConfigDict) for own in v.values())),
    }  # fmt: skip
    for field, (words, test) in expected.items():
        value = study.get(field)
        try:
            good = test(value)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise InputError(f"config.{field} = {shown(value)}: expected {words}")
    for experiment, own in study.experiments.items():
        if not names(own.get("approaches", ())):
            raise InputError(
                f"config.experiments.{experiment}.approaches = {shown(own.approaches)}: expected "
                "a tuple of names of approaches"
            )


def of_study(study: ConfigDict, experiment: str, approach: str, seed: int) -> ConfigDict:
    """The configuration of one run of a study, without its grid. Raises as `runs`."""
    if study.scale not in SCALES:
        raise unknown("config.scale", study.scale, SCALES)
    base = configs.usual(experiment)
    c = configs.make(base, approach, study.same)
    c.update(SCALES[study.scale].get(base, {}))
    c.approach.update(SCALED.get(study.scale, {}).get(approach, {}))
    given = study.experiments[experiment]
    own = ConfigDict({k: v for k, v in given.items() if k not in EXTRA_KEYS})
    changes = configs.fields(own)
    configs.choose(c, changes)
    known = configs.fields(c)
    for path in changes:
        if path in FIXED:
            raise InputError(
                f"config.experiments.{experiment}.{path}: a study sets it itself; see "
                "config.seeds and config.approaches"
            )
        if path not in known:
            raise unknown(f"field of experiment {experiment!r}", path, known)
    try:
        c.update(own)
        c.experiment, c.seed = experiment, seed
    except TypeError as error:
        raise InputError(f"config.experiments.{experiment}: {oneline(error)}") from error
    configs.check(c)
    return c


def seeds_of(config: ConfigDict) -> tuple[int, ...]:
    """The seeds of a run's or a study's configuration: config.seeds tells them or their number.

    So many begin with config.seed, or with 0. InputError for another config.seed beside a tuple.
    """
    first = config.get("seed", 0)
    if not isinstance(config.seeds, tuple):
        return tuple(range(first, first + config.seeds))
    if first and config.seeds != (first,):
        raise InputError(
            f"config.seed = {first} beside config.seeds = {shown(config.seeds)}, which are all of "
            "them: leave config.seed out"
        )
    return config.seeds


MAX_RUNS = 10000  # of a configuration


def replicas(config: ConfigDict) -> dict[str, ConfigDict]:
    """The runs of config.seeds and config.grid by name: each seed with each setting.

    Each configuration is that of a single run. A single seed without a grid has the name "".
    InputError for an invalid grid or a setting that is out of range.
    """
    configs.check(config)
    axes = {"seed": seeds_of(config), **grid.axes(config)}
    if (count := math.prod(map(len, axes.values()))) > MAX_RUNS:
        raise InputError(
            f"config.seeds and config.grid ask for {count} runs: expected at most {MAX_RUNS}"
        )
    runs = {}
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        c, name = grid.at(config, point), grid.name(point)
        configs.check(c)
        if name in runs:
            raise InputError(
                f"config.grid = {config.grid!r}: two of its settings look alike, {name}: numbers "
                "must differ in their first six digits"
            )
        runs[name if len(axes["seed"]) > 1 or config.grid else ""] = c
    return runs
