"""Run many approaches on many experiments, and compare them.

    python -m hatjax.study configs/study_mnist.py
    python -m hatjax.study configs/study_paper.py --config.scale=small --config.seeds=1

Each run has its own workdir in that of the study, like those of `python -m hatjax.main`. Finished
runs are skipped, and a failed run does not stop the others; an image set that is missing is tried
once. At the end the tables are printed and written to DIR/study.md, and a report (hatjax.report) to
DIR/report.
"""

import functools
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from hatjax import cli, plans
from hatjax.config import file
from hatjax.errors import Diverged, InputError, Interrupted, Unwritable
from hatjax.experiment import stop

CONFIG = cli.define_config()
flags.declare_key_flag("config")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the runs; default results/NAME.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "List the runs and their state, then exit.")
VERBOSE = flags.DEFINE_bool(
    "verbose", False, "Without a terminal, print a line for every epoch, not only for some."
)


class Run(NamedTuple):
    """One run of a study."""

    name: str
    config: ConfigDict
    where: Path


def state(run: Run) -> str:
    """How far a run is: finished, unfinished, or to do. InputError for another run in its place."""
    from hatjax.workdir import files

    if files.finished(run.where, run.config):
        return "finished"
    return "unfinished" if (run.where / "metrics.jsonl").exists() else "to do"


def execute(
    runs: Sequence[Run], stopping: stop.Stopping, verbose: bool = False
) -> dict[str, str]:
    """Train the unfinished runs; returns the errors of failed ones by name. Raises Interrupted."""
    import jax

    from hatjax.experiment import run, sweep
    from hatjax.workdir import files

    failed: dict[str, str] = {}
    known: dict[tuple[str, str], str] = {}
    for i, each in enumerate(runs):
        if stopping():
            raise Interrupted("stopped between two runs")
        try:
            if files.finished(each.where, each.config):
                print(f"\n[{i + 1}/{len(runs)}] {each.name}\nfinished before", flush=True)
                sweep.tidy(each.where, [""])
                continue
            if lacks := missing_data(each.config, known):
                if lacks not in failed.values():
                    print(f"\n{each.name}, and all with its images, fail: {lacks}", flush=True)
                failed[each.name] = lacks
                continue
            print(f"\n[{i + 1}/{len(runs)}] {each.name}", flush=True)
            began = time.monotonic()
            run.run(each.config, each.where, stopping=stopping, verbose=verbose)
            print(f"took {time.monotonic() - began:.0f} s")
        except Interrupted:
            raise
        except (InputError, Diverged, Unwritable) as error:
            failed[each.name] = str(error)
        except Exception as error:  # the other runs go on after any error
            logging.exception(each.name)
            failed[each.name] = f"{type(error).__name__}: {error}"
        if each.name in failed:
            print(f"failed: {failed[each.name]}")
        jax.clear_caches()  # frees the programs of this run
    return failed


def missing_data(config: ConfigDict, known: dict[tuple[str, str], str]) -> str:
    """Why the images of a run cannot be had; "" if they can, or lie in the data root.

    Sets that are not in the data root are downloaded. `known` holds what came of it, by data root
    and name, so that a study tries each of them once.
    """
    from hatjax import data

    for name in config.data.sets:
        key = (config.data.root, name)
        if key not in known:
            known[key] = ""
            try:
                where = data.root(config.data.root)
                if not data.available(name, where):
                    data.load(name, where)
            except (InputError, OSError) as error:
                known[key] = str(error)
        if known[key]:
            return known[key]
    return ""


def by_reason(failed: dict[str, str]) -> list[tuple[str, str]]:
    """The failed runs with the same reason, as in ("a, b, c and 4 more", reason)."""
    names: dict[str, list[str]] = {}
    for name, reason in failed.items():
        names.setdefault(reason, []).append(name)
    return [
        (", ".join(some[:3]) + (f" and {len(some) - 3} more" if some[3:] else ""), reason)
        for reason, some in names.items()
    ]


def records(runs: Sequence[Run]) -> tuple[list, list[str]]:
    """The runs as the report needs them, and a note for each damaged file.

    A workdir that holds another run counts as not started.
    """
    from hatjax.report import read
    from hatjax.workdir import files

    found, notes = [], []
    for each in runs:
        found.append(read.Record(each.where, each.config))
        if not each.where.exists():
            continue
        try:
            there, damage = read.read(each.where)
        except InputError as error:
            notes.append(str(error))
        else:
            if not files.differences(there.config, each.config):
                found[-1] = there
                notes += damage
    return found, notes


def main(argv: list[str], stopping: stop.Stopping) -> None:
    """Train the runs of the study that the flags give, and write its report."""
    for chatty in ("jax", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from hatjax.report import write
    from hatjax.workdir import files

    study = CONFIG.value
    try:
        planned = plans.runs(study)
        where = Path(WORKDIR.value or Path("results") / study.name)
        runs = [Run(name, c, where / name) for name, c in planned.items()]
        stands = [state(run) for run in runs if DRY_RUN.value]
        if not DRY_RUN.value:
            where.mkdir(parents=True, exist_ok=True)
    except InputError as error:
        cli.fail(error)
    except OSError as error:
        cli.fail(f"workdir {where} cannot be written ({error.strerror}): choose another")
    if DRY_RUN.value:
        for run, stand in zip(runs, stands, strict=True):
            print(f"{stand:10} {run.name}")
        return
    try:
        failed = execute(runs, stopping, VERBOSE.value)
    except Interrupted as error:
        cli.fail(f"{error}: the same command goes on from there", stop.RESUME)
    found, notes = records(runs)
    try:
        notes += [f"{names} failed: {reason}" for names, reason in by_reason(failed)]
        text, notes, lacks = write.write(found, where / "report", notes)
    except InputError as error:
        cli.fail(error)
    files.write_text(where / "study.md", text)
    print(f"\n{text}\ntables in {where / 'study.md'}, report in {where / 'report' / 'index.html'}")
    if lacks:
        print(f"{len(lacks)} things are missing in the report, which lists the commands for them")
    if failed:
        reasons = "".join(f"\n  {names}: {reason[:200]}" for names, reason in by_reason(failed))
        print(f"{len(failed)} of {len(runs)} runs failed:{reasons}")
        raise SystemExit(1)


def parse(argv: list[str]) -> list[str]:
    """Parse the flags; the configuration file may also be given without --config."""
    for i, word in enumerate(argv[1:], start=1):
        alone = i == 1 or (".py" in word and argv[i - 1].lstrip("-") != "config")
        if alone and not word.startswith("-"):
            argv = [*argv[:i], f"--config={word}", *argv[i + 1 :]]
            break
    known = ", ".join(file.packaged("study_"))
    return cli.parse(argv, ask=f"which study? python -m hatjax.study FILE; hatjax has {known}")


if __name__ == "__main__":
    with stop.requested() as stopping:
        cli.start(functools.partial(main, stopping=stopping), parse)
