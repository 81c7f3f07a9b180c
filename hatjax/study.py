"""Run many approaches on many experiments, and compare them.

    python -m hatjax.study configs/study_small.py
    python -m hatjax.study configs/study_small.py --config.seeds="(0,1,2)" --workdir=DIR

Every run has a workdir of its own in the study's, as `python -m hatjax.main` makes it. What is
finished is not run again, a run that fails does not stop the others, and the tables come at the
end, also as DIR/study.md.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from hatjax import cli, plans
from hatjax.errors import Diverged, InputError

DEFAULT = "study_small.py"
CONFIG = cli.define_config(DEFAULT)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the runs; default results/NAME.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "List the runs and how they stand, then stop.")


class Run(NamedTuple):
    """One run of a study."""

    config: ConfigDict
    where: Path

    @property
    def name(self) -> str:
        return f"{self.config.experiment}-{self.config.approach.name}-seed{self.config.seed}"


def plan(study: ConfigDict, where: Path) -> list[Run]:
    """All runs of a study; InputError for whatever cannot be run."""
    runs = [Run(c, where) for c in plans.runs(study)]
    return [run._replace(where=where / run.name) for run in runs]


def execute(runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """Run what is not finished; the runs that are, and why which others failed, by name."""
    import jax

    from hatjax import results, run

    there, failed = [], {}
    for i, each in enumerate(runs):
        print(f"\n[{i + 1}/{len(runs)}] {each.name}", flush=True)
        try:
            if results.finished(each.where, each.config):
                print("finished before")
                there.append(each)
                continue
            began = time.monotonic()
            run.run(each.config, each.where)
            print(f"took {time.monotonic() - began:.0f} s")
            there.append(each)
        except (InputError, Diverged) as error:
            failed[each.name] = str(error)
        except Exception as error:  # whatever it is, the other runs go on
            logging.exception(each.name)
            failed[each.name] = f"{type(error).__name__}: {error}"
        if each.name in failed:
            print(f"failed: {failed[each.name]}")
        jax.clear_caches()  # of the programs of this run
    return there, failed


def tables(runs: Sequence[Run], there: Sequence[Run]) -> str:
    """For each experiment of `runs`, approach by approach, what those that are `there` say.

    In Markdown and percent: the mean over the seeds, with the standard deviation where there are
    several. rho is the forgetting ratio (eq. 6), from the random and joint runs of the same seed.
    """
    from hatjax import metrics

    acc = {
        (r.config.experiment, r.config.approach.name, r.config.seed): np.load(
            r.where / "accuracy.npy"
        )
        for r in there
    }
    lines = []
    for experiment in dict.fromkeys(r.config.experiment for r in runs):
        lines += [
            f"**{experiment}**",
            "",
            "| approach | average accuracy | backward transfer | rho | seeds |",
            "|---|---|---|---|---|",
        ]
        mine = [r.config for r in runs if r.config.experiment == experiment]
        for approach in dict.fromkeys(c.approach.name for c in mine):
            seeds = dict.fromkeys(c.seed for c in mine)
            there = [seed for seed in seeds if (experiment, approach, seed) in acc]
            ratios = [
                metrics.forgetting_ratio(*(acc[experiment, a, seed] for a in trio))[-1]
                for seed in there
                if all((experiment, a, seed) in acc for a in ("random", "joint"))
                for trio in [(approach, "random", "joint")]
            ]
            own = [acc[experiment, approach, seed] for seed in there]
            cells = (
                spread([metrics.average_accuracy(a) for a in own], "{:.1%}"),
                spread([metrics.backward_transfer(a) for a in own], "{:+.1%}"),
                spread(ratios, "{:+.2f}"),
            )
            lines.append(f"| {approach} | {' | '.join(cells)} | {len(own)} |")
        lines.append("")
    return "\n".join(lines)


def spread(values: Sequence[float], form: str) -> str:
    """Mean and, of several values, standard deviation."""
    from hatjax import metrics

    if not values:
        return ""
    mean, deviation = map(form.format, metrics.over_seeds(values))
    return mean if len(values) == 1 else f"{mean} ± {deviation.lstrip('+')}"


def main(argv: list[str]) -> None:
    """Plan, run and compare what the flags say."""
    from hatjax import results

    logging.getLogger("jax").setLevel(logging.WARNING)
    study = CONFIG.value
    try:
        where = Path(WORKDIR.value or Path("results") / study.name)
        runs = plan(study, where)
        finished = [results.finished(run.where, run.config) for run in runs if DRY_RUN.value]
        if not DRY_RUN.value:
            where.mkdir(parents=True, exist_ok=True)
    except InputError as error:
        cli.fail(error)
    except OSError as error:
        cli.fail(f"workdir {where} cannot be written ({error.strerror}): choose another")
    except (AttributeError, KeyError) as error:
        cli.fail(f"not the configuration of a study (see {cli.CONFIGS / DEFAULT}): {error}")
    if DRY_RUN.value:
        for run, there in zip(runs, finished, strict=True):
            print(f"{'finished' if there else 'to do':9} {run.name}")
        return
    try:
        there, failed = execute(runs)
    except KeyboardInterrupt:
        cli.fail(
            "interrupted: the same command goes on, and begins the run that was cut off anew", 130
        )
    text = tables(runs, there)
    results.write_text(where / "study.md", text)
    print(f"\n{text}\ntables in {where / 'study.md'}")
    if failed:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failed.items())
        print(f"{len(failed)} of {len(runs)} runs failed:{reasons}")
        raise SystemExit(1)


def parse(argv: list[str]) -> list[str]:
    """The flags, the configuration file being a positional argument, too."""
    if len(argv) > 1 and not argv[1].startswith("-"):
        argv = [argv[0], f"--config={argv[1]}", *argv[2:]]
    return cli.parse(argv, CONFIG, DEFAULT)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
