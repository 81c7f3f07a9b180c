"""The metrics of runs as pandas frames, and their statistics over seeds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from hatjax import config as configs
from hatjax.analysis import metrics
from hatjax.report import versions
from hatjax.report.groups import reference
from hatjax.report.names import words
from hatjax.report.read import Record


class Metric(NamedTuple):
    """A metric of a run after every task."""

    # (acc, acc of each reference), "n n" -> "n". None: one of results.READINGS, by METHOD, which is
    # known after the last task alone.
    of: Callable[..., np.ndarray] | None
    needs: tuple[str, ...] = ()  # the approaches whose runs are its references
    unit: str = "%"
    form: str = "{:+z.1f}"
    first: int = 2  # defined from this number of tasks on
    bounds: tuple[float, float] = (-1, 1)  # of its values, before they are scaled to the unit
    label: str = ""  # in tables and figures, if it is another than in the frames

    @property
    def scale(self) -> float:
        """The factor from the computed number to the unit."""
        return 100 if self.unit == "%" else 1


def every(metric: Callable[..., float]) -> Callable[..., np.ndarray]:
    """A metric of hatjax.analysis.metrics after every task, "n"."""
    return partial(metrics.after_every_task, metric)


METRICS = {
    "average accuracy": Metric(
        every(metrics.average_accuracy), form="{:.1f}", first=1, bounds=(0, 1)
    ),
    "forgetting": Metric(every(metrics.forgetting), form="{:z.1f}"),
    "backward transfer": Metric(every(metrics.backward_transfer)),
    "forward transfer": Metric(every(metrics.forward_transfer), ("sgd_restart",)),
    "intransigence": Metric(every(metrics.intransigence), ("joint",), first=1),
    "rho": Metric(
        metrics.forgetting_ratio, ("random", "joint"), "", "{:+z.2f}", 1, (-math.inf, math.inf), "ρ"
    ),
}
READINGS = {
    "task found": "task_found",
    "class-incremental accuracy": "class_incremental",
    "domain-incremental accuracy": "domain_incremental",
}
METHOD = "entropy"  # hatjax.predict's own
METRICS |= {name: Metric(None, form="{:.1f}", bounds=(0, 1)) for name in READINGS}
FEWEST = 3  # seeds, for an interval: that of two would reach nine deviations to either side
SPREADS = [f"{m}{part}" for m in METRICS for part in ("", " std", " low", " high", " seeds")]
LINE = ["experiment", "setting", "approach"]  # the columns that seeds have in common
IDENTITY = ["workdir", *LINE, "seed"]


def title(metric: str) -> str:
    """A metric in tables and figures, with its unit: "forgetting (%)", "ρ"."""
    name, unit = METRICS[metric].label or metric, METRICS[metric].unit
    return f"{name} ({unit})" if unit else name


class Runs(NamedTuple):
    """The numbers of runs; docs/report.md lists the columns."""

    runs: pd.DataFrame  # a row a run
    epochs: pd.DataFrame  # a row an epoch
    tasks: pd.DataFrame  # a row for each task that a run has learned

    def of(self, records: Iterable[Record]) -> "Runs":
        """The rows of the given runs, in their order."""
        places = {str(r.where): i for i, r in enumerate(records)}

        def some(frame: pd.DataFrame) -> pd.DataFrame:
            place = frame["workdir"].map(places).dropna()
            return frame.loc[place.sort_values(kind="stable").index]

        return Runs(*map(some, self))

    def named(self, names: Mapping[str, str]) -> "Runs":
        """With the names of tables and figures (groups.names) in the column "approach"."""
        return Runs(
            *(f.assign(approach=f["approach"].map(lambda a: names.get(a, a))) for f in self)
        )


def all_values(records: Iterable[Record]) -> Runs:
    """The frames of `records`, in their order; reference runs are searched among them."""
    records = list(records)
    curves = [values(record, records) for record in records]
    # `own` twice: its columns come first, and those of a damaged file cannot overwrite it.
    epochs = [own | row | own for r in records for own in [identity(r)] for row in r.epochs]
    tasks = [
        identity(r) | {"tasks learned": t + 1, "task": r.names[t]} | {m: v[t] for m, v in c.items()}
        for r, c in zip(records, curves, strict=True)
        for t in range(len(r.acc))
    ]
    return Runs(
        pd.DataFrame([of_run(r, c) for r, c in zip(records, curves, strict=True)]),
        pd.DataFrame(epochs, columns=None if epochs else IDENTITY),
        pd.DataFrame(tasks, columns=[*IDENTITY, "tasks learned", "task", *METRICS]).astype(
            dict.fromkeys(METRICS, float)
        ),
    )


def of_run(record: Record, curves: Mapping[str, np.ndarray]) -> dict[str, object]:
    """A row: identity and state of a run, its metrics so far, its configuration and versions."""
    stands = {
        "state": record.state, "finished": record.finished, "tasks": len(record.names),
        "tasks learned": len(record.acc),
    }  # fmt: skip
    last = {m: curve[-1] if len(curve) else np.nan for m, curve in curves.items()}
    fields = configs.fields(record.config)
    fields |= versions.columns(record)
    return identity(record) | stands | last | {k: fields[k] for k in fields if k not in IDENTITY}


def identity(record: Record) -> dict[str, object]:
    """The columns that identify a run."""
    where, config = str(record.where), record.config
    each = (where, config.experiment, words(record.setting), record.label, record.seed)
    return dict(zip(IDENTITY, each, strict=True))


def values(record: Record, records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Each metric of METRICS after every task that the run has learned, "n".

    NaN where a metric is undefined (after one task, or if joint training is at chance), and where a
    reference run is not among `records` or has not learned that task yet.
    """
    found = {}
    for metric, m in METRICS.items():
        found[metric] = np.full(len(record.acc), np.nan)
        if m.of is None:
            if record.finished and METHOD in record.task_free and len(record.acc) >= m.first:
                each = record.task_free[METHOD][READINGS[metric]]
                found[metric][-1:] = metrics.mean(np.array(each))
            continue
        references = [reference(record, approach, records) for approach in m.needs]
        accs = [record.acc, *(r.acc for r in references if r)]
        if len(accs) > len(m.needs):
            n = min(map(len, accs))
            after = m.of(*(a[:n, :n] for a in accs))
            found[metric][:n] = np.where(np.isfinite(after), after, np.nan)
            found[metric][: m.first - 1] = np.nan
    return found


