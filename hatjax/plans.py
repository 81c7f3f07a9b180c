"""Which runs a configuration asks for: those of a study, and the seeds and settings of one run."""

import itertools
from collections.abc import Sequence

from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.errors import InputError, unknown


def study(
    name: str,
    experiments: dict[str, dict],
    approaches: Sequence[str] = tuple(configs.APPROACHES),
    seeds: Sequence[int] = (0,),
    same: bool = False,
) -> ConfigDict:
    """The configuration of a study: all approaches on all experiments with all seeds.

    `experiments` gives for each name what is otherwise than usual: {"epochs": 3, "data":
    {"examples": 4000}}. `same`: as in config.make.
    """
    return ConfigDict(
        dict(
            name=name,
            approaches=tuple(approaches),
            seeds=tuple(seeds),
            same=same,
            experiments=experiments,
        )
    )


# What the experiments of a study cannot change.
OF_THE_STUDY = ("experiment", "seed", "seeds", "grid", "at_once", "approach.name")


def runs(study: ConfigDict) -> list[ConfigDict]:
    """The configurations of all runs of a study, experiment by experiment.

    InputError for an unknown name or field, or a value out of its range, in any of them.
    """
    planned = []
    for experiment, own in study.experiments.items():
        for approach in study.approaches:
            for seed in study.seeds:
                c = configs.make(experiment, approach, study.same)
                for path in configs.fields(own):
                    if path in OF_THE_STUDY:
                        raise InputError(
                            f"config.experiments.{experiment}.{path}: a study sets it itself; see "
                            "config.seeds and config.approaches"
                        )
                    known = configs.fields(c)
                    if path not in known:
                        raise unknown(f"field of experiment {experiment!r}", path, known)
                try:
                    c.update(own)
                    c.seed = seed
                except TypeError as error:
                    raise InputError(f"config.experiments.{experiment}: {error}") from error
                configs.check(c)
                planned.append(c)
    if not planned:
        raise InputError("the study has no runs: give experiments, approaches and seeds")
    return planned


def replicas(config: ConfigDict) -> dict[str, ConfigDict]:
    """The runs of config.seeds and config.grid by name: each seed with each setting.

    Their configurations are those of runs on their own. One run alone has the name "". InputError
    for a grid that cannot be read, or names a field that is not a number of the compiled program.
    """
    axes = {"seed": tuple(config.seed + i for i in range(config.seeds)), **grid(config)}
    runs = {}
    for point in itertools.product(*axes.values()):
        c = config.copy_and_resolve_references()
        c.seeds, c.grid, c.at_once = 1, "", 0
        c.update_from_flattened_dict(dict(zip(axes, point, strict=True)))
        configs.check(c)
        seed, *settings = zip(axes, point, strict=True)
        parts = [f"{path.split('.')[-1]}={v:g}" for path, v in settings]
        name = "-".join([f"seed{seed[1]}", *parts])
        if name in runs:
            raise InputError(
                f"config.grid = {config.grid!r}: two of its settings look alike, {name}: numbers "
                "that differ within six digits have workdirs of their own"
            )
        runs[name if config.seeds > 1 or config.grid else ""] = c
    return runs


def grid(config: ConfigDict) -> dict[str, tuple[float, ...]]:
    """The fields of config.grid and their values; InputError if it cannot be read."""
    may, axes = configs.traced(config), {}
    for part in config.grid.split():
        path, _, values = part.partition("=")
        if path not in may:
            raise unknown("field of config.grid", path, may)
        if path in axes:
            raise InputError(f"config.grid = {config.grid!r}: {path} is there twice")
        try:
            axes[path] = tuple(dict.fromkeys(float(v) for v in values.split(",")))
        except ValueError as error:
            raise InputError(
                f"config.grid = {config.grid!r}: expected numbers after {path}=, separated by "
                f'commas, got {values!r}; as in --config.grid="approach.s_max=25,100,400"'
            ) from error
    return axes
