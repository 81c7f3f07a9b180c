"""The same HAT and SGD steps in eager PyTorch, plainly written: the benchmark's peer."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from hatjax.networks import alexnet


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
            x = F.max_pool2d(F.dropout(F.relu(conv(x)), self.dropout[layer]), 2)
            x = x * gates[layer].view(1, -1, 1, 1) if gates else x
            layer += 1
        x = F.dropout(x.flatten(1), self.dropout_in)
        for fc in self.dense:
            x = F.dropout(F.relu(fc(x)), self.dropout[layer])
            x = x * gates[layer] if gates else x
            layer += 1
        return self.heads[task](x), gates


def one_pass(name, image, widths, dropout, tasks, hat: bool, batch: int, steps: int) -> Callable:
    """A function that trains `steps` steps of the second task on random images "n h w c"."""
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    net = Net(name, image, widths, dropout, tasks, hat)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (batch * steps, image[2], *image[:2])).astype(np.float32)
    x, y = torch.from_numpy((x - 127) / 74), torch.from_numpy(rng.integers(0, 10, batch * steps))
    s_max, c, task = 400.0, 0.75, 1
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    layers = [*net.convs, *net.dense]
    past = [torch.rand(w) for w in widths]
    masks = []
    for i, layer in enumerate(layers if hat else []):
        post = past[i].view(-1, *[1] * (layer.weight.dim() - 1)).expand_as(layer.weight)
        if i:
            pre = past[i - 1].repeat_interleave(layer.weight.shape[1] // widths[i - 1])
            pre = pre.view(1, -1, *[1] * (layer.weight.dim() - 2)).expand_as(layer.weight)
            post = torch.minimum(post, pre)
        masks.append((1 - post, 1 - past[i]))

    def run() -> None:
        order = torch.randperm(len(x))
        for b in range(steps):
            index = order[b * batch : (b + 1) * batch]
            s = 1 / s_max + (s_max - 1 / s_max) * b / max(steps - 1, 1)
            logits, gates = net(x[index], task, s)
            loss = F.cross_entropy(logits, y[index])
            if hat:
                used = sum((g * (1 - p)).sum() for g, p in zip(gates, past, strict=True))
                loss = loss + c * used / sum((1 - p).sum() for p in past)
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

    return run
