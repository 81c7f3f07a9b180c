"""Vision transformers (Dosovitskiy et al., ICLR 2021), with layer norms before each block.

One gate lies on the residual stream, to which all blocks add. Each block has one gate for its
queries and keys, one for its values, one for the hidden units of its MLP. A layer norm reads a
stream whose closed units are 0, so its statistics do not depend on how later tasks change these
units, and its output is gated again.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.config import NetworkSpec, ranges
from hatjax.errors import InputError
from hatjax.networks.layers import NORM_RULES, Dropout, gate
from hatjax.types import Array


class ViT(nn.Module):
    """Images "b h w c" -> features "b width": the mean over the patches."""

    patch: int  # side in pixels
    width: int  # of the stream
    depth: int  # blocks
    heads: int
    hidden: int  # units of a block's MLP
    dropout: float

    @property
    def units(self) -> dict[str, int]:
        units = {"stream": self.width}
        for i in range(1, self.depth + 1):
            units |= {f"qk{i}": self.width, f"v{i}": self.width, f"mlp{i}": self.hidden}
        return units

    @property
    def rules(self) -> dict:
        rules: dict = {
            "embed/kernel": (None, "stream"), "embed/bias": ("stream",),
            "position": (None, "stream"),
        }  # fmt: skip
        for i in range(1, self.depth + 1):
            for layer, source, to in (
                ("q", "stream", f"qk{i}"), ("k", "stream", f"qk{i}"), ("v", "stream", f"v{i}"),
                ("out", f"v{i}", "stream"), ("up", "stream", f"mlp{i}"),
                ("down", f"mlp{i}", "stream"),
            ):  # fmt: skip
                rules |= {f"{layer}{i}/kernel": (source, to), f"{layer}{i}/bias": (to,)}
        return rules | NORM_RULES

    @nn.compact
    def __call__(self, x: Array, gates: dict[str, Array], train: bool) -> Array:
        def norm(h: Array, name: str) -> Array:
            return gate(nn.LayerNorm(name=f"norm_{name}")(h), gates, "stream")

        def add(h: Array, z: Array, name: str) -> Array:
            z = Dropout(self.dropout)(nn.Dense(self.width, name=name)(z))
            return h + gate(z, gates, "stream")

        h = nn.Dense(self.width, name="embed")(cut(x, self.patch))  # "b p width"
        place = self.param("position", nn.initializers.normal(0.02), h.shape[1:])
        h = gate(h + place[None], gates, "stream")
        for i in range(1, self.depth + 1):
            y = norm(h, f"attention{i}")
            q, k, v = (
                gate(nn.Dense(self.width, name=f"{layer}{i}")(y), gates, f"{of}{i}")
                for layer, of in (("q", "qk"), ("k", "qk"), ("v", "v"))
            )
            h = add(h, attend(q, k, v, self.heads), f"out{i}")
            z = nn.gelu(nn.Dense(self.hidden, name=f"up{i}")(norm(h, f"mlp{i}")))
            h = add(h, gate(z, gates, f"mlp{i}"), f"down{i}")
        return norm(h, "last").mean(axis=1)


def cut(x: Array, side: int) -> Array:
    """The square patches of "b h w c", a row each: "b p side*side*c"."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).swapaxes(2, 3)
    return x.reshape(b, -1, side * side * c)


def attend(q: Array, k: Array, v: Array, heads: int) -> Array:
    """Softmax attention of "b p width" in so many heads."""
    b, p, width = q.shape
    q, k, v = (z.reshape(b, p, heads, width // heads) for z in (q, k, v))
    weights = jax.nn.softmax(jnp.einsum("bphd,bqhd->bhpq", q, k) * (width // heads) ** -0.5)
    return jnp.einsum("bhpq,bqhd->bphd", weights, v).reshape(b, p, width)


def make(config: ConfigDict, image: tuple[int, ...]) -> ViT:
    """A ViT; InputError if patches do not fill the image, or heads not the width."""
    if image[0] % config.patch or image[1] % config.patch:
        raise InputError(
            f"config.network.patch = {config.patch}: images of {image[0]}x{image[1]} cannot be cut "
            "into such patches; choose a divisor of both sides"
        )
    if config.width % config.heads:
        raise InputError(
            f"config.network.heads = {config.heads}: expected a divisor of config.network.width = "
            f"{config.width}"
        )
    if isinstance(config.dropout, tuple):
        raise InputError(
            f"config.network.dropout = {config.dropout}: vit has one rate for all its layers"
        )
    hidden = config.mlp * config.width
    return ViT(config.patch, config.width, config.depth, config.heads, hidden, config.dropout)


# ViT-Ti, for images of 32 x 32.
NETWORK = NetworkSpec(
    make,
    fields=dict(
        patch=4,  # side of the patches in pixels
        width=192,
        depth=12,
        heads=3,
        mlp=4,  # hidden units of a block's MLP, in widths
        dropout=0.0,
    ),
    ranges={
        "patch": ranges.SMALL_COUNT,
        "width": ranges.UNITS,
        "depth": ranges.SMALL_COUNT,
        "heads": ranges.SMALL_COUNT,
        "mlp": ranges.whole(1, 100),
        "dropout": ranges.RATES,
    },
)
