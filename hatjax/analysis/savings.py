"""The small network of a task against the full one: parameters, multiply-adds, time."""

import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from hatjax import data, networks
from hatjax.analysis import models
from hatjax.analysis.models import Model
from hatjax.analysis.single_task import Small
from hatjax.data import tasks
from hatjax.errors import InputError
from hatjax.training import train
from hatjax.training.flops import multiply_adds, products
from hatjax.types import Array, Tree

# The largest difference allowed between the two networks' logits, relative to the largest logit.
ROUNDING = 1e-4


def compare(model: Model, task: int, small: Small, batch: int) -> dict:
    """Compare the small network of `task` (counted from 0) with the full one.

    "full" counts what the full network needs for this task: the trunk, the task's gates, its head.
    "difference" is the largest difference between their logits on the task's test images, or on
    random images if the data are not available; "largest" is the largest logit. Times are medians
    for `batch` images. Raises InputError if the logits do not agree.
    """
    row, hyper = model.rows[task], train.hyperparameters(model.config)
    classes = model.network.classes[row]

    def full(own: tuple[Tree, Tree], x: Array) -> Array:
        return model.approach.predict(*own, x, row, hyper)[:, :classes]

    def cut_out(own: Tree, x: Array) -> Array:
        return small.network.apply(own, x, 0).logits

    functions = {"full": full, "small": cut_out}
    own = jax.device_put({"full": (model.params, model.memory), "small": small.params})
    compiled = {k: jax.jit(f) for k, f in functions.items()}
    images, what = images_of(model, task)
    difference = largest = 0.0
    for i in range(0, len(images), model.config.eval_batch):
        some = images[i : i + model.config.eval_batch]
        x = models.normalised(some, small.image, small.mean, small.std, small.pixels)
        a, b = (np.asarray(compiled[k](own[k], x)) for k in functions)
        difference = max(difference, float(np.abs(a - b).max()))
        largest = max(largest, float(np.abs(a).max()))
    if not difference <= ROUNDING * largest:
        raise InputError(
            f"the small network's outputs differ by {difference:.1e} from the full one's (of at "
            f"most {largest:.1e}): {model.config.network.name!r} does not use its "
            "units as its parameters declare, and cannot be exported"
        )
    x = jax.device_put(np.resize(x, (batch, *x.shape[1:])))
    times = milliseconds({k: partial(compiled[k], own[k], x) for k in functions})
    width = model.params["head"]["kernel"].shape[1]
    kept = {layer: len(places) for layer, places in small.units.items()}
    units = {"full": dict(model.network.units), "small": kept}
    parameters = {
        "full": networks.count(model.network)["trunk"]
        + sum(model.network.units.values())
        + (width + 1) * classes,
        "small": sum(networks.count(small.network).values()),
    }
    # predict computes the head of the largest task, of which this one needs its classes.
    beyond = {"full": width * (max(model.network.classes) - classes), "small": 0}
    sizes = {
        k: {
            "units": units[k],
            "parameters": parameters[k],
            "bytes": 4 * parameters[k],  # float32
            "multiply_adds": sum(map(multiply_adds, products(functions[k], own[k], x[:1])))
            - beyond[k],
            "milliseconds": times[k],
        }
        for k in functions
    }
    same = {"images": what, "difference": difference, "largest": largest}
    return {"task": small.task, "classes": classes, **sizes, "batch": batch, **same}


def images_of(model: Model, task: int) -> tuple[np.ndarray, str]:
    """Raw test images "n h w c" of the task, and a description of them.

    Random images if the data are not available. InputError if the data root holds other tasks.
    """
    stages = (*model.earlier, model.config)
    if any(config.tasks.kind == tasks.GIVEN for config in stages):
        noise = np.random.default_rng(0).normal(size=(256, *model.image))
        x = model.mean[task] + model.std[task] * noise
        return x, f"{len(x)} random examples (arrays given in Python are not kept)"
    where = data.root(model.config.data.root)
    sets = [n for config in stages for n in config.data.sets]
    absent = [n for n in sets if not data.available(n, where)]
    if absent:
        x = np.random.default_rng(0).integers(0, 256, (256, *model.image), np.uint8)
        return x, f"{len(x)} random images ({absent[0]!r} is not in the data root {where})"
    found = tasks.of_runs(stages)
    x = found[min(task, len(found) - 1)].test.x
    if len(found) != len(model.names) or x.shape[1:] != model.image:
        raise InputError(
            f"the data root {where} holds {len(found)} tasks of {x.shape[1:]} images, and the run "
            f"learned {len(model.names)} of {model.image}: restore the image set that it learned"
        )
    return x, f"{len(x)} test images"


def table(report: dict) -> str:
    """The result of `compare` as text."""
    full, small = report["full"], report["small"]
    pairs = full["units"].items()
    rows = [(f"units {layer}", n, small["units"][layer], ",d") for layer, n in pairs]
    rows += [
        (label, full[key], small[key], form)
        for label, key, form in (
            ("parameters", "parameters", ",d"),
            ("bytes", "bytes", ",d"),
            ("multiply-adds an image", "multiply_adds", ",d"),
            (f"ms for {report['batch']} images", "milliseconds", ".3f"),
        )
    ]
    lines = [f"{report['task']}, {report['classes']} classes", ""]
    lines += [f"{'':24}{'full':>14}{'small':>14}{'full / small':>15}"]
    lines += [f"{label:24}{a:14{form}}{b:14{form}}{a / b:15.1f}" for label, a, b, form in rows]
    lines += [
        "",
        f"outputs of at most {report['largest']:.3g} differ by at most {report['difference']:.1e}",
        f"on {report['images']}",
    ]
    return "\n".join(lines)


def milliseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of each call over at least 10 rounds and a second in all, after warm-up.

    The calls take turns, so that other load on the machine affects all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())  # compiles
    began, rounds = time.perf_counter(), 0
    while rounds < 10 or time.perf_counter() < began + 1:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(1e3 * (time.perf_counter() - start))
        rounds += 1
    return {name: float(np.median(t)) for name, t in times.items()}
