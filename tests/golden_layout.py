"""Between torch's layout of the golden arrays and ours (see the README beside the arrays)."""

import numpy as np


def kernel_rows(meta: dict) -> np.ndarray:
    """For row k of our fc1 kernel (NHWC), its column in torch's fc1 weight (NCHW)."""
    c, h, w = meta["widths"].get("flatten", meta["input"])
    return np.arange(c * h * w).reshape(c, h, w).transpose(1, 2, 0).ravel()


def to_tree(arrays: dict[str, np.ndarray], meta: dict, rows: np.ndarray) -> dict:
    """Our parameters from torch's, heads padded with zeros to the most classes."""
    trunk: dict = {}
    gates = {}
    for name, value in arrays.items():
        module, kind = name.rsplit(".", 1)
        if module.startswith("last."):
            continue
        module = module.replace("conv", "c")  # the networks without gates say conv1, those with c1
        if module.startswith("e") and module[1:] in meta.get("gates", ()):
            gates[module[1:]] = value
        elif kind == "bias":
            trunk.setdefault(module, {})["bias"] = value
        elif value.ndim == 4:  # OIHW -> HWIO
            trunk.setdefault(module, {})["kernel"] = value.transpose(2, 3, 1, 0)
        else:
            kernel = value.T[rows] if module == "fc1" else value.T
            trunk.setdefault(module, {})["kernel"] = kernel
    return {"trunk": trunk, "gates": gates, "head": _heads(arrays, meta["classes"])}


def _heads(arrays: dict[str, np.ndarray], classes: list[int]) -> dict:
    d = arrays["last.0.weight"].shape[1]
    kernel = np.zeros((len(classes), d, max(classes)), np.float32)
    bias = np.zeros((len(classes), max(classes)), np.float32)
    for t, n in enumerate(classes):
        kernel[t, :, :n] = arrays[f"last.{t}.weight"].T
        bias[t, :n] = arrays[f"last.{t}.bias"]
    return {"kernel": kernel, "bias": bias}


def to_torch(params: dict, meta: dict, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse of to_tree, for the parts of the parameters that are given."""
    arrays = {}
    conv = "conv" if "conv1" in meta["widths"] else "c"
    for module, leaves in params.get("trunk", {}).items():
        module = conv + module[1:] if module[0] == "c" else module
        kernel = np.asarray(leaves["kernel"])
        if kernel.ndim == 4:
            arrays[f"{module}.weight"] = kernel.transpose(3, 2, 0, 1)
        else:
            arrays[f"{module}.weight"] = (kernel[np.argsort(rows)] if module == "fc1" else kernel).T
        arrays[f"{module}.bias"] = np.asarray(leaves["bias"])
    for layer, e in params.get("gates", {}).items():
        arrays[f"e{layer}.weight"] = np.asarray(e)
    if "head" in params:
        for t, n in enumerate(meta["classes"]):
            arrays[f"last.{t}.weight"] = np.asarray(params["head"]["kernel"][t, :, :n]).T
            arrays[f"last.{t}.bias"] = np.asarray(params["head"]["bias"][t, :n])
    return arrays
