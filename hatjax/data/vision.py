"""The one place where torchvision, and with it torch, is imported: to download and read image sets.

torchvision downloads a file, shows a progress bar on stderr and compares the file's checksum.
"""

import contextlib
import io
import socket
import types
from collections.abc import Iterator

TIMEOUT = 30.0  # seconds that a connection may stand still
CORRUPTED = "File not found or corrupted."  # what torchvision says of a wrong checksum


@contextlib.contextmanager
def downloading() -> Iterator[types.ModuleType]:
    """torchvision.datasets, which may download inside of the context.

    Whatever it prints on stdout is dropped, and a connection that stands still for TIMEOUT fails:
    torchvision itself sets no limit. Raises ConnectionError for a file with a wrong checksum.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield datasets()
    except RuntimeError as error:
        if CORRUPTED not in str(error):
            raise
        said = "wrong checksum: what the server sends is not the published file"
        raise ConnectionError(str(error).replace(CORRUPTED, said)) from error
    finally:
        socket.setdefaulttimeout(before)


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
