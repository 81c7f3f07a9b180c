"""The vocabulary: what every part of hatjax takes and gives, as plain named tuples.

Shapes are written as in "b d": b batch, h w c image, n examples of a split, N with padding,
T tasks, C classes of the largest task, d features. Letters of the paper: t task, l layer, s, a, e.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import optax

# A jax.Array, or what stands for one: a NumPy array, a number, a tracer, a shape. The type checker
# cannot tell them apart in the trees that JAX maps over.
Array = Any
Tree = Any  # a pytree of arrays: parameters, or what an approach remembers


class Split(NamedTuple):
    """Images and labels on the host."""

    x: np.ndarray  # "n h w c" uint8 or float32; may be on the disk (hatjax.data.lazy)
    y: np.ndarray  # "n" integer labels 0..classes-1


class Scale(NamedTuple):
    """In which unit the training examples of a task are."""

    low: float  # their smallest number
    high: float  # their largest
    usual: float  # the median of their largest magnitudes


class About(NamedTuple):
    """Names of a task's classes and columns, and the range of its numbers."""

    labels: tuple[str, ...] | tuple[int, ...] = ()  # of its classes; (): 0, 1, ...
    columns: tuple[str, ...] = ()  # the names of its features; (): none were given
    scale: Scale | None = None  # None: not known


class Task(NamedTuple):
    """One task of the sequence. Its inputs are (x - mean) / std, after its pixels are permuted."""

    name: str
    row: int  # its row in the per-task arrays (heads, embeddings): the same in every task order
    classes: int
    train: Split
    valid: Split
    test: Split
    mean: np.ndarray  # "c" in the units of x (0..255 for uint8)
    std: np.ndarray  # "c"
    pixels: np.ndarray | None = None  # "hwc": input k is image pixel pixels[k]; None: as it is
    about: About = About()


class Data(NamedTuple):
    """A split on the device, padded to N examples so that one compiled program serves all tasks.

    Where runs of several seeds are trained in one program, x, y and task hold the split of each
    of the S seeds, once, and every run reads that of its own.

    Where the images stay on the host (data.stream), x holds those of a stretch of places alone: of
    the order in which they are read, from place `first` on. y and task hold all.
    """

    x: Array  # "S N h w c" uint8 or float32
    y: Array  # "S N" int32
    task: Array  # "S N" int32, the row of every example's task (several in joint training)
    version: Array  # int32[], which of the S this run reads
    n: Array  # int32[], how many of its N examples are real
    mean: Array  # "T c"
    std: Array  # "T c"
    first: Array | None = None  # int32[]; None: x holds all examples, as stored


class Batch(NamedTuple):
    """Network inputs. The examples of weight 0 pad the last, smaller batch."""

    x: Array  # "b h w c" float32, normalised
    y: Array  # "b" int32
    task: Array  # "b" int32
    weight: Array  # "b" float32, 1 or 0


class Turn(NamedTuple):
    """Which task it is, and when: seeds learn the same tasks in different orders."""

    task: Array  # int32[], its row in the per-task arrays
    seen: Array  # int32[], how many tasks are learned before it


class Hyper(NamedTuple):
    """The numbers that the compiled program takes as arguments, float32[] each."""

    lr: Array
    lr_factor: Array
    lr_min: Array
    approach: Any  # the Settings of the approach's file: hyper.approach.c


class Step(NamedTuple):
    """Where training stands. Evaluation is progress 1 without a key."""

    task: Array  # int32[], the row of the task in the per-task arrays
    seen: Array  # int32[], how many tasks are learned before it
    progress: Array  # float32[], how far the epoch is, 0..1: sets s (eq. 3)
    lr: Array  # float32[]
    key: Array | None  # for dropout; None: no dropout
    hyper: Hyper


class Taken(NamedTuple):
    """A step that was taken: what the optimizer moved, from where to where, by which gradient."""

    before: Tree  # all that is trained, and so no "stats"
    after: Tree
    grads: Tree  # of the approach's loss, before any clipping


class Out(NamedTuple):
    """What a network returns; what nobody uses, the compiler leaves out."""

    logits: Array  # "b C", -inf beyond the classes of the task
    features: Array  # "b d", the input of the head
    gates: dict[str, Array]  # gate -> "units"; empty without gates
    stats: Tree  # the running statistics after it, as in the parameters


class Apply(Protocol):
    """Parameters and images -> what the network gives."""

    def __call__(
        self,
        params: Tree,
        x: Array,  # "b h w c"
        task: Array,  # int32[], or "b": the head of each example
        s: Array | None = None,  # the steepness of the gates, where there are some
        key: Array | None = None,  # as in training: with dropout, and norms over the batch
        weight: Array | None = None,  # "b", 1 or 0; norms leave out those of 0. None: all are 1
    ) -> Out: ...


