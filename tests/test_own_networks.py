"""Networks of one's own that cannot be used: each is told before anything is trained."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hatjax
from hatjax.errors import InputError
from tests.test_networks import arrays

RULES = {"fc/kernel": (None, "fc"), "fc/bias": ("fc",)}


class Own(nn.Module):
    """A layer of 8 gated units; the others below change one thing."""

    units = {"fc": 8}
    rules = RULES

    def features(self, x):
        return nn.relu(nn.Dense(8, name="fc")(x.reshape(len(x), -1)))

    @nn.compact
    def __call__(self, x, gates):
        return self.features(x) * gates["fc"][None]


class Winners(Own):
    """The two largest units, closed ones among them, silence the others."""

    @nn.compact
    def __call__(self, x, gates):
        h = self.features(x)
        return jnp.where(h >= jax.lax.top_k(h, 2)[0][:, -1:], h, 0) * gates["fc"][None]


class ScaledByTheLargest(Own):
    @nn.compact
    def __call__(self, x, gates):
        h = self.features(x)
        return h * gates["fc"][None] * nn.sigmoid(h.max(axis=-1, keepdims=True))


class Parity(Own):
    @nn.compact
    def __call__(self, x, gates):
        h = self.features(x)
        return h * gates["fc"][None] * (h.argmax(axis=-1, keepdims=True) % 2)


class OneUnit(Own):
    """A gate of a single unit, forgotten in the call."""

    units = {"one": 1, "fc": 8}
    rules = RULES | {"small/kernel": (None, "one"), "small/bias": ("one",)}

    @nn.compact
    def __call__(self, x, gates):
        small = nn.relu(nn.Dense(1, name="small")(x.reshape(len(x), -1)))
        return (self.features(x) + small) * gates["fc"][None]


class Temperature(Own):
    """A number of each task's own."""

    rules = RULES | {"temperature": hatjax.PER_TASK}

    @nn.compact
    def __call__(self, x, gates):
        t = self.param("temperature", lambda key: jnp.float32(2))
        return self.features(x) * gates["fc"][None] / t


class Two(Own):
    @nn.compact
    def __call__(self, x, gates):
        return self.features(x), gates["fc"][None]


class Gateless(Own):
    @nn.compact
    def __call__(self, x):
        return self.features(x)


class OtherGate(Own):
    @nn.compact
    def __call__(self, x, gates):
        return self.features(x) * gates["other"][None]


class HalfUnits(Own):
    units = {"fc": 8.0}


class Deterministic(Own):
    @nn.compact
    def __call__(self, x, gates, deterministic):
        return nn.Dropout(0.5)(self.features(x) * gates["fc"][None], deterministic=deterministic)


class OtherNoise(Own):
    @nn.compact
    def __call__(self, x, gates, train):
        h = self.features(x) * gates["fc"][None]
        return nn.Dropout(0.5, rng_collection="noise")(h, deterministic=not train)


class Whole(Own):
    rules = RULES | {"offset": ("fc",)}

    @nn.compact
    def __call__(self, x, gates):
        offset = self.param("offset", lambda key: jnp.arange(8))
        return self.features(x) * gates["fc"][None] + (offset * gates["fc"])[None]


class AllOwn(Own):
    rules = {".*": hatjax.PER_TASK}


def fit(network, approach="hat", **settings):
    return hatjax.fit(arrays(), approach, network=network, epochs=1, quiet=True, **settings)


@pytest.mark.parametrize("network", [Own(), Temperature()], ids=lambda v: type(v).__name__)
def test_the_plain_one_is_taken(network):
    result = fit(network)
    assert result.accuracy.shape == (2, 2)
    own = result.model.params["norms"]
    assert len(np.unique(own["temperature"])) == 2 if isinstance(network, Temperature) else not own


@pytest.mark.parametrize(
    "network, says",
    [
        (Winners(), "changing it where they are closed changes what the network gives"),
        (ScaledByTheLargest(), "changing it where they are closed changes"),
        (Parity(), "changing it where they are closed changes"),
        (OneUnit(), "parameter trunk/small/.* the gates 'one': changing it where they are closed"),
        (Two(), "it gives a tuple: expected features"),
        (Gateless(), r"its __call__ fails \(TypeError: .*expected __call__\(x, gates\)"),
        (OtherGate(), "its __call__ fails .*'other'.* with the gates fc"),
        (HalfUnits(), "'fc': 8.0: expected how many, from 1 on"),
        (Deterministic(), r"its __call__ fails .*deterministic.*__call__\(x, gates, train\)"),
        (OtherNoise(), 'cannot be trained .*"noise".* the random numbers "dropout"'),
        (Whole(), "parameter offset is int32: expected numbers that can be trained"),
        (Own, r"Own is a class: give a module made from it, as Own\(\)"),
        (nn.Dense(3), "network = Dense.*expected a name or a dict.* or a Flax module with `units`"),
    ],
    ids=lambda v: getattr(v, "__name__", type(v).__name__),
)
def test_what_cannot_be_used_is_told(network, says):
    with pytest.raises(InputError, match=says) as told:
        fit(network)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("approach", ["packnet", "wsn", "supsup"])
def test_masks_need_weights_that_tasks_share(approach):
    with pytest.raises(InputError, match="all parameters of the network are PER_TASK"):
        fit(AllOwn(), approach)


class Short(Own):
    """Parameters of 16 bits."""

    @nn.compact
    def __call__(self, x, gates):
        h = nn.Dense(8, name="fc", param_dtype=jnp.bfloat16)(x.reshape(len(x), -1))
        return nn.relu(h).astype(jnp.float32) * gates["fc"][None]


def test_si_sums_in_float32():
    model = fit(Short(), "si").model
    for part in ("way", "importance"):
        assert {p.dtype for p in jax.tree.leaves(model.memory[part])} == {np.dtype("float32")}
