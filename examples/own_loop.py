"""HAT in your own training loop: a Flax nnx network, AdamW with weight decay.

    python examples/own_loop.py

Learns five permutations of scikit-learn's handwritten digits in turn, and checks that the logits
of earlier tasks stay bit-identical.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import hatjax as hj

TASKS, EPOCHS, BATCH, S_MAX, C = 5, 30, 64, 400.0, 0.3


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(64, 300, rngs=rngs)
        self.fc2 = nnx.Linear(300, 300, rngs=rngs)
        self.heads = nnx.Param(0.05 * jax.random.normal(rngs.params(), (TASKS, 300, 10)))

    def __call__(self, x, a, task):
        h = nnx.relu(self.fc1(x)) * a["fc1"]
        h = nnx.relu(self.fc2(h)) * a["fc2"]
        return h @ self.heads[task]


x, y = load_digits(return_X_y=True)
x, test = (x / 8 - 1).astype(np.float32), slice(1400, None)

net_of, net = nnx.split(Net(nnx.Rngs(0)), nnx.Param)
rules = {"fc1/kernel": (None, "fc1"), "fc2/kernel": ("fc1", "fc2")}
rules |= {"fc1/bias": ("fc1",), "fc2/bias": ("fc2",), "heads": hj.PER_TASK}
axes = hj.axes(net, rules)
gates = hj.init_gates(jax.random.key(1), {"fc1": 300, "fc2": 300}, TASKS)
params, past = {"net": net, "gates": gates}, hj.no_past(gates)
tx = hj.optimizer(optax.adamw(1e-3, weight_decay=0.05), axes, clip=1.0, gates=optax.sgd(0.05))


def logits(params, x, task, s):
    return nnx.merge(net_of, params["net"])(x, hj.gate(params["gates"], task, s), task)


def loss(params, x, y, past, task, s):
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits(params, x, task, s), y)
    return entropy.mean() + C * hj.sparsity(hj.gate(params["gates"], task, s), past)


@jax.jit
def epoch(params, opt, past, task, xs, ys):
    def step(carry, batch):
        (params, opt), (x, y, progress) = carry, batch
        s = hj.anneal(progress, S_MAX)
        grads = jax.grad(loss)(params, x, y, past, task, s)
        updates, opt = tx.update(grads, opt, params, past=past, s=s, task=task)
        return (optax.apply_updates(params, updates), opt), None

    return jax.lax.scan(step, (params, opt), (xs, ys, jnp.linspace(0, 1, len(xs))))[0]


rng, answer, learned = np.random.default_rng(0), jax.jit(logits), []
for task in range(TASKS):
    pixels, opt = rng.permutation(64), tx.init(params)
    for _ in range(EPOCHS):
        order = rng.permutation(1400)[: 1400 // BATCH * BATCH].reshape(-1, BATCH)
        params, opt = epoch(params, opt, past, task, x[order][..., pixels], y[order])
    params = params | {"gates": hj.binarise(params["gates"], task)}  # gates of exactly 0 and 1
    past = hj.accumulate(past, hj.gate(params["gates"], task, S_MAX))
    learned.append((pixels, answer(params, x[test][:, pixels], task, S_MAX)))
    found = [answer(params, x[test][:, p], u, S_MAX) for u, (p, _) in enumerate(learned)]
    print(f"task {task + 1}: accuracy", *(f"{(z.argmax(-1) == y[test]).mean():.1%}" for z in found))
    same = all((now == then).all() for now, (_, then) in zip(found, learned, strict=True))
    print(f"  earlier tasks' logits are {'bit-identical' if same else 'NOT THE SAME'}")
