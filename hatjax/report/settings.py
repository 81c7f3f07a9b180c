"""What a run sets differently from the defaults of its experiment and approach (config.make).

That decides which runs may be compared. What an approach may have of its own (its numbers, its
share of the network) is its `variant`; what all approaches share (data, tasks, schedule, network)
is the `setting`.
"""

from ml_collections import ConfigDict

from hatjax import config as configs

# Fields that say which run it is, where and how it runs, but not what is compared.
ASIDE = (
    "experiment", "seed", "seeds", "grid", "eval_batch", "approach.name", "approach.gated",
    *configs.FREE,
)  # fmt: skip


def known(experiment: str) -> str:
    """The experiment of config.EXPERIMENTS that has the defaults for `experiment`.

    A variant is named EXPERIMENT-ANYTHING; for any other name it is pmnist.
    """
    named = (experiment, experiment.split("-")[0])
    return next((n for n in named if n in configs.EXPERIMENTS), "pmnist")


def different(config: ConfigDict) -> tuple[dict[str, object], dict[str, object]]:
    """The setting and the variant of a run: fields that differ from the defaults, with its values.

    Both the baselines' smaller MLP and HAT's (config.make, `same`) are defaults; with the latter a
    baseline has the variant {"same": True}.
    """
    approach = config.approach.name
    published, same = (from_defaults(config, s) for s in (False, True))
    found = same | {"same": True} if len(same) < len(published) else published
    own = ["same", *(f"network.{k}" for k in configs.APPROACHES[approach].network)]
    variant = {k: v for k, v in found.items() if k.startswith("approach.") or k in own}
    return {k: v for k, v in found.items() if k not in variant}, variant


def from_defaults(config: ConfigDict, same: bool) -> dict[str, object]:
    """The fields that differ from config.make(..., same); those that it lacks differ, too.

    The fields of another network than the experiment's are held against that network's defaults.
    """
    made = configs.make(known(config.experiment), config.approach.name, same)
    network = made.network.name
    configs.choose_network(made, config.network.name)
    defaults = configs.fields(made) | {"network.name": network}
    mine = configs.fields(config)
    return {k: v for k, v in mine.items() if k not in ASIDE and defaults.get(k) != v}
