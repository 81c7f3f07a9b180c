"""Many runs in one program: the functions of a run, with an axis of replicas in front.

Replicas are the same approach on the same network, with seeds and numbers of their own. What they
have in common has no such axis: how many tasks are learned, and the images of a seed.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from hatjax import train
from hatjax.errors import InputError
from hatjax.types import Approach, Data, Tree, Turn

AXIS = "replica"
SHARE = 0.6  # of the free memory that replicas may fill, by a rough estimate


def compile(config: ConfigDict, approach: Approach, count: int) -> train.Program:
    """The functions of `count` runs at once, to be compiled at their first call.

    As train.functions has them, but keys, hyperparameters, parameters, memory and scores have the
    axis R first, Turn is ("R", "") and Data what feed.stack gives. A finished replica stays as it
    is.
    """
    f = train.functions(config, approach)

    def epoch(state, data, valid, turn, hyper):
        finished = state.schedule.done
        after, scores = f.epoch(state, data, valid, turn, hyper)
        return jax.tree.map(lambda a, b: jnp.where(finished, b, a), after, state), scores

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


def over(count: int, function: Callable, *axes) -> Callable:
    """`function` over the axis R of its arguments; without a loop or batch where R is 1.

    `axes` are those of jax.vmap; Data stands for those of the argument.
    """

    def of(argument: Tree, axis) -> Tree:
        if axis is not Data:
            return axis
        shared = Data(*[None] * len(Data._fields))
        return shared._replace(version=0, n=0 if jnp.ndim(argument.n) else None)

    def alone(*args):
        args = [first(arg, of(arg, axis)) for arg, axis in zip(args, axes, strict=True)]
        return jax.tree.map(lambda x: x[None], function(*args))

    def first(arg: Tree, axis) -> Tree:
        if isinstance(axis, tuple):
            return type(arg)(*map(first, arg, axis))
        return arg if axis is None else jax.tree.map(lambda x: x[0], arg)

    def together(*args):
        in_axes = tuple(of(arg, axis) for arg, axis in zip(args, axes, strict=True))
        return jax.vmap(function, in_axes=in_axes)(*args)

    return alone if count == 1 else together


class Placement:
    """Where the replicas of a program lie: on all devices of all hosts, in equal shares.

    Every process gives the same arrays, on its host, and gets all of them back.
    """

    def __init__(self, count: int):
        # Fewer devices than replicas are enough; but every process takes part.
        devices = jax.devices()[: count if jax.process_count() == 1 else None]
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self.padded = -(-count // len(devices)) * len(devices)

    def put(self, tree: Tree, shared: bool = False) -> Tree:
        """Arrays with the axis R first to where their replica is; shared ones to all devices."""
        spec = PartitionSpec() if shared else PartitionSpec(AXIS)
        return jax.device_put(tree, NamedSharding(self.mesh, spec))

    def fetch(self, tree: Tree) -> Tree:
        """All replicas of arrays with the axis R first, as NumPy arrays."""
        if jax.process_count() == 1:
            return jax.device_get(tree)
        return multihost_utils.process_allgather(tree, tiled=True)

    def data(self, data: Data) -> Data:
        """What feed.stack gives."""
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
    """Whether this process writes results and talks: one does."""
    return jax.process_index() == 0


def agreed(values: list[int]) -> list[int]:
    """What process 0 says, so that all do the same."""
    if jax.process_count() == 1:
        return values
    return multihost_utils.broadcast_one_to_all(np.array(values, np.int32)).tolist()


def fit(approach: Approach, devices: int) -> int:
    """How many replicas at most fill the free memory, by their parameters and memory, at least one.

    An epoch holds its parameters about five times: old, new, gradient, best, and one more while
    they change.
    """
    shapes = jax.eval_shape(approach.init, jax.random.key(0))
    size = sum(5 * x.size * 4 for x in jax.tree.leaves(shapes))
    return max(1, int(SHARE * free_memory() * devices / size))


def free_memory() -> int:
    """Bytes that are free on the device, for the CPU on the host over the number of CPU devices."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024 // jax.local_device_count()
