"""Train a network on a sequence of tasks.

    python -m hatjax.main                                      HAT on permuted digits, no download
    python -m hatjax.main --config configs/hat_pmnist.py       HAT on ten permutations of MNIST
    python -m hatjax.main --config configs/baseline.py:sgd,pmnist
    python -m hatjax.main --config FILE --config.epochs=5 --config.approach.s_max=200 --workdir=DIR
    python -m hatjax.main --config FILE --extend=OLD --workdir=NEW    tasks after those of OLD

Every field of the configuration can be set by its path; --dry_run shows them all, with the tasks,
the parameter counts and the runs of a sweep, and trains nothing.

An interrupted run resumes when the same command is repeated. Exit status: 0 done, 75 stopped by
Ctrl-C, SIGTERM or SIGHUP (repeat the command), 2 unusable input, 1 any other error (the loss is not
finite, the disk is full).
"""

import functools
import logging
from pathlib import Path

from absl import flags

from hatjax import cli
from hatjax.cli import fail
from hatjax.errors import Diverged, InputError, Interrupted, Unwritable
from hatjax.experiment import stop

DEFAULT = "hat_digits.py"
CONFIG = cli.define_config(DEFAULT)
flags.declare_key_flag("config")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for the results; default results/EXPERIMENT-APPROACH-seedN."
)
EXTEND = flags.DEFINE_string(
    "extend",
    None,
    "Workdir of a finished run, or folder of several: the tasks of --config are added to those "
    "that it has learned. Its network and its approach's settings stay; it is only read.",
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Show configuration, tasks and parameters, then exit."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Be one of several processes, one on each host, that share a sweep."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, if --distributed cannot detect it."
)
PROCESSES = flags.DEFINE_integer("processes", None, "With --coordinator: the number of processes.")
PROCESS = flags.DEFINE_integer("process", None, "With --coordinator: index of this one, from 0.")
TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "Also write TensorBoard event files, to WORKDIR/tensorboard."
)
VERBOSE = flags.DEFINE_bool(
    "verbose", False, "Without a terminal, print a line for every epoch, not only for some."
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Start over in a workdir that holds a run.")


def main(argv: list[str], stopping: stop.Stopping) -> None:
    """Train the runs that the flags give, or describe them."""
    # Imported here to keep --help fast.
    import jax

    try:
        from hatjax import config as configs
        from hatjax import plans
        from hatjax.experiment import description, display, extending, run
        from hatjax.training import replicas
        from hatjax.workdir import files

        # JAX logs missing backends.
        logging.getLogger("jax").setLevel(logging.WARNING)
        config = CONFIG.value
        if "experiments" in config:
            raise InputError("this is the configuration of a study: python -m hatjax.study FILE")
        if not DISTRIBUTED.value and (COORDINATOR.value or PROCESSES.value or PROCESS.value):
            raise InputError("--coordinator, --processes and --process need --distributed")
        if EXTEND.value:
            config = extending.inherited(config, [*cli.overrides(cli.WORDS)], EXTEND.value)
        configs.check(config)
        runs = extending.complete(plans.replicas(config))
        name = f"{config.experiment}-{config.approach.name}"
        name += f"-seed{runs[''].seed}" if "" in runs else ""
        where = Path(WORKDIR.value or Path("results") / name)
        if DISTRIBUTED.value and not DRY_RUN.value:
            if len(runs) == 1 and config.mesh.data == 1:
                raise InputError(
                    "--distributed shares runs among devices, and here is only one: give several "
                    "by --config.seeds or --config.grid, or share its batches by --config.mesh.data"
                )
            replicas.join(COORDINATOR.value, PROCESSES.value, PROCESS.value)
            stop.install_handlers()
        if DRY_RUN.value:
            print(description.describe(config, runs, where))
        elif "" in runs:
            if not OVERWRITE.value and files.finished(where, runs[""]):
                print("finished before; --overwrite starts over")
            run.run(
                runs[""], where, OVERWRITE.value, TENSORBOARD.value, stopping, VERBOSE.value
            )
        else:
            accs = run.run_sweep(
                where,
                runs,
                OVERWRITE.value,
                config.at_once,
                board=TENSORBOARD.value,
                stopping=stopping,
                verbose=VERBOSE.value,
            )
            if replicas.writes():
                print(display.comparison(dict(zip(runs, accs, strict=True)), where))
    except InputError as error:
        fail(error)
    except jax.errors.JaxRuntimeError as error:
        if not DISTRIBUTED.value:
            raise
        fail(f"the processes lost each other: {str(error).splitlines()[0]}", status=1)
    except Diverged as error:
        done = [name for name in runs if files.finished(where / name, runs[name])]
        if done and replicas.writes():
            accs = run.accuracies(where, done)
            print(display.comparison(dict(zip(done, accs, strict=True)), where))
        kept = any((where / name / "model").exists() for name in runs)
        fail(f"{error}" + f". The finished tasks' results are in {where}" * kept, status=1)
    except Unwritable as error:
        fail(error, status=1)
    except Interrupted as error:
        fail(f"{error}: {stop.AGAIN} from there", status=stop.RESUME)


if __name__ == "__main__":
    with stop.requested() as stopping:
        cli.start(
            functools.partial(main, stopping=stopping),
            functools.partial(cli.parse, default=DEFAULT),
        )