class Network(NamedTuple):
    """A network as pure functions; only hatjax.networks knows Flax.

    Parameters are
        trunk   what tasks share
        norms   the scale and bias of the trunk's norms, for each task: "T ..."
        stats   their running statistics, "T ...": they change with every step, but have no gradient
        gates   {gate: "T units"}
        head    {"kernel": "T d C", "bias": "T C"}
    Every function takes them whole or as one task's rows (networks.rows.take).
    """

    init: Callable[[Array], Tree]  # key -> params
    apply: Apply
    gates: Callable[[Tree, Array, Array], dict[str, Array]]  # (params, task, s) -> {gate: "units"}
    axes: Tree  # hatjax.axes of {"trunk", "norms", "head"}; {} for columns and modules
    units: dict[str, int]  # gate -> its units; empty without gates
    classes: tuple[int, ...]  # of every task, by row
    unused: int = 0  # how many numbers of the trunk are padding (columns.unused)
    # As apply, with another gradient in the trunk: for a loss that is a sum over the examples,
    # jax.grad gives the sum of the squares of the single examples' gradients. None: not available.
    squares: Apply | None = None
    # The same with their absolute values in place of the squares.
    magnitudes: Apply | None = None
    # As apply, without dropout between the last layer and the heads. None: not available.
    undropped: Apply | None = None
    image: tuple[int, ...] = ()  # of the images "h w c" that it takes; (): not told


class Schedule(NamedTuple):
    """What happens between the epochs of a task: learning rate, best parameters, when to stop.

    Its state has `lr` float32[], the rate of the next epoch, and `done` bool[].
    """

    # (params, memory, step) -> state, memory
    start: Callable[[Tree, Tree, Step], tuple[Tree, Tree]]
    # (state, validation loss, params, memory, step) -> state, params, memory
    update: Callable[[Tree, Array, Tree, Tree, Step], tuple[Tree, Tree, Tree]]
    # (state, params, memory, step) -> the params and memory with which the task ends
    best: Callable[[Tree, Tree, Tree, Step], tuple[Tree, Tree]]
    # state -> state, after an epoch whose loss is not a number: the next `update` lowers the rate
    mark_failed: Callable[[Tree], Tree]


class Approach(NamedTuple):
    """A way to learn a sequence of tasks, as pure functions.

    `memory` is all that is remembered between tasks, one pytree of arrays; an empty past is zeros.
    `loss` and `optimizer` see `own`, what `take` gives: the parameters that the task works on,
    `optimizer` without "stats", which are not trained.
    """

    init: Callable[[Array], tuple[Tree, Tree]]  # key -> params, memory
    # (params, memory, step) -> params, memory
    begin_task: Callable[[Tree, Tree, Step], tuple[Tree, Tree]]
    take: Callable[[Tree, Tree, Step], Tree]  # (params, memory, step) -> own
    # (params, own, memory, step) -> params with `own` in its place
    put: Callable[[Tree, Tree, Tree, Step], Tree]
    # (own, memory, batch, step) -> loss float32[], out
    loss: Callable[[Tree, Tree, Batch, Step], tuple[Array, Out]]
    # (memory, step) -> the optimizer of that step: its state is carried on from step to step
    optimizer: Callable[[Tree, Step], optax.GradientTransformation]
    schedule: Schedule
    # (params, memory, data, step) -> params, memory
    end_task: Callable[[Tree, Tree, Data, Step], tuple[Tree, Tree]]
    # (params, memory, x "b h w c", task, hyper) -> logits "b C"
    predict: Callable[[Tree, Tree, Array, Array, Hyper], Array]
    # (params, memory, step) -> numbers for metrics.jsonl
    report: Callable[[Tree, Tree, Step], dict[str, Array]] = lambda params, memory, step: {}
    # (progress, hyper) -> what changes within an epoch, for metrics.jsonl: its first and last value
    annealed: Callable[[Array, Hyper], dict[str, Array]] = lambda progress, hyper: {}
    # (params, memory, task, hyper) -> the gates of a task at evaluation, {gate: "units"}
    gates: Callable[[Tree, Tree, Array, Hyper], dict[str, Array]] = (
        lambda params, memory, task, hyper: {}
    )
    past: Callable[[Tree], dict[str, Array]] = lambda memory: {}  # the cumulative gates
    # (memory, past) -> the memory with other cumulative gates
    with_past: Callable[[Tree, dict[str, Array]], Tree] = lambda memory, past: memory
    # (gradient, own, memory, step) -> the gradient that the optimizer is given in its place
    redirect: Callable[[Tree, Tree, Tree, Step], Tree] = lambda grads, own, memory, step: grads
    # (memory, Taken, batch, step) -> the memory after a step. None: it is the same in all steps of
    # an epoch, and no step carries it.
    observe: Callable[[Tree, Taken, Batch, Step], Tree] | None = None
    # (memory before, after an epoch, step) -> bool[], whether the optimizer's state starts anew
    restarts: Callable[[Tree, Tree, Step], Array] = lambda before, after, step: False
    # (params, memory, alpha "T", by row) -> the parameters of a network, one row in every per-task
    # array, in which the tasks' masks, heads and norms are mixed with the shares alpha; their
    # gradient in alpha is that of the masks alone. None: it has no masks over weights.
    superpose: Callable[[Tree, Tree, Array], Tree] | None = None
    # (memory, memory of init) -> the memory of a run that goes on with more tasks, in the shapes of
    # the second, which has rows for all of them; ValueError, with the reason, where it cannot.
    # None: each leaf grows as parameters do (training.growing), and a leaf that cannot is refused.
    grow: Callable[[Tree, Tree], Tree] | None = None
    union: bool = False  # a task's data are those of all the tasks so far
    trained: bool = True  # False: there is nothing to train
    # (out, batch) -> how many of the batch are right, float32[]; None: those of the largest logit
    correct: Callable[[Out, Batch], Array] | None = None


class State(NamedTuple):
    """Everything that training a task changes."""

    params: Tree
    memory: Tree
    optimizer: optax.OptState
    schedule: Tree  # of the approach's Schedule
    key: Array
