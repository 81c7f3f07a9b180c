"""How far the runs of a group are: at the start, from checkpoints, into checkpoints."""

import dataclasses
from typing import Any

import jax
import numpy as np

from hatjax import checkpoints, keys, replicas, results, train, workdir
from hatjax.checkpoints import About, Position, Saved
from hatjax.group import Group
from hatjax.types import Approach, Tree, Turn


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
        workdir.clean(where)
    acc, loss = np.zeros((2, group.count, group.total, group.total))
    return Course(Position(0, 0), program.init(group.key(0)), acc, loss, {})


def save(group: Group, course: Course, runs: list[int]) -> None:
    """Save where `runs` stand. Every process takes part, one writes. Raises Unwritable."""
    tree = group.placement.fetch(checkpoints.packed(course.tree))
    for r in runs if replicas.writes() else ():
        where = group.places[r]
        about = About(
            group.fingerprints(r), [place.name for place in group.places], checkpoints.versions()
        )
        with workdir.writing(where):
            saved = Saved(group.one(r, tree), course.acc[r], course.loss[r])
            checkpoints.save(where, course.at, saved, about)


def resume(group: Group, approach: Approach) -> tuple[Course | None, list[str]]:
    """Where the newest whole checkpoints of all runs are, and what a person should know of that.

    None if there is no position of which all have one. Runs that diverged stay so, but when all of
    them have: then they try again. Raises InputError if the tasks' images are not those that the
    checkpoints were made with, or a checkpoint cannot be read.
    """
    at, lost, notes = replicas.by_first(lambda: locate(group)) or (None, {}, [])
    runs = range(group.count)
    found = replicas.agreed([at is not None, *(at or (0, 0)), *(r in lost for r in runs)])
    if not found[0]:
        return None, notes
    at = Position(*found[1:3])
    lost = {r: lost.get(r, "diverged") for r in runs if found[3 + r]}
    shapes = shapes_at(group, approach, at)
    packed = jax.eval_shape(checkpoints.packed, shapes)
    saved = replicas.by_first(lambda: read(group, at, lost, packed))
    if saved is None:  # the others hear from the first process what stands in the checkpoint
        nothing = np.zeros((group.count, group.total, group.total))
        saved = stacked(group, packed), nothing, nothing
    tree, acc, loss = replicas.from_first(saved)
    tree = checkpoints.unpacked(group.placement.put(tree), shapes)
    return Course(at, tree, np.asarray(acc, float), np.asarray(loss, float), lost), notes


def locate(group: Group) -> tuple[Position | None, dict[int, str], list[str]]:
    """The newest position of which all runs have a whole checkpoint, those that diverged, notes."""
    told = [where / "diverged" for where in group.places]
    lost = {r: path.read_text() for r, path in enumerate(told) if path.exists()}
    if len(lost) == group.count:  # they try again
        lost = {}
    going = [r for r in range(group.count) if r not in lost]
    at, damaged = checkpoints.newest([group.places[r] for r in going])
    notes = [f"checkpoint {folder} is damaged: going back" for folder in damaged]
    if at is None:
        return None, {}, notes and [*notes, "no whole checkpoint is left: beginning anew"]
    for r in going:
        where = group.places[r]
        results.same_tasks(where, checkpoints.about(where, at).data, group.fingerprints(r))
    old, now = checkpoints.about(group.places[going[0]], at).versions, checkpoints.versions()
    notes += [
        f"the checkpoint was made with {k} {old.get(k)}, this is {now[k]}: the last digits of the "
        "results may differ from those of a run without a pause"
        for k in now
        if old.get(k) != now[k]
    ]
    return at, lost, notes


def read(group: Group, at: Position, lost: dict[int, str], packed: Tree) -> tuple[Tree, Any, Any]:
    """The tree "R ..." of the checkpoints, accuracies and losses "R T T", on the host.

    A run that diverged is given the numbers of another, which nobody reads any more.
    """
    for r, where in enumerate(group.places):
        if r not in lost:
            (where / "diverged").unlink(missing_ok=True)
    saved = {
        r: checkpoints.load(where, at, packed)
        for r, where in enumerate(group.places)
        if r not in lost
    }
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
        return params, memory
    return jax.eval_shape(functions.begin, params, memory, turn, key, hyper)


def stacked(group: Group, shapes: Tree) -> Tree:
    """Zeros of those shapes, with the axis R first."""
    return jax.tree.map(lambda s: np.zeros((group.placement.padded, *s.shape), s.dtype), shapes)
