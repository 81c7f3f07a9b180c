"""Training steps as in a compiled epoch, on random images, for timing."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict

from hatjax import approaches, config, networks, protection
from hatjax import hat as method
from hatjax.approaches import sgd
from hatjax.data import feed
from hatjax.errors import unknown
from hatjax.training import keys, replicas, train
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Array, Data, Network, Split, State, Task, Tree, Turn

# Of each network, the experiment whose settings it takes, and its images "h w c".
EXPERIMENT = {"mlp": "pmnist", "alexnet": "cifar", "resnet18": "cifar", "vit": "cifar"}
IMAGE = {"mlp": (28, 28, 1), "alexnet": (32, 32, 3), "resnet18": (32, 32, 3), "vit": (32, 32, 3)}
CLASSES = 10  # of every task
PARTS = ("gates", "sparsity", "mask", "compensation", "clamp")  # of HAT, each can be left out
LEFT_OUT = "no "  # "no mask" is HAT without its mask


class Case(NamedTuple):
    """What to time: a network with its usual fields, or with others."""

    network: str  # one of EXPERIMENT
    widths: tuple[int, ...] = ()  # (): the usual ones; vit has none
    batch: int = 64
    tasks: int = 10  # with embeddings and heads
    replicas: int = 1
    fields: tuple[tuple[str, Any], ...] = ()  # others of config.network: (("depth", 2),)


class Built(NamedTuple):
    """An approach on the network of a case."""

    config: ConfigDict
    network: Network
    approach: Approach


class Training(NamedTuple):
    """The compiled functions of a case, which wait until the device has finished."""

    steps: Callable[[int], None]  # trains a number of steps
    epoch: Callable[[], None]  # trains an epoch, evaluates, and updates the schedule
    end: Callable[[], None]  # the approach's work at the end of a task
    compile_seconds: float  # of the steps
    bytes: int  # device memory for the steps: arguments, results, intermediates


def build(case: Case, name: str) -> Built:
    """The approach `name`, or HAT without one of its PARTS ("no mask"), on the case's network.

    InputError for a field that the network does not have, or a value that it cannot take.
    """
    part = name.removeprefix(LEFT_OUT)
    experiment, approach_name = EXPERIMENT[case.network], name if part == name else "hat"
    c = config.make(experiment, approach_name, same=True, network=case.network)
    c.batch, c.seeds = case.batch, case.replicas
    for field, value in (*case.fields, *([("widths", case.widths)] if case.widths else [])):
        if field not in c.network:
            raise unknown(f"field of the network {case.network}", field, c.network)
        with c.network.ignore_type():
            c.network[field] = value
    config.check(c)
    classes = (CLASSES,) * case.tasks
    network = networks.make(c, IMAGE[case.network], classes, case.replicas)
    approach = approaches.make(c, network)
    if part != name:
        approach = without(part, approach, network, build(case, "sgd").network)
    return Built(c, network, approach)


def without(part: str, hat: Approach, network: Network, ungated: Network) -> Approach:
    """HAT with one of its PARTS left out, for timing only."""

    def no_sparsity(params, memory, batch, step):
        s = method.anneal(step.progress, step.hyper.approach.s_max)
        out = network.apply(params, batch.x, step.task, s, step.key, batch.weight)
        return cross_entropy(out.logits, batch), out

    def no_gates(params, memory, batch, step):
        params = params | {"gates": {}}
        out = ungated.apply(params, batch.x, step.task, key=step.key, weight=batch.weight)
        return cross_entropy(out.logits, batch), out

    def optimizer(memory, step):
        """hat.optimizer without the mask, the compensation or the clamp."""
        numbers = step.hyper.approach
        protected = protection.protect(optax.sgd(step.lr), numbers.clip)
        s = method.anneal(step.progress, numbers.s_max)

        def free(own: Tree, after: Array) -> Tree:
            every = sgd.everything(own, memory, step)
            if part == "mask":
                return every
            past, *_ = lax.optimization_barrier((memory["past"], s, after))
            axes = network.axes["trunk"]
            return every | {"trunk": protection.shares(past, step.task, axes, own["trunk"])}

        def update(grads, state, own):
            e = own["gates"]
            if part != "compensation":
                q = {
                    k: method.compensate(
                        grads["gates"][k], e[k], s, numbers.s_max, numbers.cosh_max
                    )
                    for k in e
                }
                grads = grads | {"gates": q}
            updates, state = protected.update(
                grads, state, own, free=lambda after: free(own, after)
            )
            if part != "clamp":
                kept = {k: method.keep(updates["gates"][k], e[k], numbers.e_max) for k in e}
                updates["gates"] = kept
            return updates, state

        return optax.GradientTransformation(protected.init, update)

    if part in ("sparsity", "gates"):
        return hat._replace(loss=no_sparsity if part == "sparsity" else no_gates)
    return hat._replace(optimizer=optimizer)


def tasks(case: Case, n: int) -> list[Task]:
    """Tasks of `n` random training images, and 15/85 as many for validation."""
    image, rng = IMAGE[case.network], np.random.default_rng(0)

    def images(n: int) -> Split:
        x = rng.integers(0, 256, (n, *image), np.uint8)
        return Split(x, rng.integers(0, CLASSES, n).astype(np.int32))

    learn, rest = images(n), images(max(1, n * 15 // 85))
    mean, std = np.full(image[2], 127.0), np.full(image[2], 74.0)
    return [Task(str(t), t, CLASSES, learn, rest, rest, mean, std) for t in range(case.tasks)]


def prepare(case: Case, name: str, max_steps: int) -> Training:
    """Compile `name` (as in `build`) for its second task, with `max_steps` steps an epoch."""
    c, _, approach = build(case, name)
    place = replicas.Placement(case.replicas)
    count, t = place.padded, min(1, case.tasks - 1)
    sequence, n = tasks(case, max_steps * case.batch), max_steps * case.batch

    def put(split: str, length: int) -> Data:
        return place.data(feed.stack([feed.pad(sequence, t, split, length)], [0] * count))

    data = put("train", n)
    valid = put("valid", feed.capacity(sequence, "valid", c.eval_batch))
    turn = Turn(place.put(np.full(count, t, np.int32)), place.put(np.int32(t), shared=True))
    hyper = place.put(jax.tree.map(lambda v: np.full(count, v), train.hyperparameters(c)))
    seed = place.put(np.arange(count, dtype=np.uint32))
    functions = train.functions(c, approach)

    def start(seed: Array, data: Data, turn: Turn, hyper) -> tuple[State, Array]:
        key = keys.key(seed)
        params, memory = functions.init(key)
        if past := approach.past(memory):  # random: neither empty nor full
            past = {name: jax.random.uniform(key, a.shape) for name, a in past.items()}
            memory = approach.with_past(memory, past)
        return functions.begin(params, memory, turn, key, hyper), feed.shuffle(key, data)

    axes = (Data, Turn(0, None), 0)  # of data, turn, hyper
    state, order = jax.jit(replicas.over(count, start, 0, *axes))(seed, data, turn, hyper)

    def pass_over(state: State, data: Data, order, turn: Turn, hyper) -> State:
        return train.run_steps(c, approach, state, data, order, turn, state.key, hyper)[0]

    mapped = replicas.over(count, pass_over, 0, Data, 0, *axes[1:])
    began = time.perf_counter()
    compiled = jax.jit(mapped, donate_argnums=0).lower(state, data, order, turn, hyper).compile()
    compile_seconds = time.perf_counter() - began
    program, box = replicas.compile(c, approach, count), [state]

    def steps(k: int) -> None:
        some = data._replace(n=place.put(np.int32(k * case.batch), shared=True))
        box[0] = jax.block_until_ready(compiled(box[0], some, order, turn, hyper))

    def epoch() -> None:
        box[0] = jax.block_until_ready(program.epoch(box[0], data, valid, turn, hyper)[0])

    def end() -> None:
        jax.block_until_ready(program.end(box[0], data, turn, hyper))

    m: Any = compiled.memory_analysis()
    return Training(
        steps,
        epoch,
        end,
        compile_seconds,
        m.argument_size_in_bytes
        + m.output_size_in_bytes
        + m.temp_size_in_bytes
        - m.alias_size_in_bytes,
    )
