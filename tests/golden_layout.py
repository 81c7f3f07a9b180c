"""Between torch's layout of the golden arrays and ours (see the README beside the arrays)."""

import re

import numpy as np

PATHS = ("c1", "c2", "c3", "fc1", "fc2")  # the layers of a path, in the files' order and in ours


def kernel_rows(meta: dict) -> np.ndarray:
    """For row k of our fc1 kernel (NHWC), its column in torch's fc1 weight (NCHW)."""
    c, h, w = meta["widths"].get("flatten", meta["input"])
    return np.arange(c * h * w).reshape(c, h, w).transpose(1, 2, 0).ravel()


def ours(value: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """A kernel of ours from torch's weight; `rows` if its input is a flattened image."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)  # OIHW -> HWIO
    return value.T if rows is None else value.T[rows]


def theirs(kernel: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The inverse of `ours`."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    return kernel.T if rows is None else kernel[np.argsort(rows)].T


def parts(name: str, meta: dict) -> tuple[str, str, int | None]:
    """"V2x1.0.weight" -> ("V_c2", "kernel", 1): our layer, kind and column or module of an array.

    What belongs to the heads' lateral connections has the layer "V_head".
    """
    module, *number, kind = name.split(".")
    number = int(number[0]) if number else None
    kind = "kernel" if kind == "weight" else kind
    if module.startswith("e") and module[1:] in meta.get("gates", ()):
        return module[1:], "gate", None
    if lateral := re.fullmatch("([VU])(f?)([123l])(x1|scale)?", module):
        which, dense, layer, what = lateral.groups()
        kind = "scale" if what == "scale" else kind
        layer = "head" if layer == "l" else ("fc" if dense else "c") + layer
        return ("V_head" if layer == "head" else f"{which}_{layer}"), kind, number + 1
    return module.replace("conv", "c"), kind, number


def to_tree(arrays: dict[str, np.ndarray], meta: dict, rows: np.ndarray) -> dict:
    """Our parameters from torch's, padded with zeros where ours are."""
    trunk: dict = {}
    gates = {}
    tasks = len(meta["classes"])
    for name, value in arrays.items():
        layer, kind, number = parts(name, meta)
        if layer in ("last", "V_head"):
            continue
        if kind == "gate":
            gates[layer] = value
            continue
        if layer.startswith("V_"):
            value = adapter(value, kind, tasks, layer, rows)
        elif kind == "kernel":
            value = ours(value, rows if layer == "fc1" else None)
        if number is None:
            trunk.setdefault(layer, {})[kind] = value
        else:
            count = meta["widths"].get("M", tasks)
            where = trunk.setdefault(layer, {})
            where.setdefault(kind, np.zeros((count, *value.shape), np.float32))[number] = value
    if "V_fc2" in trunk:
        c = meta["widths"]["fc2"]
        shapes = dict(scale=(tasks, tasks), kernel=(tasks, tasks, c, c), bias=(tasks, c))
        trunk["V_head"] = {kind: np.zeros(s, np.float32) for kind, s in shapes.items()}
    head = _heads(arrays, meta["classes"])
    return {"trunk": trunk, "norms": {}, "stats": {}, "gates": gates, "head": head}


def adapter(value: np.ndarray, kind: str, tasks: int, layer: str, rows: np.ndarray) -> np.ndarray:
    """Ours of column t, "T c c" or "T": row k reads column k < t, and rows from t on are unused."""
    if kind == "bias":
        return value
    if kind == "scale":
        return np.pad(value[0], (0, tasks - value.shape[1]))
    out = value.shape[0]
    value = value.reshape(out, -1, out)  # "c_out t c_in"; V keeps the width
    kernel = value.transpose(1, 2, 0)
    kernel = kernel[:, rows] if layer == "V_fc1" else kernel
    return np.pad(kernel, ((0, tasks - len(kernel)), (0, 0), (0, 0)))


def adapter_back(value: np.ndarray, kind: str, shape: tuple, t: int, layer, rows) -> np.ndarray:
    """The inverse of `adapter`, in torch's `shape`."""
    if kind == "bias":
        return value
    if kind == "scale":
        return value[None, :t]
    kernel = value[:t]
    kernel = kernel[:, np.argsort(rows)] if layer == "V_fc1" else kernel
    return kernel.transpose(2, 0, 1).reshape(shape)


def _heads(arrays: dict[str, np.ndarray], classes: list[int]) -> dict:
    d = arrays["last.0.weight"].shape[1]
    kernel = np.zeros((len(classes), d, max(classes)), np.float32)
    bias = np.zeros((len(classes), max(classes)), np.float32)
    for t, n in enumerate(classes):
        kernel[t, :, :n] = arrays[f"last.{t}.weight"].T
        bias[t, :n] = arrays[f"last.{t}.bias"]
    return {"kernel": kernel, "bias": bias}


def to_torch(params: dict, shapes: dict[str, tuple], meta: dict, rows: np.ndarray) -> dict:
    """The inverse of to_tree, of the arrays `shapes` that belong to the given parts of ours."""
    arrays = {}
    for name, shape in shapes.items():
        layer, kind, number = parts(name, meta)
        if layer == "V_head":
            continue
        if layer == "last":
            if "head" in params:
                n = meta["classes"][number]
                value = np.asarray(params["head"][kind][number])[..., :n]
                arrays[name] = value.T
        elif kind == "gate":
            if "gates" in params:
                arrays[name] = np.asarray(params["gates"][layer])
        elif layer in params.get("trunk", {}):
            value = np.asarray(params["trunk"][layer][kind])
            value = value if number is None else value[number]
            if layer.startswith("V_"):
                value = adapter_back(value, kind, shape, number, layer, rows)
            elif kind == "kernel":
                value = theirs(value, rows if layer == "fc1" else None)
            arrays[name] = value
    return arrays
