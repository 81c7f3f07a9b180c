"""What a run keeps of the tasks that it has learned, in bytes: computed from shapes alone."""

import math
from collections.abc import Callable

import jax

from hatjax.types import Approach, Tree


def size(tree: Tree) -> int:
    """The bytes of the arrays of a tree, or of what has their shapes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def memory(approach: Approach) -> int:
    """The bytes that an approach remembers besides the parameters."""
    return size(jax.eval_shape(approach.init, jax.random.key(0))[1])


def growth(make: Callable[[int], Approach], tasks: int) -> tuple[int, int]:
    """Bytes of the parameters and of the memory: how many more with `tasks` + 1 tasks.

    make(n) gives the approach for n tasks.
    """
    small, large = (jax.eval_shape(make(n).init, jax.random.key(0)) for n in (tasks, tasks + 1))
    return size(large[0]) - size(small[0]), size(large[1]) - size(small[1])
