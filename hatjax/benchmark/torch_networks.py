"""The networks of the benchmark in plain PyTorch: the layers, gates and norms of ours.

Each is made from our own module, which says what layers there are; `layers` has them under the
names that our `rules` use, so that one function finds the gates on both sides of a weight. Images
are "b c h w". Norms belong to a task, as ours do.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from hatjax.benchmark.steps import CLASSES, IMAGE, Case, build
from hatjax.config import NETWORKS
from hatjax.errors import InputError

Gates = dict[str, torch.Tensor]  # {gate: "units"}; empty without gates


class Stages(nn.Module):
    """The MLP or AlexNet."""

    def __init__(self, ours, image: tuple[int, int, int], tasks: int):
        super().__init__()
        self.stages, self.dropout_in = ours.stages, ours.dropout_in
        self.layers = nn.ModuleDict()
        side, size = image[0], image[2]
        for stage in ours.stages:
            if stage.kernel:
                self.layers[stage.name] = nn.Conv2d(size, stage.units, stage.kernel)
                side = (side - stage.kernel + 1) // 2
            else:
                self.layers[stage.name] = nn.Linear(size * side * side, stage.units)
                side = 1
            size = stage.units
        self.features = size * side * side

    def forward(self, x: torch.Tensor, task: int, a: Gates) -> torch.Tensor:
        h = dropout(self, x, self.dropout_in)
        for stage in self.stages:
            h = self.layers[stage.name](h if stage.kernel else h.flatten(1))
            h = dropout(self, F.relu(h), stage.rate)
            h = gate(F.max_pool2d(h, 2) if stage.kernel else h, a, stage.name)
        return h.flatten(1)


class ResNet(nn.Module):
    """ResNet-18 with a 3x3 stem, with batch norm or none."""

    def __init__(self, ours, image: tuple[int, int, int], tasks: int):
        super().__init__()
        if ours.norm not in ("batch", "none"):
            raise InputError(
                f"config.network.norm = {ours.norm!r}: the PyTorch peers have 'batch' and 'none'"
            )
        self.blocks, self.layers, self.norms = ours.names(), nn.ModuleDict(), nn.ModuleDict()
        bias = ours.norm == "none"

        def add(name: str, i: int, o: int, kernel: int, stride: int) -> None:
            self.layers[name] = nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=bias)
            if ours.norm == "batch":
                self.norms[name] = nn.ModuleList(nn.BatchNorm2d(o) for _ in range(tasks))

        add("stem", image[2], ours.widths[0], 3, 1)
        size = ours.widths[0]
        for inner, _, _, width, stride in self.blocks:
            add(f"{inner}_in", size, width, 3, stride)
            add(f"{inner}_out", width, width, 3, 1)
            if stride > 1:
                add(f"{inner}_skip", size, width, 1, stride)
            size = width
        self.features = size

    def forward(self, x: torch.Tensor, task: int, a: Gates) -> torch.Tensor:
        def conv(h: torch.Tensor, name: str) -> torch.Tensor:
            h = self.layers[name](h)
            return self.norms[name][task](h) if name in self.norms else h

        h = gate(F.relu(conv(x, "stem")), a, "s1")
        for inner, _, stream, _, stride in self.blocks:
            z = gate(F.relu(conv(h, f"{inner}_in")), a, inner)
            z = conv(z, f"{inner}_out")
            h = conv(h, f"{inner}_skip") if stride > 1 else h
            h = gate(F.relu(h + z), a, stream)
        return h.mean((2, 3))


class ViT(nn.Module):
    """A vision transformer with layer norms before each block."""

    def __init__(self, ours, image: tuple[int, int, int], tasks: int):
        super().__init__()
        width, hidden = ours.width, ours.hidden
        self.depth, self.heads, self.rate, self.features = (
            ours.depth, ours.heads, ours.dropout, width
        )  # fmt: skip
        self.layers = nn.ModuleDict({"embed": nn.Conv2d(image[2], width, ours.patch, ours.patch)})
        self.norms = nn.ModuleDict()
        patches = (image[0] // ours.patch) * (image[1] // ours.patch)
        self.position = nn.Parameter(0.02 * torch.randn(patches, width))

        def norm(name: str) -> None:
            self.norms[name] = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(tasks))

        for i in range(1, ours.depth + 1):
            norm(f"attention{i}")
            norm(f"mlp{i}")
            for name in ("q", "k", "v", "out"):
                self.layers[f"{name}{i}"] = nn.Linear(width, width)
            self.layers[f"up{i}"] = nn.Linear(width, hidden)
            self.layers[f"down{i}"] = nn.Linear(hidden, width)
        norm("last")

    def forward(self, x: torch.Tensor, task: int, a: Gates) -> torch.Tensor:
        layers = self.layers

        def norm(h: torch.Tensor, name: str) -> torch.Tensor:
            return gate(self.norms[name][task](h), a, "stream")

        def add(h: torch.Tensor, z: torch.Tensor, name: str) -> torch.Tensor:
            return h + gate(dropout(self, layers[name](z), self.rate), a, "stream")

        def split(z: torch.Tensor) -> torch.Tensor:  # "b p width" -> "b heads p d"
            return z.unflatten(2, (self.heads, -1)).transpose(1, 2)

        h = layers["embed"](x).flatten(2).transpose(1, 2)  # "b p width"
        h = gate(h + self.position, a, "stream")
        for i in range(1, self.depth + 1):
            y = norm(h, f"attention{i}")
            q, k, v = (
                split(gate(layers[f"{name}{i}"](y), a, f"{of}{i}"))
                for name, of in (("q", "qk"), ("k", "qk"), ("v", "v"))
            )
            z = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            h = add(h, z, f"out{i}")
            z = F.gelu(layers[f"up{i}"](norm(h, f"mlp{i}")), approximate="tanh")
            h = add(h, gate(z, a, f"mlp{i}"), f"down{i}")
        return norm(h, "last").mean(1)


TRUNKS = {"mlp": Stages, "alexnet": Stages, "resnet18": ResNet, "vit": ViT}


class Net(nn.Module):
    """A trunk with a head for every task and, for HAT, gates: (x, task, s) -> logits, gates."""

    def __init__(self, case: Case, hat: bool):
        super().__init__()
        ours = NETWORKS[case.network].make(build(case, "hat").config.network, IMAGE[case.network])
        self.units, self.rules = ours.units, ours.rules
        self.trunk = TRUNKS[case.network](ours, IMAGE[case.network], case.tasks)
        self.heads = nn.ModuleList(
            nn.Linear(self.trunk.features, CLASSES) for _ in range(case.tasks)
        )
        units = self.units if hat else {}
        self.e = nn.ParameterDict({k: torch.randn(case.tasks, n) for k, n in units.items()})

    def forward(self, x: torch.Tensor, task: int, s: torch.Tensor) -> tuple[torch.Tensor, Gates]:
        a = {name: torch.sigmoid(s * e[task]) for name, e in self.e.items()}
        return self.heads[task](self.trunk(x, task, a)), a

    def free(self, past: Gates) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each shared parameter with how far it may move, 1 - min(past_i, past_j), of its shape."""
        found = []
        for name, layer in self.trunk.layers.items():
            source, to = self.rules[f"{name}/kernel"][-2:]
            shape = (-1, *[1] * (layer.weight.dim() - 1))
            held = past[to].view(shape).expand_as(layer.weight)
            if source is not None:  # a flatten repeats each unit for its positions
                pre = past[source].repeat_interleave(layer.weight.shape[1] // len(past[source]))
                held = torch.minimum(held, pre.view(1, *shape[:-1]))
            found.append((layer.weight, 1 - held))
            if layer.bias is not None:
                found.append((layer.bias, 1 - past[to]))
        if "position" in self.rules:
            found.append((self.trunk.position, 1 - past["stream"].expand_as(self.trunk.position)))
        return found


def gate(h: torch.Tensor, a: Gates, name: str) -> torch.Tensor:
    """h times the gate of that name, if there are gates; images have their units in axis 1."""
    if not a:
        return h
    return h * (a[name].view(-1, 1, 1) if h.dim() == 4 else a[name])


def dropout(module: nn.Module, x: torch.Tensor, rate: float) -> torch.Tensor:
    """Dropout in training."""
    return F.dropout(x, rate, module.training) if rate else x
