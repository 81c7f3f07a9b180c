"""torchvision (and with it torch), imported only here, to download and read image sets.

torchvision downloads a file with a progress bar on stderr, and verifies its checksum.
"""

import contextlib
import io
import socket
import types
from collections.abc import Iterator

from hatjax.errors import InputError

TIMEOUT = 30.0  # seconds without data until a connection fails
CORRUPTED = "File not found or corrupted."  # torchvision's message for a wrong checksum


@contextlib.contextmanager
def downloading() -> Iterator[types.ModuleType]:
    """A context in which torchvision.datasets may download.

    Drops its output to stdout, and sets TIMEOUT, since torchvision has none. Raises ConnectionError
    for a file with a wrong checksum.
    """
    before, printed = socket.getdefaulttimeout(), io.StringIO()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(printed):
            yield datasets()
    except RuntimeError as error:
        said = "wrong checksum: what the server sends is not the published file"
        message = str(error).replace(CORRUPTED, said)
        if message.startswith("Error downloading") and "\n" not in message:
            message += f": {printed.getvalue()}"  # old releases print the reasons
        if message == str(error):
            raise
        raise ConnectionError(message) from error
    finally:
        socket.setdefaulttimeout(before)


def datasets() -> types.ModuleType:
    """Import torchvision.datasets.

    Its default Linux build is for CUDA. With a CPU-only torch its C++ operators do not load, and
    the import fails on the first missing one, although no data set needs any. In that case this
    declares the operators without implementations, and imports again. InputError where it is not
    installed: all but downloading and reading raw files works without it.
    """
    try:
        import torchvision.datasets
    except ImportError as error:
        raise InputError(
            f"torchvision, which downloads and reads raw image sets, cannot be imported ({error}): "
            "python -m pip install torchvision, or put the set into the data root as NAME.npz"
        ) from error
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)  # garbage collection would undo the declarations
        import torchvision.datasets
    return torchvision.datasets


_DECLARED: list = []
