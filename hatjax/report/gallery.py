"""Which figures a report has, drawn and saved: PDF for the paper, PNG for the page."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from hatjax import masks, models
from hatjax.errors import InputError
from hatjax.report import figures, style
from hatjax.report.groups import Groups, shown
from hatjax.report.names import slug, value
from hatjax.report.numbers import METRICS, Runs
from hatjax.report.read import Record

GRID = {"approach.s_max", "approach.c"}  # the numbers of HAT that Fig. 4 varies


class Picture(NamedTuple):
    """A figure of the report, saved as NAME.pdf and NAME.png."""

    kind: str  # "fig3" to "fig7", "accuracy" or "matrix"
    name: str
    group: str  # the name of its group; "" for several
    title: str
    caption: str  # what it shows, and of which runs


Pictures = Iterator[tuple[Picture, Figure]]


def draw(groups: Groups, found: Runs, where: Path) -> tuple[list[Picture], list[str]]:
    """Save all figures that the runs give in the folder `where`.

    Returns them, and a line for each that is not there since a run is damaged.
    """
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    pictures: dict[str, Picture] = {}
    notes: list[str] = []
    with style.context():
        for picture, figure in every(groups, found, notes):
            name = picture.name
            while name in pictures:
                name += "-again"
            figure.savefig(where / f"{name}.png")
            figure.set_layout_engine("none")  # it is laid out now; that takes a while
            figure.savefig(where / f"{name}.pdf", metadata={"CreationDate": None})
            pictures[name] = picture._replace(name=name)
    return list(pictures.values()), notes


def every(groups: Groups, found: Runs, notes: list[str]) -> Pictures:
    """The figures in the order of the page; what cannot be drawn is told in `notes`."""
    for name, records in groups.items():
        yield from of_group(name, records, found)
        for record in examples(records):
            yield from capacity(name, record, found)
            yield from reuse(name, record, notes)
        for record in records:
            yield from matrix(name, record)
    yield from compression([r for records in groups.values() for r in records], found)


def of_group(group: str, records: Sequence[Record], found: Runs) -> Pictures:
    """What compares the runs of a group."""
    some = shown(records)
    seeds = ", ".join(map(str, sorted({r.seed for r in some})))
    from_runs = (
        f"Mean over the seeds ({seeds}), with its 95 % interval (Student's t) where there are "
        "several."
    )
    if max(len(r.names) for r in records) != 1:
        compared = [r for r in some if r.approach not in METRICS["rho"].needs]
        if figure := figures.over_tasks(found.of(compared).tasks, "rho"):
            yield Picture(
                "fig3", slug(f"fig3-rho-{group}"), group,
                "Forgetting ratio over the number of tasks (Fig. 3)",
                "0 is as good as joint training, -1 as bad as guessing (eq. 6); these two are not "
                f"shown. {from_runs}",
            ), figure  # fmt: skip
        if figure := figures.over_tasks(found.of(some).tasks, "average accuracy"):
            yield Picture(
                "accuracy", slug(f"accuracy-{group}"), group,
                "Average accuracy over the number of tasks",
                f"Test accuracy on the tasks learned so far. {from_runs}",
            ), figure  # fmt: skip
    hat = [r for r in records if r.approach == "hat" and r.finished and r.variant.keys() <= GRID]
    if hat and (drawn := figures.hyperparameters(found.of(hat).runs)):
        figure, metric = drawn
        what = "The forgetting ratio" if metric == "rho" else "The average accuracy"
        yield Picture(
            "fig4", slug(f"fig4-hyperparameters-{group}"), group,
            "Effect of s_max and c (Fig. 4)",
            f"{what} of HAT after the last task, the mean over the finished seeds of each setting.",
        ), figure  # fmt: skip


def examples(records: Sequence[Record]) -> list[Record]:
    """One run of each gated approach, for what is shown of single runs.

    With the approach's defaults (or its first variant), and of its seeds the first that has learned
    most tasks.
    """
    labels: dict[str, str] = {}
    for r in shown(records):
        if r.config.approach.gated:
            labels.setdefault(r.approach, r.label)
    of_label = [[r for r in records if r.label == label] for label in labels.values()]
    return [max(runs, key=lambda r: len(r.acc)) for runs in of_label]


def capacity(group: str, record: Record, found: Runs) -> Pictures:
    if figure := figures.capacity(found.of([record]).epochs):
        yield Picture(
            "fig5", slug(f"fig5-capacity-{group} {record.approach}"), group,
            "Capacity used in each layer over training (Fig. 5)",
            "The mean of the gates of all tasks so far, at the end of every epoch. A task that "
            f"opens units it does not need closes them again. {places([record])}.",
        ), figure  # fmt: skip


def reuse(group: str, record: Record, notes: list[str]) -> Pictures:
    """Of a run of several tasks; a line in `notes` if its model is damaged."""
    n = len(record.acc)
    if n < 2:
        return
    try:
        shares = masks.overlap(models.load(record.where))[:n, :n]
    except InputError as error:
        notes.append(str(error))
        return
    yield Picture(
        "fig6", slug(f"fig6-reuse-{group} {record.approach}"), group,
        "Weights of a task that later tasks use again (Fig. 6)",
        "The share of the weights of task i (row) that task j (column) uses too. "
        f"{places([record])}.",
    ), figures.reuse(shares)  # fmt: skip


def matrix(group: str, record: Record) -> Pictures:
    """The accuracy matrix of a run of several tasks."""
    if len(record.names) > 1 and len(record.acc):
        title = f"{record.label}, seed {record.seed}"
        tasks = "; ".join(f"{i + 1} {name}" for i, name in enumerate(record.names))
        state = record.state[:1].upper() + record.state[1:]
        yield Picture(
            "matrix", slug(f"matrix {group} {title}"), group, title,
            f"{state}. {places([record])}. Tasks: {tasks}.",
        ), figures.accuracy(record)  # fmt: skip


def compression(records: Sequence[Record], found: Runs) -> Pictures:
    """Of all runs of one task."""
    needed = {"kept", "valid_accuracy"}
    alone = [r for r in records if len(r.names) == 1 and r.epochs and needed <= r.epochs[0].keys()]
    lines = [(value(r.config.data.sets), found.of([r]).epochs) for r in alone]
    if figure := figures.compression(lines):
        yield Picture(
            "fig7", "fig7-compression", "", "Accuracy against kept weights (Fig. 7)",
            "Validation accuracy against the share of weights that the task keeps, epoch by epoch "
            "from left to right; the marker is the last epoch. A line is a run of one task: "
            f"{places(alone)}.",
        ), figure  # fmt: skip


def places(records: Sequence[Record]) -> str:
    """Where the runs of a figure are."""
    some = ", ".join(str(r.where) for r in records[:12])
    more = f" and {len(records) - 12} more" if len(records) > 12 else ""
    return f"Run{'s' if len(records) > 1 else ''} {some}{more}"
