"""Subnetworks: of the weights that all tasks share, each task uses those that its mask has.

A mask is a number 0 or 1 for every single weight, found by a score of the weight: those of the
largest absolute scores are in it. What WSN (hatjax/approaches/wsn.py) and SupSup (supsup.py) share
is here. Trees of masks and of scores are like the trunk.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from hatjax.errors import InputError
from hatjax.networks.layers import uniform
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Array, Network, Tree

SCORES = 1  # folded into a key that draws parameters, for the scores


def kth_largest(x: Array, k: Array) -> Array:
    """The k-th largest (from 1) of the numbers x >= 0, of any shape: float32[]; 0 if x has fewer.

    k may be traced. Numbers that are not negative are in the order of their bits, so the bits of
    the result are found one after the other, the highest first, by counting how many numbers are
    as large: 31 counts, where a sort of a layer of millions of weights would take far longer.
    """
    bits = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    # Floats count exactly up to 2^24, and a CPU adds them up in about half the time of integers.
    number = jnp.float32 if x.size <= 2**24 else jnp.int32

    def with_bit(i: Array, found: Array) -> Array:
        trial = found | (jnp.int32(1) << (30 - i))
        return jnp.where(jnp.sum(bits >= trial, dtype=number) >= k, trial, found)

    return lax.bitcast_convert_type(lax.fori_loop(0, 31, with_bit, jnp.int32(0)), jnp.float32)


def top(scores: Array, c: Array) -> Array:
    """The mask of the share c of the scores with the largest absolute values, bool; at least one.

    c is 0..1 and may be traced. Ties with the smallest score of the mask are in it, too.
    """
    size = jnp.abs(lax.stop_gradient(scores))
    count = jnp.clip(jnp.round(c * scores.size), 1, scores.size).astype(jnp.int32)
    return size >= kth_largest(size, count)


def straight_through(scores: Array, c: Array) -> Array:
    """`top` as numbers 1.0 and 0.0, whose gradient in |scores| is taken as 1 for every weight."""
    size = jnp.abs(scores)
    return top(scores, c) + (size - lax.stop_gradient(size))


def chosen(trunk: Tree, masks: Tree) -> Tree:
    """The weights that are in the masks, and 0 in place of the others."""
    return jax.tree.map(lambda w, m: jnp.where(m, w, 0), trunk, masks)


def pack(mask: Array) -> Array:
    """A mask of n weights as ceil(n / 8) bytes, uint8: a bit a weight."""
    return jnp.packbits(mask.reshape(-1))


def unpack(packed: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `pack`: bool of that shape."""
    return jnp.unpackbits(packed, count=math.prod(shape)).reshape(shape).astype(bool)


def draw(key: Array, trunk: Tree) -> Tree:
    """Scores to start from: U(-1/sqrt(d), 1/sqrt(d)) for weights with d inputs each."""
    leaves, tree = jax.tree.flatten(trunk)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree, [uniform(fan_in(w))(k, w.shape) for k, w in zip(keys, leaves, strict=True)]
    )


def fan_in(w: Array) -> int:
    """How many inputs a unit has whose weights are w "... inputs units"; of a bias its length."""
    return math.prod(w.shape[:-1]) if w.ndim > 1 else w.size


def masks_of(params: Tree, memory: Tree, task: Array, c: Array) -> Tree:
    """The masks of a task, bool: those kept at its end, or by the scores while it is learned."""
    learned = memory["learned"][task] > 0

    def one(s: Array, kept: Array) -> Array:
        return jnp.where(learned, unpack(kept[task], s.shape), top(s, c))

    return jax.tree.map(one, params["scores"], memory["masks"])


def share_of(masks: Tree) -> Array:
    """The share of all weights that is in the masks, 0..1."""
    leaves = jax.tree.leaves(masks)
    return sum(jnp.sum(m, dtype=jnp.float32) for m in leaves) / sum(m.size for m in leaves)


def check_shared(network: Network) -> None:
    """Raise InputError for a network all of whose weights are PER_TASK: there are none to mask."""
    if not jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0))["trunk"]):
        raise InputError(
            "all parameters of the network are PER_TASK, so there are no weights for tasks to "
            "share: give some a gate in its rules, or take --config.approach.name=sgd"
        )


def make(base: Approach, network: Network) -> Approach:
    """`base`, with a trunk of which every task uses the top c of each parameter, by scores.

    The settings have the share c. Parameters have one part more, "scores", which the optimizer
    moves like the others; heads, norms and their statistics are a task's own and have no masks.

    memory: "masks" "T n/8" uint8, the mask of each task, a bit for every one of the n numbers of a
    parameter, and "learned" "T" int32, 1 for the tasks whose mask is there.
    """
    tasks = len(network.classes)
    check_shared(network)

    def init(key):
        params, memory = base.init(key)
        scores = draw(jax.random.fold_in(key, SCORES), params["trunk"])
        bits = jax.tree.map(lambda s: jnp.zeros((tasks, -(-s.size // 8)), jnp.uint8), scores)
        learned = jnp.zeros(tasks, jnp.int32)
        return params | {"scores": scores}, memory | {"masks": bits, "learned": learned}

    def loss(params, memory, batch, step):
        c, trunk = step.hyper.approach.c, params["trunk"]
        if step.key is None:  # evaluation
            trunk = chosen(trunk, masks_of(params, memory, step.task, c))
        else:
            soft = jax.tree.map(lambda s: straight_through(s, c), params["scores"])
            trunk = jax.tree.map(jnp.multiply, trunk, soft)
        used = params | {"trunk": trunk}
        out = network.apply(used, batch.x, step.task, key=step.key, weight=batch.weight)
        return cross_entropy(out.logits, batch), out

    def end_task(params, memory, data, step):
        c = step.hyper.approach.c
        masks = jax.tree.map(
            lambda s, kept: kept.at[step.task].set(pack(top(s, c))),
            params["scores"],
            memory["masks"],
        )
        learned = memory["learned"].at[step.task].set(1)
        return params, memory | {"masks": masks, "learned": learned}

    def predict(params, memory, x, task, hyper):
        masks = masks_of(params, memory, task, hyper.approach.c)
        return network.apply(params | {"trunk": chosen(params["trunk"], masks)}, x, task).logits

    def report(params, memory, step):
        return {"kept": share_of(masks_of(params, memory, step.task, step.hyper.approach.c))}

    def superpose(params, memory, alpha):
        def mixed(w: Array, packed: Array) -> Array:
            masks = jnp.unpackbits(packed, axis=1, count=w.size)  # "T n"
            return w * jnp.tensordot(alpha, masks.astype(w.dtype), 1).reshape(w.shape)

        fixed = lax.stop_gradient(alpha)  # in what is no mask
        own = {
            part: jax.tree.map(lambda p: jnp.tensordot(fixed, p, 1)[None], params[part])
            for part in ("norms", "stats", "head")
        }
        return params | own | {"trunk": jax.tree.map(mixed, params["trunk"], memory["masks"])}

    return base._replace(
        init=init,
        loss=loss,
        end_task=end_task,
        predict=predict,
        report=report,
        superpose=superpose,
    )
