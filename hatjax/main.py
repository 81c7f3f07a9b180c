"""Train a network on a sequence of tasks.

    python -m hatjax.main                                      HAT on permuted digits, no download
    python -m hatjax.main --config configs/hat_pmnist.py       HAT on ten permutations of MNIST
    python -m hatjax.main --config configs/baseline.py:sgd,pmnist
    python -m hatjax.main --config FILE --config.epochs=5 --config.approach.s_max=200 --workdir=DIR

Every field of the configuration can be set by its path; --dry_run shows them all, with the tasks
and the parameter counts, and trains nothing.
"""

import logging
import re
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from hatjax.errors import Diverged, InputError

# configs/ lies in the repository, or inside the package where it was installed from a wheel.
CONFIGS = next(
    p
    for p in (Path(__file__).parents[1] / "configs", Path(__file__).parent / "configs")
    if p.exists()
)
DEFAULT = CONFIGS / "hat_digits.py"
# Not given as the flag's default: that is loaded on import, where an error has no one to report it.
CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"Configuration file, with its argument: FILE or FILE:ARG; default {DEFAULT}."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for the results; default results/EXPERIMENT-APPROACH-seedN."
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Show configuration, tasks and parameters, then stop."
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Begin anew in a workdir that holds a run.")


def parse(argv: list[str]) -> list[str]:
    """absl's flag parsing, with every error as one line."""
    if not any(re.fullmatch("--?config(=.*)?", arg) for arg in argv):
        argv = [argv[0], f"--config={DEFAULT}", *argv[1:]]
    try:
        rest = flags.FLAGS(argv)
        if not isinstance(CONFIG.value, ConfigDict):
            CONFIG.value.keys()  # raises what went wrong when the file was read
    except flags.Error as error:
        fail(f"{str(error).strip().splitlines()[-1]}; see --help and --dry_run")
    except InputError as error:
        fail(error)
    except OSError:
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        known = ", ".join(sorted(p.name for p in CONFIGS.glob("*.py")))
        fail(f"no configuration file {path}; in {CONFIGS} there are {known}")
    except (AttributeError, KeyError) as error:
        reason = str(error).replace("\\n", " ").replace("\\", "")
        fail(f"no such name in the configuration: {reason}; --dry_run shows all fields")
    except Exception as error:  # whatever the user's file raises
        fail(f"the configuration file failed: {type(error).__name__}: {error}")
    if len(rest) > 1:
        fail(f"unknown argument {rest[1]!r}: flags are given as --name=value; see --help")
    return rest


def fail(message: object, status: int = 2) -> None:
    """Print one line and exit."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    sys.exit(status)


def main(argv: list[str]) -> None:
    """Run, show or refuse what the flags say."""
    from hatjax import results, run  # here, since importing JAX takes a second and --help does not

    logging.getLogger("jax").setLevel(
        logging.WARNING
    )  # else it tells of backends that are not there
    config = CONFIG.value
    name = f"{config.experiment}-{config.approach.name}-seed{config.seed}"
    where = Path(WORKDIR.value or Path("results") / name)
    try:
        if DRY_RUN.value:
            print(run.describe(config))
        elif not OVERWRITE.value and results.finished(where, config):
            print(f"finished before; --overwrite begins anew\n{run.recall(where)}")
        else:
            run.run(config, where, OVERWRITE.value)
    except InputError as error:
        fail(error)
    except Diverged as error:
        fail(f"{error}. The finished tasks' results are in {where}", status=1)
    except KeyboardInterrupt:
        fail(f"interrupted. The finished tasks' results are in {where}", status=130)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
