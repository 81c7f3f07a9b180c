"""Hard Attention to the Task and its baselines for continual learning, in functional JAX.

What Python programs use, each imported when it is first asked for:

    fit(sets, approach="hat", ...)     learn tasks given as arrays -> Result(accuracy, model)
    load(workdir)                      the model of a run
    predict(model, x, task)            logits "n classes"; tasks count from 0
    evaluate(model, x, y, task)        accuracy
    task_masks(model, task)            the gates of a task, {layer: "units"}
    overlap(model)                     the share of a task's weights that another uses, "T T"
    cut(model, task)                   the small network of a task (hatjax.export saves it)
    forget_task(model, task, key)      the model without a task
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatjax.arrays import Result, fit
    from hatjax.errors import Diverged, InputError
    from hatjax.forget import forget_task
    from hatjax.masks import masks as task_masks
    from hatjax.masks import overlap
    from hatjax.models import Model, evaluate, load, predict
    from hatjax.small import Small, cut

__version__ = "0.1.0"
__all__ = [
    "Diverged", "InputError", "Model", "Result", "Small", "cut", "evaluate", "fit", "forget_task",
    "load", "overlap", "predict", "task_masks",
]  # fmt: skip

_PLACES = {  # where they are
    "Diverged": "errors.Diverged",
    "InputError": "errors.InputError",
    "Model": "models.Model",
    "Result": "arrays.Result",
    "Small": "small.Small",
    "cut": "small.cut",
    "evaluate": "models.evaluate",
    "fit": "arrays.fit",
    "forget_task": "forget.forget_task",
    "load": "models.load",
    "overlap": "masks.overlap",
    "predict": "models.predict",
    "task_masks": "masks.masks",
}


def __getattr__(name: str) -> Any:
    # Importing JAX takes a second, and the commands' --help does without it.
    if name not in _PLACES:
        raise AttributeError(f"module 'hatjax' has no attribute {name!r}")
    module, attribute = _PLACES[name].split(".")
    return getattr(importlib.import_module(f"hatjax.{module}"), attribute)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
