"""How far the runs of a group are: at the start, from checkpoints, into checkpoints."""

import dataclasses
from typing import Any

import jax
import numpy as np

from hatjax.errors import InputError
from hatjax.experiment import checkpoints
from hatjax.experiment.checkpoints import About, Position, Saved
from hatjax.experiment.group import Group
from hatjax.training import keys, replicas, train
from hatjax.types import Approach, Tree, Turn
from hatjax.workdir import files, results


@dataclasses.dataclass
class Course:
    """Where a group stands. It moves on as the group learns."""

    at: Position
    tree: Tree  # "R ..." on the devices: (params, memory) between tasks, else train's State
    acc: np.ndarray  # "R T T"
    loss: np.ndarray  # "R T T"
    lost: dict[int, str]  # the runs that diverged, and how

    def going(self) -> list[int]:
        """The runs that have not diverged."""
        return [r for r in range(len(self.acc)) if r not in self.lost]


def begin(group: Group, program: train.Program) -> Course:
    """Before the first task; whatever the workdirs hold of earlier attempts is removed."""
    for where in group.places if replicas.writes() else ():
        with files.writing(where):
            files.clean(where)
    acc, loss = np.zeros((2, group.count, group.total, group.total))
    return Course(Position(0, 0), program.init(group.key(0)), acc, loss, {})


def save(group: Group, course: Course, runs: list[int]) -> None:
    """Save where `runs` stand. Every process takes part, one writes. Raises Unwritable."""
    tree = course.tree
    if course.at.epoch == 0:  # as a model is saved
        tree = dict(zip(("params", "memory"), tree, strict=True))
    tree = group.placement.fetch(checkpoints.packed(tree))
    for r in runs if replicas.writes() else ():
        where = group.places[r]
        about = About(
            group.settings[r],
            group.fingerprints(r),
            [place.name for place in group.places],
            checkpoints.versions(),
        )
        with files.writing(where):
            saved = Saved(group.one(r, tree), course.acc[r], course.loss[r])
            checkpoints.save(where, course.at, saved, about)
    for r in runs if replicas.writes() else ():  # only now: all have this position
        checkpoints.prune(group.places[r])


def resume(group: Group, approach: Approach, at: Position) -> tuple[Course, list[str]]:
    """The course from the checkpoints at a position, and what a person should know of that.

    Runs that diverged stay so, but when all of them have: then they try again. Raises InputError
    if the configuration or the tasks' images are not those that the checkpoints were made with, or
    a checkpoint cannot be read, and Unwritable.
    """
    lost, notes = replicas.by_first(lambda: check(group, at)) or ({}, [])
    runs = range(group.count)
    diverged = replicas.agreed([r in lost for r in runs])
    lost = {r: lost.get(r, "diverged") for r in runs if diverged[r]}
    shapes = shapes_at(group, approach, at)
    packed = jax.eval_shape(checkpoints.packed, shapes)
    saved = replicas.by_first(lambda: read(group, at, lost, packed))
    if saved is None:  # the others hear from the first process what stands in the checkpoint
        nothing = np.zeros((group.count, group.total, group.total))
        saved = stacked(group, packed), nothing, nothing
    tree, acc, loss = replicas.from_first(saved)
    tree = checkpoints.unpacked(group.placement.put(tree), shapes)
    if at.epoch == 0:
        tree = tree["params"], tree["memory"]
    return Course(at, tree, np.asarray(acc, float), np.asarray(loss, float), lost), notes


def check(group: Group, at: Position) -> tuple[dict[int, str], list[str]]:
    """The runs that diverged, and notes; InputError if the checkpoints are those of other runs."""
    told = [where / "diverged" for where in group.places]
    lost = {r: path.read_text() for r, path in enumerate(told) if path.is_file()}
    if len(lost) == group.count:  # they try again
        lost = {}
    notes: dict[str, None] = {}
    for r, where in enumerate(group.places):
        if r in lost:
            continue
        about, now = checkpoints.about(where, at), checkpoints.versions()
        if other := files.differences(about.config, group.settings[r]):
            raise InputError(
                f"{checkpoints.place(where, at)} is of another configuration ({'; '.join(other)}): "
                "begin anew with --overwrite"
            )
        results.same_tasks(where, about.data, group.fingerprints(r))
        notes |= dict.fromkeys(
            f"the checkpoint was made with {k} {about.versions.get(k)}, this is {now[k]}: the last "
            "digits of the results may differ from those of a run without a pause"
            for k in now
            if about.versions.get(k) != now[k]
        )
    return lost, list(notes)


def read(group: Group, at: Position, lost: dict[int, str], packed: Tree) -> tuple[Tree, Any, Any]:
    """The tree "R ..." of the checkpoints, accuracies and losses "R T T", on the host.

    A run that diverged is given the numbers of another, which nobody reads any more. What the
    others have that is newer is removed.
    """
    saved = {
        r: checkpoints.load(where, at, packed)
        for r, where in enumerate(group.places)
        if r not in lost
    }
    for where in (group.places[r] for r in saved):
        with files.writing(where):
            files.remove(where / "diverged")
            checkpoints.go_back(where, at)
    each = [saved.get(r) or next(iter(saved.values())) for r in range(group.count)]
    each += [each[-1]] * (group.placement.padded - group.count)
    tree = jax.tree.map(lambda *leaves: np.stack(leaves), *(s.tree for s in each))
    each = each[: group.count]
    return tree, np.stack([s.acc for s in each]), np.stack([s.loss for s in each])


def shapes_at(group: Group, approach: Approach, at: Position) -> Tree:
    """The tree of one run at a position, as shapes."""
    functions = train.functions(group.config, approach)
    turn = Turn(np.int32(0), np.int32(0))
    hyper = train.hyperparameters(group.config)
    key = keys.key(0)
    params, memory = jax.eval_shape(functions.init, key)
    if at.epoch == 0:
        return {"params": params, "memory": memory}
    return jax.eval_shape(functions.begin, params, memory, turn, key, hyper)


def stacked(group: Group, shapes: Tree) -> Tree:
    """Zeros of those shapes, with the axis R first."""
    return jax.tree.map(lambda s: np.zeros((group.placement.padded, *s.shape), s.dtype), shapes)
