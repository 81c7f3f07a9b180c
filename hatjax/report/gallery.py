"""The figures of a report, saved as PDF for the paper and as PNG for the page."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from hatjax.analysis import masks, models, which
from hatjax.errors import InputError
from hatjax.report import figures, heat, style
from hatjax.report.confusion import Counts, pooled
from hatjax.report.groups import Groups, names, shown, varied
from hatjax.report.names import paper, slug, value
from hatjax.report.numbers import FEWEST, METRICS, Runs
from hatjax.report.read import Record

PANELS = 12  # confusion matrices in a figure


class Picture(NamedTuple):
    """A figure of the report, saved as NAME.pdf and NAME.png."""

    kind: str  # "fig3" to "fig7", "accuracy", "first", "matrix" or "confusion"
    name: str
    group: str  # the name of its group; "" for several
    title: str
    caption: str  # what it shows, and of which runs


def draw(
    groups: Groups, found: Runs, counts: Sequence[Counts], where: Path
) -> tuple[list[Picture], list[str]]:
    """Save all figures that can be drawn from the runs in the folder `where`.

    `counts` are those of the confusion matrices. Returns the figures, and a note for each that is
    left out because a run is damaged.
    """
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    pictures: dict[str, Picture] = {}
    notes: list[str] = []
    with style.context():
        for picture, figure in all_figures(groups, found, notes, counts):
            name = slug(picture.name, pictures)
            figure.savefig(where / f"{name}.png")
            figure.set_layout_engine("none")  # a second layout would only take time
            figure.savefig(where / f"{name}.pdf", metadata={"CreationDate": None})
            pictures[name] = picture._replace(name=name)
    return list(pictures.values()), notes


def all_figures(
    groups: Groups, found: Runs, notes: list[str], counts: Sequence[Counts] = ()
) -> Iterator[tuple[Picture, Figure]]:
    """Yield the figures in the order of the page; damaged models are added to `notes`."""

    def candidates() -> Iterator[tuple[Picture, Figure | None]]:
        for group, records in groups.items():
            named = names(records)
            yield from of_group(group, records, found.of(records).named(named))
            for record in examples(records):
                yield from of_example(group, record, found, notes)
            for record in records:
                yield matrix(group, record, named[record.label])
            mine = [c for c in counts if c.record in records]
            for label, of_tasks in pooled(mine).items():
                yield from confusions(group, named[label], list(of_tasks.values()))
        yield compression([r for records in groups.values() for r in records], found)

    yield from ((picture, figure) for picture, figure in candidates() if figure)


def of_group(
    group: str, records: Sequence[Record], found: Runs
) -> Iterator[tuple[Picture, Figure | None]]:
    """Figures that compare the runs of a group; None for those that cannot be drawn."""
    some, sentences = shown(records)
    seeds = sorted({r.seed for r in some})
    several = f"Mean over the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "One seed"
    interval = ", with a 95 % interval (Student's t)" if len(seeds) >= FEWEST else ""
    mean = " ".join([f"{several}{interval}.", *sentences])
    compared = [r for r in some if r.approach not in METRICS["rho"].needs]
    yield Picture(
        "fig3", f"fig3-rho-{group}", group, "Forgetting ratio over the number of tasks (Fig. 3)",
        "0 is as good as joint training, -1 as bad as guessing (eq. 6); these two are not shown. "
        + mean,
    ), figures.over_tasks(found.of(compared).tasks, "rho")  # fmt: skip
    yield Picture(
        "accuracy", f"accuracy-{group}", group, "Average accuracy over the number of tasks",
        f"Test accuracy on the tasks learned so far. {mean}",
    ), figures.over_tasks(found.of(some).tasks, "average accuracy")  # fmt: skip
    finished = [r for r in some if r.finished and len(r.acc) > 1]
    if finished:
        named = names(records)
        of_label: dict[str, list[np.ndarray]] = {}
        for r in finished:
            of_label.setdefault(named[r.label], []).append(r.acc)
        band = ", with a band of one standard deviation" if len(seeds) > 1 else ""
        yield Picture(
            "first", f"first-task-{group}", group, "Accuracy on the first task",
            "Test accuracy on the task learned first while the others are learned. "
            + " ".join([f"{several}{band}.", *sentences]),
        ), figures.forgetting(of_label)  # fmt: skip
    others = set(varied(records).get("hat", ())) - {"approach.s_max", "approach.c"}
    hat = [r for r in records if r.approach == "hat" and r.finished and not others & set(r.variant)]
    if hat:
        yield Picture(
            "fig4", f"fig4-hyperparameters-{group}", group, "Effect of s_max and c (Fig. 4)",
            "HAT after the last task: the mean over the finished seeds of each setting, ± their "
            "standard deviation (as error bars: 95 % intervals).",
        ), figures.hyperparameters(found.of(hat).runs)  # fmt: skip


def examples(records: Sequence[Record]) -> list[Record]:
    """A run of each gated approach: of its first label, the one that has learned most tasks."""
    best: dict[str, Record] = {}
    for r in shown(records)[0]:
        if r.config.approach.gated:
            other = best.setdefault(r.approach, r)
            if r.label == other.label and len(r.acc) > len(other.acc):
                best[r.approach] = r
    return list(best.values())


def of_example(
    group: str, record: Record, found: Runs, notes: list[str]
) -> Iterator[tuple[Picture, Figure | None]]:
    """Figures of a single gated run; a damaged model is added to `notes`."""
    run = f"{locations([record])}."
    yield Picture(
        "fig5", f"fig5-capacity-{group}-{record.approach}", group,
        "Capacity used in each layer over training (Fig. 5)",
        "The mean of the gates of all tasks so far, at the end of every epoch. A task that opens "
        f"units it does not need closes them again. {run}",
    ), figures.capacity(found.of([record]).epochs)  # fmt: skip
    n = len(record.acc)
    if n < 2:
        return
    try:
        model = models.load(record.where)
        there = [t for t in range(n) if not which.is_forgotten(model, t)]
        shares = np.full((n, n), np.nan)
        shares[np.ix_(there, there)] = masks.overlap_of(model, there)
    except InputError as error:
        notes.append(str(error))
        return
    yield Picture(
        "fig6", f"fig6-reuse-{group}-{record.approach}", group,
        "Weights of a task that later tasks use again (Fig. 6)",
        f"The share of the weights of task i (row) that task j (column) uses too. {run}",
    ), heat.reuse(shares)  # fmt: skip


def matrix(group: str, record: Record, name: str) -> tuple[Picture, Figure | None]:
    """The accuracy matrix of a run, which the figure calls `name`."""
    title = f"{name}, seed {record.seed}"
    file = slug(record.approach + title.removeprefix(paper(record.approach)))
    tasks = "; ".join(f"{i + 1} {name}" for i, name in enumerate(record.names))
    total = len(record.names)
    return Picture(
        "matrix", f"matrix-{group}-{file}", group, title,
        f"{record.state.capitalize()}. {locations([record])}. Tasks: {tasks}.",
    ), heat.accuracy(record.acc, total) if len(record.acc) and total > 1 else None  # fmt: skip


def confusions(
    group: str, name: str, counts: Sequence[Counts]
) -> Iterator[tuple[Picture, Figure | None]]:
    """The confusion matrices of the tasks of an approach, PANELS in a figure."""
    file = slug(counts[0].record.approach + name.removeprefix(paper(counts[0].record.approach)))
    for i in range(0, len(counts), PANELS):
        some = counts[i : i + PANELS]
        part = f", tasks {i + 1} to {i + len(some)}" if len(counts) > PANELS else ""
        yield Picture(
            "confusion", f"confusion-{group}-{file}" + (f"-{i // PANELS + 1}" if part else ""),
            group, f"Confusion matrices of {name}{part}",
            "The share of the test images of each class (row) that is taken for each class of the "
            "task (column), after the last task, over all finished seeds.",
        ), heat.confusion([
            (f"{c.task}: {np.trace(c.counts) / c.counts.sum():.1%}", c.classes, c.counts)
            for c in some
        ])  # fmt: skip


def compression(records: Sequence[Record], found: Runs) -> tuple[Picture, Figure | None]:
    """The compression figure of all runs of a single task."""
    needed = {"kept", "valid_accuracy"}
    alone = [r for r in records if len(r.names) == 1 and r.epochs and needed <= r.epochs[0].keys()]
    lines = [(value(r.config.data.sets), found.of([r]).epochs) for r in alone]
    return Picture(
        "fig7", "fig7-compression", "", "Accuracy against kept weights (Fig. 7)",
        "Validation accuracy against the share of weights that the task keeps, epoch by epoch from "
        "left to right; the marker is the last epoch. A line is a run of one task. "
        f"{locations(alone)}.",
    ), figures.compression(lines)  # fmt: skip


def locations(records: Sequence[Record]) -> str:
    """The workdirs of the runs of a figure, as text."""
    some = ", ".join(str(r.where) for r in records[:12])
    more = f" and {len(records) - 12} more" if len(records) > 12 else ""
    return f"Run{'s' if len(records) > 1 else ''} {some}{more}"
