"""The numbers of runs and groups: every metric after every task, and what several seeds say."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hatjax.analysis import metrics
from hatjax.report.groups import Line, reference
from hatjax.report.read import Record

Values = dict[Path, dict[str, np.ndarray]]  # workdir -> metric -> after every task, "n"


class Metric(NamedTuple):
    """A number for a run, after every task."""

    unit: str
    scale: float  # from the number as computed to the unit
    form: str
    needs: tuple[str, ...]  # the approaches it is compared with
    of: Callable[..., np.ndarray]  # (acc, acc of each that it needs) -> "T"
    first: int = 2  # it says something from so many tasks on


METRICS = {
    "average accuracy": Metric(
        "%", 100, "{:.1f}", (), partial(metrics.after_every_task, metrics.average_accuracy), 1
    ),
    "forgetting": Metric(
        "%", 100, "{:z.1f}", (), partial(metrics.after_every_task, metrics.forgetting)
    ),
    "backward transfer": Metric(
        "%", 100, "{:+z.1f}", (), partial(metrics.after_every_task, metrics.backward_transfer)
    ),
    "forward transfer": Metric(
        "%", 100, "{:+z.1f}", ("sgd_restart",),
        partial(metrics.after_every_task, metrics.forward_transfer),
    ),
    "intransigence": Metric(
        "%", 100, "{:+z.1f}", ("joint",),
        partial(metrics.after_every_task, metrics.intransigence), 1,
    ),
    "rho": Metric("", 1, "{:+z.2f}", ("random", "joint"), metrics.forgetting_ratio, 1),
}  # fmt: skip


def title(metric: str) -> str:
    unit = METRICS[metric].unit
    return f"{metric} ({unit})" if unit else metric


class Spread(NamedTuple):
    """What several seeds say."""

    n: int
    mean: float
    deviation: float | None  # None of a single seed
    interval: tuple[float, float] | None  # 95 % (metrics.interval)


def all_values(records: Sequence[Record]) -> Values:
    """`values` of each record."""
    return {record.where: values(record, records) for record in records}


def values(record: Record, records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Each metric of METRICS after every task, "n", as far as the run and its references are.

    Not a number where a metric says nothing: after one task, or where joint training only guesses.
    """
    found = {}
    for metric, m in METRICS.items():
        references = [
            r for approach in m.needs if (r := reference(record, approach, records)) is not None
        ]
        if len(references) < len(m.needs):
            continue
        accs = [record.acc, *(r.acc for r in references)]
        n = min(map(len, accs))
        after = m.of(*(a[:n, :n] for a in accs))
        after = np.where(np.isfinite(after), after, np.nan)
        after[: m.first - 1] = np.nan
        found[metric] = after
    return found


def spread(numbers: Iterable[float]) -> Spread | None:
    """Mean, standard deviation and interval of the numbers there are; None if there is none."""
    there = [float(v) for v in numbers if np.isfinite(v)]
    if not there:
        return None
    mean, deviation = metrics.over_seeds(there)
    return Spread(len(there), mean, deviation if len(there) > 1 else None, metrics.interval(there))


def after(line: Line, found: Values, metric: str, t: int) -> Spread | None:
    """A metric of a line after t tasks, over the seeds that are so far."""
    curves = [found[record.where].get(metric, ()) for record in line.records]
    return spread(curve[t - 1] for curve in curves if len(curve) >= t)


def at_end(line: Line, found: Values, metric: str) -> Spread | None:
    """A metric of a line after the last task, over the seeds that are finished."""
    done = line._replace(records=tuple(r for r in line.records if r.finished))
    return after(done, found, metric, tasks(line.records))


def tasks(records: Iterable[Record]) -> int:
    """The number of tasks; 0 where no run knows it yet."""
    return max((len(record.names) for record in records), default=0)
