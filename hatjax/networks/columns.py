"""The columns of a progressive network (Rusu et al., 2016).

Each task has a column, a network of its own, whose stages also read what the stages before them
give in the columns of earlier tasks.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.fidelity import departures
from hatjax.networks import head, rows
from hatjax.networks.layers import Dropout, uniform
from hatjax.networks.stages import Stage, enter, leave, linear, scaled
from hatjax.networks.trunk import Trunk
from hatjax.types import Array, Network, Out, Tree


class Adapter(nn.Module):
    """What a column reads of the earlier ones: relu(V [scale_k h_k for k < column] + b).

    `seen` "T b ... c" has the outputs h_k of all columns, zeros from `column` on; the result is
    "b ... c".
    """

    @nn.compact
    def __call__(self, seen: Array, column: Array) -> Array:
        columns, c = seen.shape[0], seen.shape[-1]
        start = uniform(jnp.maximum(column, 1) * c)
        scale = self.param("scale", nn.initializers.normal(1.0), (columns,))
        v = self.param("kernel", start, (columns, c, c))
        b = self.param("bias", start, (c,))
        read = jnp.einsum("kb...c,kcd->b...d", seen, v * scale[:, None, None])
        return jax.nn.relu(read + jnp.expand_dims(b, range(read.ndim - 1)))


class Column(nn.Module):
    """Images "b h w c" -> the output of every stage; and what the head reads of earlier columns.

    Stage i > 0 reads stage i - 1 of its own column and, through an Adapter and weights U of its
    own, of the earlier columns k: h_i = f(W h_{i-1} + U relu(V [scale_k h_{i-1}^k])) (the authors'
    eq. 2 with adapters). `seen` has the outputs of all columns, "T b ..." for each stage. Column 0
    reads nothing; with `seen` None no column does.
    """

    stages: tuple[Stage, ...]
    dropout_in: float

    @nn.compact
    def __call__(
        self, x: Array, column: Array, seen: list[Array] | None
    ) -> tuple[list[Array], Array | None]:
        h, outputs = Dropout(self.dropout_in)(x), []
        for i, stage in enumerate(self.stages):
            z = linear(stage)(enter(stage, h))
            if i and seen is not None:
                read = jax.vmap(lambda h, stage=stage: enter(stage, h))(seen[i - 1])
                read = Adapter(name=f"V_{stage.name}")(read, column)
                z = z + (column > 0) * linear(stage, prefix="U_")(read)
            h = leave(stage, z)
            outputs.append(h)
        if seen is None:
            return outputs, None
        return outputs, (column > 0) * Adapter(name="V_head")(seen[-1], column)


def ungated(params: Tree, task: Array, s: Array) -> dict[str, Array]:
    """The gates of a network that has none."""
    return {}


def make(
    config: ConfigDict, trunk: Trunk, image: tuple[int, ...], classes: tuple[int, ...]
) -> Network:
    """A Network of one column a task, config.network.expand / T times as wide as `trunk`.

    T is the number of tasks, where a run goes on from others (config.extends) that of the first.

    params["trunk"] holds the columns, "T ..."; `apply` takes a single one in their place, and
    beside it the parameters "old" "T ..." of all and "column", the number of this one, which is
    also how many columns are before it. Without these two it is the first. In the published code
    the earlier columns are run without what they read themselves and with dropout, and heads read
    their own column alone (hatjax.fidelity).
    """
    chosen, tasks = departures(config), len(classes)
    planned = config.extends.tasks[0] if config.extends.tasks else tasks
    module = Column(scaled(trunk.stages, config.network.expand / planned), trunk.dropout_in)

    def run(params: Tree, x: Array, column: Array, seen: list[Array] | None, key: Array | None):
        streams = {} if key is None else {"dropout": key}
        return module.apply({"params": params}, x, column, seen, rngs=streams)

    def nothing(x: Array) -> list[Array]:
        """The outputs of columns that are not there: zeros "T b ..." for each stage."""
        outputs, _ = jax.eval_shape(
            lambda x: module.init_with_output(jax.random.key(0), x, 0, None)[0], x
        )
        return [jnp.zeros((tasks, *o.shape), o.dtype) for o in outputs]

    def before(old: Tree, x: Array, column: Array, key: Array | None) -> list[Array]:
        """The outputs "T b ..." of the columns before `column`, stage by stage."""

        def add(k: Array, seen: list[Array]) -> list[Array]:
            one = jax.tree.map(lambda p: rows.pick(p, k), old)
            if chosen.whole_old_columns:
                outputs, _ = run(one, x, k, seen, None)
            else:
                own = None if key is None else jax.random.fold_in(key, k)
                outputs, _ = run(one, x, 0, seen, own)
            return [s.at[k].set(o) for s, o in zip(seen, outputs, strict=True)]

        return jax.lax.fori_loop(0, column, add, nothing(x))

    def features(outputs: list[Array], read: Array) -> Array:
        if not chosen.heads_read_old_columns:
            return outputs[-1]
        return jnp.concatenate([outputs[-1], read], axis=-1)

    def init(key: Array) -> Tree:
        x = jnp.zeros((1, *image))

        def start(key: Array, column: Array) -> tuple[Array, Tree]:
            out, values = module.init_with_output(key, x, column, nothing(x))
            return features(*out), nn.meta.unbox(values["params"])

        *keys, last = jax.random.split(key, tasks + 1)
        z, columns = jax.vmap(start)(jnp.stack(keys), jnp.arange(tasks))
        heads = head.start(last, z.shape[-1], classes)
        return {"trunk": columns, "norms": {}, "stats": {}, "gates": {}, "head": heads}

    def apply(
        params: Tree,
        x: Array,
        task: Array,
        s: Array | None = None,
        key: Array | None = None,
        weight: Array | None = None,
    ) -> Out:
        column = params.get("column", 0)
        seen = before(params["old"], x, column, key) if "old" in params else nothing(x)
        z = features(*run(params["trunk"], x, column, seen, key))
        return Out(head.logits(params, z, task, classes), z, {}, {})

    columns = jax.eval_shape(init, jax.random.key(0))["trunk"]
    return Network(init, apply, ungated, {}, {}, classes, unused(columns, tasks))


def unused(columns: Tree, tasks: int) -> int:
    """How many of the columns' numbers no column uses: they only give all columns one shape.

    All columns are kept in arrays "T ...", as large as the last one needs. Of V "T c c" and the
    scales "T", column k uses k rows; column 0 uses no V, no scales and no U.
    """
    padding = 0
    for name, layer in columns.items():
        sizes = {kind: p.size // tasks for kind, p in layer.items()}  # of one column
        if name.startswith("V_"):
            rows_left = sum(tasks - k for k in range(tasks))
            padding += sizes["bias"] + (sizes["kernel"] + sizes["scale"]) // tasks * rows_left
        elif name.startswith("U_"):
            padding += sum(sizes.values())
    return padding
