"""The one place where torchvision, and with it torch, is imported: to read raw image sets."""

import types


def datasets() -> types.ModuleType:
    """torchvision.datasets.

    On Linux, the registry's torchvision is built for CUDA. Beside a CPU-only torch its C++
    operators do not load, and importing it fails on the first operator it looks for, although no
    data set needs one. Where they are missing, their names are declared first, without a body.
    """
    try:
        import torchvision.datasets
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)  # a Library that is collected takes its declarations with it
        import torchvision.datasets
    return torchvision.datasets


_DECLARED: list = []
