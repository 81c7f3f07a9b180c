"""HAT's training step in two libraries for PyTorch, CLArena and HAT-CL, beside ours, on one core.

    python -m pip install clarena
    python -m pip install --no-deps --ignore-requires-python hat-cl 'timm<0.7'
    taskset -c 0 python -m hatjax.benchmark.libraries --widths=2000,2000

(hat-cl asks for Python 3.10 and runs on later ones.) An MLP on ten tasks of 28 x 28 images, batch
64, plain SGD without dropout, in its second task; images and labels are random and in memory. Each
library trains as its documentation shows: CLArena by a Lightning Trainer, here without logger,
progress bar and checkpoints, HAT-CL in a loop of one's own. The time is that of the steps alone.
"""

import importlib
import logging
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags

from hatjax import cli
from hatjax.benchmark import steps
from hatjax.benchmark.tables import table
from hatjax.benchmark.timing import ratio
from hatjax.data import vision
from hatjax.errors import InputError

Steps = Callable[[int], float]  # trains a number of steps, returns their seconds
TASKS, BATCH, PIXELS, LR, S_MAX, C = 10, 64, 784, 0.05, 400.0, 0.75
INSTALL = {"clarena": "clarena", "hat": "--no-deps --ignore-requires-python hat-cl 'timm<0.7'"}


def needs(module: str) -> None:
    """InputError, with what to do, if a library cannot be imported."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module} cannot be imported ({error}): python -m pip install {INSTALL[module]}"
        ) from error


def ours(widths: Sequence[int], most: int) -> Steps:
    """hatjax's step, as it runs in the compiled epoch."""
    case = steps.Case("mlp", tuple(widths), BATCH, TASKS, fields=(("dropout", 0.0),))
    run = steps.prepare(case, "hat", most).steps

    def timed(k: int) -> float:
        began = time.perf_counter()
        run(k)
        return time.perf_counter() - began

    return timed


def clarena(widths: Sequence[int], most: int) -> Steps:
    """CLArena's: its HAT on its MLP, whose last width is what it calls the output."""
    import lightning
    import torch
    from clarena.backbones import HATMaskMLP
    from clarena.cl_algorithms import HAT
    from clarena.heads import HeadsTIL

    class Clock(lightning.Callback):
        seconds = 0.0

        def on_train_epoch_start(self, *_):
            self.began = time.perf_counter()

        def on_train_epoch_end(self, *_):
            self.seconds = time.perf_counter() - self.began

    *hidden, last = widths
    net = HATMaskMLP(PIXELS, hidden, last, gate="sigmoid", batch_normalization=None)
    model = HAT(net, HeadsTIL(last), "hat", S_MAX, clamp_threshold=50.0, mask_sparsity_reg_factor=C)
    x, y = images(most)
    data = torch.utils.data.TensorDataset(x, y)

    def fit(k: int) -> float:
        clock = Clock()
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=1, limit_train_batches=k, logger=False, callbacks=[clock],
            enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, torch.utils.data.DataLoader(data, BATCH, shuffle=True))
        return clock.seconds

    for task in (1, 2):  # a little of the first, so that the second has a past
        model.setup_task_id(task, steps.CLASSES, lambda params: torch.optim.SGD(params, LR), None)
        fit(2)
    return fit


def hat_cl(widths: Sequence[int], most: int) -> Steps:
    """HAT-CL's, with its own default of s_max, which its compensation needs."""
    import torch
    from hat import HATConfig, HATPayload
    from hat.modules import HATLinear
    from hat.utils import get_hat_mask_scale, get_hat_reg_term
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            config = HATConfig(num_tasks=TASKS)
            sizes = zip([PIXELS, *widths], widths, strict=False)
            self.layers = nn.ModuleList([HATLinear(i, o, config) for i, o in sizes])
            self.heads = nn.ModuleList(
                [nn.Linear(widths[-1], steps.CLASSES) for _ in range(TASKS)]
            )

        def forward(self, x, task: int, s: float):
            payload = HATPayload(x, task_id=task, mask_scale=s, locked_task_ids=range(task))
            for layer in self.layers:
                payload = layer(payload).forward_by(nn.ReLU())
            return self.heads[task](payload.data)

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), LR)
    x, y = images(most)

    def train(task: int, k: int) -> float:
        net.train()
        began = time.perf_counter()
        order = torch.randperm(len(x))
        for b in range(k):
            index = order[b * BATCH : (b + 1) * BATCH]
            s = get_hat_mask_scale("linear", progress=b / max(1, k - 1))
            loss = nn.functional.cross_entropy(net(x[index], task, s), y[index])
            sparsity = get_hat_reg_term(
                net, "uniform", task_id=task, mask_scale=s, locked_task_ids=range(task)
            )
            optimizer.zero_grad()
            (loss + C * sparsity).backward()
            optimizer.step()
        return time.perf_counter() - began

    train(0, 2)  # a little of the first, so that the second has a past
    return lambda k: train(1, k)


def images(batches: int) -> tuple:
    """Random images "n 784" and labels "n" for so many batches, as tensors."""
    import torch

    rng, n = np.random.default_rng(0), batches * BATCH
    x = rng.normal(size=(n, PIXELS)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, steps.CLASSES, n))


def widths_of(words: Sequence[str]) -> list[int]:
    """--widths as numbers; InputError for what is none, or fewer than two."""
    if len(words) < 2 or not all(w.isdecimal() and int(w) for w in words):
        given = ",".join(words)
        raise InputError(f"--widths: expected two or more, as in 100,100, got {given!r}")
    return [int(w) for w in words]


def compare(widths: Sequence[int], most: int, rounds: int) -> str:
    """The table: all three in turn, `most` steps a timing, round after round."""
    vision.datasets()  # so that torchvision, which CLArena imports, loads with a CPU build of torch
    for module in INSTALL:
        needs(module)
    runs = {"hatjax": ours, "CLArena": clarena, "HAT-CL": hat_cl}
    made = {name: make(widths, most) for name, make in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, run in made.items():
            times[name].append(run(most) / most)
    found = {name: np.array(t) for name, t in times.items()}
    return table("HAT, one core", {
        "rows": {name: {"ms a step": float(np.median(t)) * 1e3} for name, t in found.items()},
        "ratios": {f"{n} / hatjax": ratio(t, found["hatjax"]) for n, t in found.items()},
    })  # fmt: skip


def main(_: list[str]) -> None:
    """Print the table, or what is wrong."""
    logging.disable(logging.WARNING)  # Lightning's
    warnings.simplefilter("ignore")
    given = flags.FLAGS
    try:
        print(compare(widths_of(given.widths), given.steps, given.rounds))
    except InputError as error:
        cli.fail(error)


if __name__ == "__main__":  # the flags here: other modules have some of the same names
    flags.DEFINE_list("widths", ["100", "100"], "Units of the layers, at least two.")
    flags.DEFINE_integer("steps", 300, "Steps in a timing.", lower_bound=2)
    flags.DEFINE_integer("rounds", 5, "Rounds of timings.", lower_bound=1)
    cli.start(main, cli.parse_flags)
