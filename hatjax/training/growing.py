"""Room for more tasks: what was learned is put among fresh arrays that have rows for them, too.

What a task alone has is a row of its own (embeddings, heads, norms), and every head is as wide as
the largest task needs. So the arrays of a run with more tasks are those of the run before, longer
along the axes that count tasks or classes, and its numbers keep their places.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_map_with_path

from hatjax.types import Approach, Array, Tree


def grow(
    approach: Approach,
    classes: tuple[Sequence[int], Sequence[int]],
    learned: tuple[Tree, Tree],
    fresh: tuple[Tree, Tree],
) -> tuple[Tree, Tree]:
    """The parameters and the memory with which a run goes on with more tasks.

    `learned` are those of the run before, `fresh` those of approach.init on a network with more
    rows; `classes` are the numbers of classes of every task, by row, of the one and of the other.
    Raises ValueError, naming the array, where the approach or the network cannot grow.
    """
    (params, memory), (new_params, new_memory) = learned, fresh
    old, new = classes
    longer = {(len(old), len(new)), (max(old), max(new))}
    params = placed(params, new_params, longer)
    if approach.grow is not None:
        return params, approach.grow(memory, new_memory)
    return params, placed(memory, new_memory, longer)


def placed(old: Tree, new: Tree, longer: set[tuple[int, int]]) -> Tree:
    """The arrays `new` with those of `old` at the beginning of each of their axes.

    An axis may be longer than that of `old` only by one of the pairs (length in old, in new).
    Raises ValueError, naming the array, for any other shape.
    """
    if repr(jax.tree.structure(old)) != repr(jax.tree.structure(new)):
        raise ValueError("it does not have the same arrays with more tasks")

    def one(path: tuple, old: Array, new: Array) -> Array:
        lengths = list(zip(old.shape, new.shape, strict=False))
        if old.ndim != new.ndim or any(a != b and (a, b) not in longer for a, b in lengths):
            raise ValueError(
                f"{keystr(path, simple=True, separator='/')} is of shape {list(old.shape)}, and "
                f"{list(new.shape)} with more tasks"
            )
        return jnp.asarray(new).at[tuple(slice(n) for n in old.shape)].set(old)

    return tree_map_with_path(one, old, new)
