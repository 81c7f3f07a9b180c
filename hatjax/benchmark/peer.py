"""The same HAT and SGD steps in PyTorch, eager or by torch.compile, for comparison.

They run on the kind of device that JAX uses, with the images on it, in the same precision.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from hatjax.benchmark.steps import CLASSES, IMAGE, Case
from hatjax.benchmark.torch_networks import Net
from hatjax.errors import InputError

S_MAX, C, LR, CLIP, E_MAX, COSH_MAX = 400.0, 0.75, 0.05, 10000.0, 6.0, 50.0


class Peer(NamedTuple):
    """The functions of steps.Training in PyTorch; they wait until the device has finished."""

    steps: Callable[[int], None]
    epoch: Callable[[], None]


def device() -> torch.device:
    """The device of PyTorch that is JAX's; InputError if PyTorch has none of that kind."""
    kind = jax.default_backend()
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "gpu" and torch.cuda.is_available():
        return torch.device("cuda")
    raise InputError(
        f"--peer: JAX computes on a {kind}, and PyTorch {torch.__version__} sees none: install a "
        "build of torch for it, or set JAX_PLATFORMS=cpu"
    )


def same_precision() -> None:
    """Let PyTorch round the inputs of float32 products as JAX does: on a GPU to TF32 by default."""
    exact = jax.config.values["jax_default_matmul_precision"] in ("float32", "highest")
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact


def forget() -> None:
    """Free what earlier measurements left: compiled functions and cached device memory."""
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def prepare(case: Case, hat: bool, max_steps: int, compiled: bool = False) -> Peer:
    """Train HAT or SGD in the second task on random images, `max_steps` steps an epoch.

    An epoch is as in the published code: train, evaluate on the training and validation images.
    `compiled` has the loss with its gradient and the update compiled by torch.compile.
    """
    where = device()
    same_precision()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    net = Net(case, hat).to(where)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    past = {name: torch.rand(n, device=where) for name, n in net.units.items()}
    free = net.free(past) if hat else []
    room = sum((1 - p).sum() for p in past.values())  # for the sparsity
    task, batch, n = min(1, case.tasks - 1), case.batch, max_steps * case.batch
    (x, y), valid = (images(case, k, where) for k in (n, max(1, n * 15 // 85)))
    end = torch.tensor(S_MAX, device=where)

    def criterion(x: torch.Tensor, y: torch.Tensor, s: torch.Tensor):
        logits, a = net(x, task, s)
        loss = F.cross_entropy(logits, y)
        if hat:
            loss = loss + C * sum((a[k] * (1 - past[k])).sum() for k in a) / room
        return loss, logits

    @torch.no_grad()
    def update(s: torch.Tensor) -> None:
        for parameter, share in free:
            parameter.grad.mul_(share)
        for e in net.e.values():
            steep = torch.cosh(torch.clamp(s * e, -COSH_MAX, COSH_MAX)) + 1
            e.grad.mul_(S_MAX / s * steep / (torch.cosh(e) + 1))
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        for e in net.e.values():
            e.clamp_(-E_MAX, E_MAX)

    if compiled:
        criterion, update = torch.compile(criterion), torch.compile(update)

    def steps(k: int) -> None:
        net.train()
        order = torch.randperm(n, device=where)[: k * batch]
        annealed = torch.linspace(1 / S_MAX, S_MAX, k, device=where)
        for b in range(k):
            index = order[b * batch : (b + 1) * batch]
            loss, _ = criterion(x[index], y[index], annealed[b])
            optimizer.zero_grad()
            loss.backward()
            update(annealed[b])
        wait()

    @torch.no_grad()
    def evaluate(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
        net.eval()
        loss, right = 0.0, 0.0
        for b in range(0, len(x), batch):
            value, logits = criterion(x[b : b + batch], y[b : b + batch], end)
            loss += value.item() * len(logits)
            right += (logits.argmax(1) == y[b : b + batch]).sum().item()
        return loss / len(x), right / len(x)

    def epoch() -> None:
        steps(max_steps)
        evaluate(x, y)
        evaluate(*valid)

    def wait() -> None:
        if where.type == "cuda":
            torch.cuda.synchronize()

    return Peer(steps, epoch)


def images(case: Case, n: int, where: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images "n c h w", normalised, and labels "n", on the device."""
    height, width, channels = IMAGE[case.network]
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (n, channels, height, width), np.uint8)).to(where)
    return (x.float() - 127) / 74, torch.from_numpy(rng.integers(0, CLASSES, n)).to(where)
