"""Hard Attention to the Task and its baselines for continual learning, in functional JAX.

The method, for your own training loop, network and optimizer (hatjax/hat.py):

    axes(net, rules), PER_TASK         the gates on the axes of each parameter
    init_gates(key, units, tasks)      the embeddings, {"fc1": "tasks units"}
    anneal(progress, s_max)            s, which hardens the gates within an epoch
    gate(gates, task, s)               the gates of a task, {"fc1": "units"}
    sparsity(a, past)                  the share of free units that a task takes, for the loss
    optimizer(inner, axes)             any Optax optimizer, with learned weights protected
    binarise(gates, task)              the embeddings with those of a task at gates of 0 or 1
    no_past(gates), accumulate(past, a)    the cumulative gates
    used(past, axes, net), overlap(a, axes, net)    the weights that tasks use and share

Whole experiments:

    fit(sets, approach="hat", ...)     learn tasks given as arrays -> Result(accuracy, model)
    extend(model, sets, earlier=...)   learn more tasks after those of a model -> Result
    load(workdir)                      the model of a run
    predict(model, x, task)            logits "n classes"; tasks count from 0; names=True: the class
    predict(model, x)                  without being told the task: the class and the task
    classes(model, task)               what its classes are called
    model.apply(params, x, task)       the same as a pure function, for jax.jit and jax.grad
    evaluate(model, x, y, task)        accuracy
    confusion(model, x, y, task)       which classes are taken for which; class_accuracy of that
    task_masks(model, task)            the gates of a task, {layer: "units"}
    overlap(model)                     the share of a task's weights that another uses, "T T"
    cut(model, task)                   the small network of a task (hatjax.export saves it)
    forget_task(model, task, key)      the model without a task
    infer_task(model, inputs)          the task of a whole batch of network inputs (not raw images)
    register(name, make)               your own network, for these and for the commands

probe(apply, net, axes, units) checks whether a network can be protected.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatjax.analysis.confusion import class_accuracy, confusion
    from hatjax.analysis.inference import infer_task
    from hatjax.analysis.masks import masks as task_masks
    from hatjax.analysis.masks import overlap
    from hatjax.analysis.models import Model, classes, evaluate, load
    from hatjax.analysis.single_task import Small, cut
    from hatjax.analysis.task_free import TaskFree, predict
    from hatjax.errors import Diverged, InputError
    from hatjax.experiment.extend import extend
    from hatjax.experiment.fit import Result, fit
    from hatjax.forget import forget_task
    from hatjax.hat import (
        PER_TASK,
        accumulate,
        anneal,
        axes,
        binarise,
        gate,
        init_gates,
        no_past,
        optimizer,
        sparsity,
        used,
    )
    from hatjax.networks import register
    from hatjax.protection import probe

__version__ = "0.2.0"
__all__ = [
    "PER_TASK", "Diverged", "InputError", "Model", "Result", "Small", "TaskFree", "accumulate",
    "anneal", "axes", "binarise", "class_accuracy", "classes", "confusion", "cut", "evaluate",
    "extend", "fit", "forget_task", "gate", "infer_task", "init_gates", "load", "no_past",
    "optimizer", "overlap", "predict", "probe", "register", "sparsity", "task_masks", "used",
]  # fmt: skip

_PLACES = {  # name -> module.attribute
    "Diverged": "errors.Diverged",
    "InputError": "errors.InputError",
    "Model": "analysis.models.Model",
    "Result": "experiment.fit.Result",
    "Small": "analysis.single_task.Small",
    "class_accuracy": "analysis.confusion.class_accuracy",
    "classes": "analysis.models.classes",
    "confusion": "analysis.confusion.confusion",
    "cut": "analysis.single_task.cut",
    "evaluate": "analysis.models.evaluate",
    "extend": "experiment.extend.extend",
    "fit": "experiment.fit.fit",
    "forget_task": "forget.forget_task",
    "infer_task": "analysis.inference.infer_task",
    **{
        name: f"hat.{name}"
        for name in (
            "PER_TASK", "accumulate", "anneal", "axes", "binarise", "gate", "init_gates",
            "no_past", "optimizer", "sparsity", "used",
        )
    },
    "load": "analysis.models.load",
    "overlap": "analysis.masks.overlap",
    "TaskFree": "analysis.task_free.TaskFree",
    "predict": "analysis.task_free.predict",
    "probe": "protection.probe",
    "register": "networks.register",
    "task_masks": "analysis.masks.masks",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, to keep the commands' --help fast.
    if name not in _PLACES:
        raise AttributeError(f"module 'hatjax' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].rpartition(".")
    return getattr(importlib.import_module(f"hatjax.{module}".rstrip(".")), attribute)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
