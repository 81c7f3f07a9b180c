"""Many runs in one compiled program: the functions of one run, with an axis R of runs in front.

The runs, here called replicas, have the same approach and the same network, each with its own seed
and hyperparameters. Arrays that are the same for all have no axis R: the number of tasks learned so
far, and the images.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from hatjax.data import feed
from hatjax.errors import InputError
from hatjax.training import train
from hatjax.types import Approach, Array, Data, Tree, Turn

T = TypeVar("T")
AXIS = "replica"


def compile(config: ConfigDict, approach: Approach, count: int) -> train.Program:
    """The functions of `count` runs at once, to be compiled at their first call.

    They are those of train.functions, but keys, hyperparameters, parameters, memory and scores have
    the axis R first, a Turn has `task` "R" and `seen` without that axis, and Data is what
    feed.stack gives. A replica whose task is finished is no longer changed by `epoch`.
    """
    f = train.functions(config, approach)

    def epoch(state, data, valid, turn, hyper):
        after, scores = f.epoch(state, data, valid, turn, hyper)
        return unless(state.schedule.done, after, state), scores

    turn = Turn(0, None)
    if count == 1:
        epoch = f.epoch
    return train.Program(
        init=jax.jit(over(count, f.init, 0)),
        begin=jax.jit(over(count, f.begin, 0, 0, turn, 0, 0)),
        epoch=jax.jit(over(count, epoch, 0, Data, Data, turn, 0), donate_argnums=0),
        end=jax.jit(over(count, f.end, 0, Data, turn, 0)),
        evaluate=jax.jit(over(count, f.evaluate, 0, 0, Data, turn, 0)),
    )


def compile_parts(config: ConfigDict, approach: Approach, count: int) -> train.Parts:
    """The parts of the epoch and of the evaluation in `compile`, likewise."""
    f, turn = train.parts(config, approach), Turn(0, None)

    def close(state, trained, scores, data, turn, hyper):
        after, metrics = f.close(state, trained, scores, data, turn, hyper)
        return unless(state.schedule.done, after, state), metrics

    def mapped(function: Callable, *axes, **how) -> Callable:
        return jax.jit(over(count, function, *axes), **how)

    batches = (None, None)  # first and until are the same for all
    return train.Parts(
        shuffle=mapped(f.shuffle, 0, Data),
        start=mapped(f.start, 0, Data, turn, 0),
        steps=mapped(f.steps, 0, 0, Data, 0, turn, 0, 0, *batches),
        stop=mapped(f.stop, 0, 0, Data, turn, 0),
        close=mapped(f.close if count == 1 else close, 0, 0, 0, Data, turn, 0),
        score=mapped(f.score, 0, 0, 0, Data, turn, 0, *batches),
        means=mapped(f.means, 0, Data),
        sizes=mapped(f.sizes, 0, 0, Data, 0, turn, 0, 0, None),
    )


def unless(finished: Array, after: Tree, before: Tree) -> Tree:
    """The state after an epoch; that before it, where the task was `finished`."""
    return jax.tree.map(lambda a, b: jnp.where(finished, b, a), after, before)


def over(count: int, function: Callable, *axes) -> Callable:
    """`function` mapped over the axis R of its arguments.

    `axes` are as in_axes of jax.vmap, one for each argument; Data in place of an axis means an
    argument of that type, in which `version`, and `n` where it has an axis, are mapped. For
    count = 1 the axis is taken off and put back on, since a batch of one is slower than none.
    """

    def of(argument: Tree, axis) -> Tree:
        if axis is not Data:
            return axis
        shared = Data(*[None] * len(Data._fields))
        return shared._replace(version=0, n=0 if jnp.ndim(argument.n) else None)

    def alone(*args):
        one = [first(arg, of(arg, axis)) for arg, axis in zip(args, axes, strict=True)]
        return jax.tree.map(lambda x: x[None], function(*one))

    def first(arg: Tree, axis) -> Tree:
        if isinstance(axis, tuple):
            return type(arg)(*map(first, arg, axis))
        return arg if axis is None else jax.tree.map(lambda x: x[0], arg)

    def together(*args):
        in_axes = tuple(of(arg, axis) for arg, axis in zip(args, axes, strict=True))
        return jax.vmap(function, in_axes=in_axes, spmd_axis_name=AXIS)(*args)

    return alone if count == 1 else together


class Placement:
    """Where the replicas of a program lie: on all devices of all hosts, the same number on each.

    With `data` above 1, so many devices take the place of one: each has all parameters of its
    replicas, and they share the examples of a batch (feed.shared). `padded` is the number of
    replicas that the program has, at least `count`: the same for each of these groups. Every
    process gives the same arrays, those of all replicas, and `fetch` returns all of them.
    InputError if the devices cannot be shared so.
    """

    def __init__(self, count: int, data: int = 1):
        total = jax.device_count()
        if total % data:
            raise InputError(
                f"config.mesh.data = {data}: the {total} devices here cannot be shared by groups "
                f"of that size; choose a divisor of {total}"
            )
        # With fewer replicas than groups, some devices are left out; but not with several
        # processes, each of which must have a part of the arrays.
        groups = min(count, total // data) if jax.process_count() == 1 else total // data
        devices = np.array(jax.devices()[: groups * data]).reshape(groups, data)
        self.mesh = Mesh(devices, (AXIS, feed.AXIS))
        self.padded = -(-count // groups) * groups

    def put(self, tree: Tree, shared: bool = False) -> Tree:
        """Put arrays with the axis R first where their replicas are; `shared` ones on all devices.
        """
        spec = PartitionSpec() if shared else PartitionSpec(AXIS)
        return jax.device_put(tree, NamedSharding(self.mesh, spec))

    def fetch(self, tree: Tree) -> Tree:
        """All replicas of arrays with the axis R first, as NumPy arrays."""
        if jax.process_count() == 1:
            return jax.device_get(tree)
        return multihost_utils.process_allgather(tree, tiled=True)

    def copy(self, x: np.ndarray) -> Array:
        """Put an array that all processes have on all devices; what they hold is not compared."""
        spread = NamedSharding(self.mesh, PartitionSpec())
        return jax.make_array_from_callback(x.shape, spread, lambda index: x[index])

    def data(self, data: Data) -> Data:
        """Put what feed.stack gives on the devices."""
        every = self.put(data, shared=True)
        n = self.put(data.n) if np.ndim(data.n) else every.n
        return every._replace(version=self.put(data.version), n=n)


def join(coordinator: str | None, processes: int | None, index: int | None) -> None:
    """Make this process one of several that train together, each with the devices of its host.

    Under SLURM, on Google Cloud and Kubernetes jax.distributed finds out by itself who they are;
    elsewhere all three are given: "host:port" of process 0, their number, this one's. InputError if
    the others are not found.
    """
    try:
        jax.distributed.initialize(coordinator, processes, index)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"--distributed: {str(error).splitlines()[0]}; on every host give --coordinator="
            "HOST:PORT, --processes=N and --process=0..N-1"
        ) from error


def writes() -> bool:
    """Whether this is the process that writes files and prints: process 0."""
    return jax.process_index() == 0


def agreed(values: Sequence[int]) -> list[int]:
    """The whole numbers that process 0 gives, in all processes, so that all decide alike."""
    if jax.process_count() == 1:
        return list(values)
    return multihost_utils.broadcast_one_to_all(np.array(values, np.int32)).tolist()


def by_first(work: Callable[[], T]) -> T | None:
    """What `work` gives in process 0, None in the others; all raise the InputError that it raises.
    """
    value, problem = None, None
    try:
        value = work() if writes() else None
    except InputError as error:
        problem = error
    (refused,) = agreed([problem is not None])
    if refused:
        raise problem or InputError("the first process cannot go on: see its message")
    return value


def told_by_first(work: Callable[[], Any]) -> Any:
    """What `work` gives in process 0, plain data that JSON holds, in all processes.

    All raise the InputError that it raises.
    """
    said = by_first(lambda: json.dumps(work()))
    if jax.process_count() == 1:
        return json.loads(said or "")
    content = np.frombuffer((said or "").encode(), np.uint8)
    (size,) = agreed([len(content)])
    sent = multihost_utils.broadcast_one_to_all(np.resize(content, size))
    return json.loads(bytes(np.asarray(sent, np.uint8)))


def from_first(tree: Tree) -> Tree:
    """The arrays of process 0, in all processes."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def anywhere(value: bool) -> bool:
    """Whether `value` is True in any process."""
    if jax.process_count() == 1:
        return value
    return bool(np.any(multihost_utils.process_allgather(np.array(value))))
