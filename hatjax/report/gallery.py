"""Which figures a report has, drawn and saved: PDF for the paper, PNG for the page."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from hatjax.analysis import masks, models
from hatjax.errors import InputError
from hatjax.report import figures, style
from hatjax.report.groups import Group, shown
from hatjax.report.names import slug
from hatjax.report.numbers import METRICS, Values
from hatjax.report.read import Record


class Picture(NamedTuple):
    """A figure of the report, saved as NAME.pdf and NAME.png."""

    kind: str  # "fig3" to "fig7", "accuracy" or "matrix"
    name: str
    group: str  # the name of its group; "" for several
    title: str
    caption: str  # what it shows, and of which runs


def draw(groups: Sequence[Group], found: Values, where: Path) -> tuple[list[Picture], list[str]]:
    """Save all figures that the runs give in the folder `where`.

    Returns them, and a line for each that a damaged run should have given.
    """
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    pictures: list[Picture] = []
    notes: list[str] = []
    taken: set[str] = set()
    with style.context():
        for picture, figure in every(groups, found, notes):
            name = picture.name
            while name in taken:
                name += "-again"
            taken.add(name)
            figure.savefig(where / f"{name}.png")
            figure.set_layout_engine("none")  # it is laid out now; that takes a while
            figure.savefig(where / f"{name}.pdf", metadata={"CreationDate": None})
            pictures.append(picture._replace(name=name))
    return pictures, notes


def every(
    groups: Sequence[Group], found: Values, notes: list[str]
) -> Iterator[tuple[Picture, Figure]]:
    """The figures in the order of the page; what cannot be drawn is told in `notes`."""
    for group in groups:
        yield from of_group(group, found)
        for record in examples(group):
            yield from of_run(group, record, notes)
        for record in group.records:
            if len(record.names) > 1 and len(record.acc):
                yield matrix(group, record)
    together = [r for group in groups for r in group.records]
    if figure := figures.compression(together):
        yield (
            Picture(
                "fig7", "fig7-compression", "", "Accuracy against kept weights (Fig. 7)",
                "Validation accuracy against the share of weights that the task keeps, epoch by "
                "epoch from left to right; the marker is the last epoch. A line is a run of one "
                f"task: {runs([r for r in together if len(r.names) == 1 and r.epochs])}.",
            ),
            figure,
        )  # fmt: skip


def of_group(group: Group, found: Values) -> Iterator[tuple[Picture, Figure]]:
    """What compares the runs of a group."""
    lines, name = shown(group), slug(group.name)
    seeds = sorted({r.config.seed for line in lines for r in line.records})
    from_runs = (
        f"Mean over the seeds ({', '.join(map(str, seeds))}), with its 95 % interval (Student's t) "
        "where there are several."
    )
    if len(group.records[0].names) != 1:
        compared = [line for line in lines if line.approach not in METRICS["rho"].needs]
        if figure := figures.over_tasks(group, compared, found, "rho"):
            yield (
                Picture(
                    "fig3", f"fig3-rho-{name}", group.name,
                    "Forgetting ratio over the number of tasks (Fig. 3)",
                    "0 is as good as joint training, -1 as bad as guessing (eq. 6); these two are "
                    f"not shown. {from_runs}",
                ),
                figure,
            )  # fmt: skip
        if figure := figures.over_tasks(group, lines, found, "average accuracy"):
            yield (
                Picture(
                    "accuracy", f"accuracy-{name}", group.name,
                    "Average accuracy over the number of tasks",
                    f"Test accuracy on the tasks learned so far. {from_runs}",
                ),
                figure,
            )  # fmt: skip
    if drawn := figures.hyperparameters(group, found):
        figure, metric = drawn
        what = "The forgetting ratio" if metric == "rho" else "The average accuracy"
        yield (
            Picture(
                "fig4", f"fig4-hyperparameters-{name}", group.name,
                "Effect of s_max and c (Fig. 4)",
                f"{what} of HAT after the last task, the mean over the finished seeds of each "
                "setting.",
            ),
            figure,
        )  # fmt: skip


def examples(group: Group) -> list[Record]:
    """One run of each gated approach, for what is shown of single runs.

    The usual variant (or the first), and of its seeds the first that has got farthest.
    """
    gated = [line for line in shown(group) if line.records[0].config.approach.get("gated")]
    first = {line.approach: line for line in reversed(gated)}
    return [max(line.records, key=lambda r: len(r.acc)) for line in first.values()]


def of_run(group: Group, record: Record, notes: list[str]) -> Iterator[tuple[Picture, Figure]]:
    """What is shown of a single gated run."""
    name = slug(f"{group.name} {record.approach}")
    if figure := figures.capacity(record):
        yield (
            Picture(
                "fig5", f"fig5-capacity-{name}", group.name,
                "Capacity used in each layer over training (Fig. 5)",
                "The mean of the gates of all tasks so far, at the end of every epoch. A task "
                "that opens units it does not need closes them again. "
                f"{runs([record])}.",
            ),
            figure,
        )  # fmt: skip
    if len(record.acc) > 1:
        try:
            n = len(record.acc)
            shares = masks.overlap(models.load(record.where))[:n, :n]
        except InputError as error:
            notes.append(str(error))
            return
        yield (
            Picture(
                "fig6", f"fig6-reuse-{name}", group.name,
                "Weights of a task that later tasks use again (Fig. 6)",
                "The share of the weights of task i (row) that task j (column) uses too. "
                f"{runs([record])}.",
            ),
            figures.reuse(shares),
        )  # fmt: skip


def matrix(group: Group, record: Record) -> tuple[Picture, Figure]:
    """The accuracy matrix of a run."""
    label = next(line.label for line in group.lines if any(r is record for r in line.records))
    title = f"{label}, seed {record.config.seed}"
    tasks = "; ".join(f"{i + 1} {name}" for i, name in enumerate(record.names))
    return (
        Picture(
            "matrix", slug(f"matrix {group.name} {title}"), group.name, title,
            f"{record.state[:1].upper()}{record.state[1:]}. {runs([record])}. Tasks: {tasks}.",
        ),
        figures.accuracy(record),
    )  # fmt: skip


def runs(records: Sequence[Record]) -> str:
    """Where the runs of a figure lie."""
    some = ", ".join(str(r.where) for r in records[:12])
    more = f" and {len(records) - 12} more" if len(records) > 12 else ""
    return f"Run{'s' if len(records) > 1 else ''} {some}{more}"
