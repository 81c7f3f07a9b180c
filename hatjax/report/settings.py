"""How a run differs from the defaults of its experiment and approach (config.make).

This decides which runs can be compared. Differences in the approach's own fields (including those
it adds to the network) are its `variant`; differences in the fields that all approaches share
(data, tasks, schedule, network) are its `setting`.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.report.names import words

# Fields that identify a run or say how it is executed; they do not affect what is compared.
NOT_COMPARED = (
    "experiment", "seed", "seeds", "grid", "eval_batch", "approach.name", "approach.gated",
    "extends.run", *configs.FREE,
)  # fmt: skip


WIDTHS = "network.widths"  # which tells the two default networks of a baseline apart


def known(experiment: str) -> str:
    """The experiment of config.make whose defaults apply to `experiment`.

    That is one of config.EXPERIMENTS or of any image set, by its name. A variant is named
    EXPERIMENT-ANYTHING; for any other name, the defaults are those of pmnist.
    """
    usual = configs.usual(experiment)
    return usual if usual in configs.EXPERIMENTS or configs.is_of_set(usual) else "pmnist"


def different(config: ConfigDict) -> tuple[dict[str, object], dict[str, object]]:
    """The setting and the variant of a run: fields that differ from the defaults.

    A baseline has two default networks: its own smaller MLP, and HAT's (config.make, `same`). With
    HAT's, its variant is {"same": True}. Any other network is compared with HAT's, for all
    approaches, so that runs on one and the same network have the same setting.
    """
    published, same = (from_defaults(config, s) for s in (False, True))
    if WIDTHS not in published:
        found = published
    else:
        found = same if WIDTHS in same else same | {"same": True}
    return parts(config, found)


def before(
    config: ConfigDict, earlier: Sequence[ConfigDict]
) -> tuple[dict[str, object], dict[str, object]]:
    """What the runs that a run extends had otherwise, for its setting and its variant.

    Each as {"extends.with": the fields of every earlier run, as text}; {} where they had the same.
    """
    mine = configs.fields(config)
    skipped = (*NOT_COMPARED, "extends.tasks")
    each = [
        parts(old, {k: v for k, v in configs.fields(old).items()
                    if k not in skipped and mine.get(k) != v})
        for old in earlier
    ]  # fmt: skip
    shared, own = ([words(pair[i]) for pair in each] for i in (0, 1))
    return _told(shared), _told(own)


def _told(texts: Sequence[str]) -> dict[str, object]:
    return {"extends.with": tuple(texts)} if any(texts) else {}


def parts(
    config: ConfigDict, fields: dict[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """Fields that all approaches share, and those of the approach of `config`."""
    network = configs.APPROACHES[config.approach.name].network
    own = ["same", *(f"network.{k}" for k in network)]
    variant = {k: v for k, v in fields.items() if k.startswith("approach.") or k in own}
    return {k: v for k, v in fields.items() if k not in variant}, variant


def from_defaults(config: ConfigDict, same: bool) -> dict[str, object]:
    """The fields that differ from config.make(..., same), or are not in it.

    If the network is not the experiment's, its fields are compared with that network's defaults.
    """
    approach, network = config.approach.name, config.network.name
    if config.tasks.kind == "given":
        made = configs.of_arrays(config.tasks.count, approach, network)
    else:
        made = configs.make(known(config.experiment), approach, same)
    usual = made.network.name
    configs.choose_network(made, network)
    defaults = configs.fields(made) | {"network.name": usual}
    mine = configs.fields(config)
    return {k: v for k, v in mine.items() if k not in NOT_COMPARED and defaults.get(k) != v}
