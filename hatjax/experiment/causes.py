"""Which settings are likely to blame when a run diverges or learns nothing."""

from ml_collections import ConfigDict

from hatjax import config as configs

# The least and the greatest usual value of fields that approaches share. Their own usual values
# stand in their files (ApproachSpec.usual).
USUAL = {"lr": (1e-5, 1.0), "lr_min": (0.0, 0.01), "approach.clip": (0.1, 1e6)}


def unusual(config: ConfigDict) -> dict[str, tuple[float, float]]:
    """The fields whose values are far from usual, with the least and the greatest usual one."""
    own = {f"approach.{k}": v for k, v in configs.APPROACHES[config.approach.name].usual.items()}
    values = configs.fields(config)
    return {
        path: (least, greatest)
        for path, (least, greatest) in (own | USUAL).items()
        if path in values and not least <= values[path] <= greatest
    }


def now(config: ConfigDict, path: str) -> str:
    """A field as a flag, with its value: "--config.lr (now 100.0)"."""
    return f"--config.{path} (now {configs.fields(config)[path]})"


def blamed(config: ConfigDict, fields: dict[str, tuple[float, float]]) -> str:
    """The sentence that blames unusual `fields`, each with its usual range."""
    each = " and ".join(
        f"{now(config, path)}, where {least:g} to {greatest:g} is usual"
        for path, (least, greatest) in fields.items()
    )
    return f"the likely cause is {each}"


def of_no_learning(config: ConfigDict) -> str:
    """The likely cause of a task that has learned nothing, or what to try if no value stands out.
    """
    if strange := unusual(config):
        return blamed(config, strange)
    own = [f"approach.{k}" for k in configs.APPROACHES[config.approach.name].usual]
    several = ", ".join(now(config, path) for path in ("lr", *own))
    return f"try more --config.epochs (now {config.epochs}), or another {several}"


def of_divergence(config: ConfigDict) -> str:
    """The likely cause of a loss that is not finite, and what helps."""
    strange = unusual(config)
    # A smaller step does not help against, say, a penalty of 1e30: it is blamed alone.
    if others := {k: v for k, v in strange.items() if k not in USUAL}:
        return f"{blamed(config, others)}: start over (--overwrite) with a usual one"
    steps = [path for path in ("lr", "approach.clip") if path in configs.fields(config)]
    return f"try a smaller {' or '.join(now(config, path) for path in steps)}"