def spread(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Statistics over seeds: each metric over the rows that agree in the columns `by`.

    For rho: its mean "rho", its sample standard deviation "rho std", the 95 % confidence interval
    of the mean (Student's t), "rho low" to "rho high", within the metric's bounds, and of how many
    rows they are, "rho seeds": NaN is left out, as of a seed without its reference runs. "seeds" is
    the number of all rows. A single value has only a mean, and fewer than FEWEST have no interval.
    """
    groups = frame.groupby(list(by), sort=False)[list(METRICS)]
    mean, std, n = groups.mean(), groups.std(), groups.count()
    reach = (special.stdtrit(n - 1, 0.975) * std / n**0.5).where(n >= FEWEST)
    low, high = (pd.Series({m: METRICS[m].bounds[i] for m in METRICS}) for i in (0, 1))
    parts = {
        "": mean, " std": std,
        " low": (mean - reach).clip(low, axis="columns"),
        " high": (mean + reach).clip(upper=high, axis="columns"),
        " seeds": n,
    }  # fmt: skip
    found = pd.concat([part.add_suffix(k) for k, part in parts.items()], axis=1)[SPREADS]
    found.insert(0, "seeds", n["average accuracy"])  # which every run has after every task
    return found.reset_index()


def at_end(runs: pd.DataFrame) -> pd.DataFrame:
    """The spread over finished runs after the last task; a row of NaN where none is finished."""
    done = runs.copy()
    done.loc[~done["finished"], list(METRICS)] = np.nan
    return spread(done, LINE)


def over_seeds(tasks: pd.DataFrame) -> pd.DataFrame:
    """The spread after every task, over all runs that have learned it."""
    return spread(tasks, [*LINE, "tasks learned"])
