"""The same HAT and SGD steps in plain, eager PyTorch, for comparison."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from hatjax.benchmark.steps import CLASSES, IMAGE, Case, build
from hatjax.networks.architectures import alexnet


class Net(nn.Module):
    """An MLP (as many dense layers as `widths`) or the paper's AlexNet, with optional gates."""

    def __init__(
        self, name: str, image: tuple, widths: tuple, dropout: tuple, tasks: int, hat: bool
    ):
        super().__init__()
        side, channels = image[0], image[2]
        self.convs, self.dense = nn.ModuleList(), nn.ModuleList()
        self.dropout_in = dropout[0] if name == "mlp" else 0.0
        self.dropout = dropout[1:] if name == "mlp" else dropout
        size, dense = side * side * channels, widths
        if name == "alexnet":
            for k, width in zip(alexnet.kernels(side), widths, strict=False):
                self.convs.append(nn.Conv2d(channels, width, k))
                channels, side = width, (side - k + 1) // 2
            size, dense = channels * side * side, widths[3:]
        for width in dense:
            self.dense.append(nn.Linear(size, width))
            size = width
        self.heads = nn.ModuleList(nn.Linear(size, 10) for _ in range(tasks))
        self.e = nn.ModuleList(nn.Embedding(tasks, w) for w in widths) if hat else None

    def forward(self, x, task: int, s: float):
        gates = [torch.sigmoid(s * e.weight[task]) for e in self.e] if self.e else None
        layer = 0
        for conv in self.convs:
            x = F.max_pool2d(F.dropout(F.relu(conv(x)), self.dropout[layer], self.training), 2)
            x = x * gates[layer].view(1, -1, 1, 1) if gates else x
            layer += 1
        x = F.dropout(x.flatten(1), self.dropout_in, self.training)
        for fc in self.dense:
            x = F.dropout(F.relu(fc(x)), self.dropout[layer], self.training)
            x = x * gates[layer] if gates else x
            layer += 1
        return self.heads[task](x), gates


class Peer(NamedTuple):
    """The functions of steps.Training in PyTorch."""

    steps: Callable[[int], None]
    epoch: Callable[[], None]


def prepare(case: Case, hat: bool, max_steps: int) -> Peer:
    """Train HAT or SGD in the second task on random images, `max_steps` steps an epoch.

    An epoch is as in the published code: train, evaluate on the training and validation images.
    """
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    c = build(case, "sgd").config.network
    dropout = (c.dropout_in, *[c.dropout] * len(c.widths)) if c.name == "mlp" else c.dropout
    image, batch, n = IMAGE[case.network], case.batch, max_steps * case.batch
    net = Net(c.name, image, c.widths, dropout, case.tasks, hat)
    rng = np.random.default_rng(0)

    def images(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = rng.integers(0, 256, (n, image[2], *image[:2])).astype(np.float32)
        return torch.from_numpy((x - 127) / 74), torch.from_numpy(rng.integers(0, CLASSES, n))

    (x, y), valid = images(n), images(max(1, n * 15 // 85))
    s_max, lamb, task = 400.0, 0.75, min(1, case.tasks - 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    layers = [*net.convs, *net.dense]
    past = [torch.rand(w) for w in c.widths]
    masks = []
    for i, layer in enumerate(layers if hat else []):
        post = past[i].view(-1, *[1] * (layer.weight.dim() - 1)).expand_as(layer.weight)
        if i:
            pre = past[i - 1].repeat_interleave(layer.weight.shape[1] // c.widths[i - 1])
            pre = pre.view(1, -1, *[1] * (layer.weight.dim() - 2)).expand_as(layer.weight)
            post = torch.minimum(post, pre)
        masks.append((1 - post, 1 - past[i]))

    def criterion(x, y, s: float) -> tuple[torch.Tensor, torch.Tensor]:
        logits, gates = net(x, task, s)
        loss = F.cross_entropy(logits, y)
        if hat:
            used = sum((g * (1 - p)).sum() for g, p in zip(gates, past, strict=True))
            loss = loss + lamb * used / sum((1 - p).sum() for p in past)
        return loss, logits

    def steps(k: int) -> None:
        net.train()
        order = torch.randperm(n)[: k * batch]
        for b in range(k):
            index = order[b * batch : (b + 1) * batch]
            s = 1 / s_max + (s_max - 1 / s_max) * b / max(k - 1, 1)
            loss, _ = criterion(x[index], y[index], s)
            optimizer.zero_grad()
            loss.backward()
            for layer, (weight, bias) in zip(layers, masks, strict=False):
                layer.weight.grad.mul_(weight)
                layer.bias.grad.mul_(bias)
            for e in net.e or ():
                steep = torch.cosh(torch.clamp(s * e.weight.data, -50, 50)) + 1
                e.weight.grad.mul_(s_max / s * steep / (torch.cosh(e.weight.data) + 1))
            nn.utils.clip_grad_norm_(net.parameters(), 10000)
            optimizer.step()
            for e in net.e or ():
                e.weight.data.clamp_(-6, 6)

    @torch.no_grad()
    def evaluate(x, y) -> tuple[float, float]:
        net.eval()
        loss, right = 0.0, 0.0
        for b in range(0, len(x), batch):
            value, logits = criterion(x[b : b + batch], y[b : b + batch], s_max)
            loss += value.item() * len(logits)
            right += (logits.argmax(1) == y[b : b + batch]).sum().item()
        return loss / len(x), right / len(x)

    def epoch() -> None:
        steps(max_steps)
        evaluate(x, y)
        evaluate(*valid)

    return Peer(steps, epoch)
