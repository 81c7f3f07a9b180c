"""A-GEM: Averaged Gradient Episodic Memory (Chaudhry, Ranzato, Rohrbach and Elhoseiny, ICLR 2019).

A step must not, to first order, increase the loss on kept examples of earlier tasks: where it
would, the part of the gradient that does so is taken out.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import er, sgd
from hatjax.config import ApproachSpec
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Array, Network, Tree

PARTS = ("trunk", "norms")  # of the parameters: what tasks share


def project(g: Tree, ref: Tree) -> Tree:
    """g - (g.ref / ref.ref) ref where g.ref < 0, else g (eq. 11). Trees of the same shapes."""

    def dot(a: Tree, b: Tree) -> Array:
        return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)))

    along = dot(g, ref)
    share = jnp.where(along < 0, along / jnp.maximum(dot(ref, ref), 1e-30), 0)
    return jax.tree.map(lambda x, y: x - share * y, g, ref)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the cross-entropy, its gradient in what tasks share projected as in `project`.

    ref is the gradient of the mean cross-entropy of config.approach.replay kept examples of earlier
    tasks; without one it is 0 and the gradient stays. Heads of other tasks do not move, and running
    statistics are those of the task's own batches. memory: that of er.remembering. The paper keeps
    the same number of examples of each task; a reservoir keeps about as many of each, if tasks have
    equally many examples.
    """
    tasks = jnp.arange(len(network.classes))
    base = er.remembering(
        config, network, head=lambda memory, step: (tasks == step.task).astype(jnp.float32)
    )

    def redirect(grads, own, memory, step):
        if step.key is None:  # in evaluation
            return grads
        old, _ = er.drawn(config, memory, step.task, step.key)

        def loss(shared: Tree) -> Array:
            out = er.answers(network, own | shared, old, step.key)
            return cross_entropy(out.logits, old)

        ref = jax.grad(loss)({part: own[part] for part in PARTS})
        return grads | project({part: grads[part] for part in PARTS}, ref)

    return base._replace(redirect=redirect)


APPROACH = ApproachSpec(
    make, label="A-GEM", settings=sgd.Settings(), ranges=er.RANGES, fixed=er.FIELDS
)
