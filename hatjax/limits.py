"""The memory of the machine, and what must not be begun since it would take more."""

import os
from pathlib import Path

from hatjax.errors import InputError


def memory() -> int:
    """Bytes of the host's memory, or of a container's share of it, free or not."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        share = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:  # not Linux, or no container
        return whole
    return min(whole, int(share)) if share.isdigit() else whole


def fits(size: int, what: str, remedy: str) -> None:
    """Raise InputError if `what` takes `size` bytes and the machine has less memory."""
    if size > (there := memory()):
        raise InputError(
            f"{what} takes {size / 1e9:,.1f} GB, and the machine has {there / 1e9:,.1f} GB: "
            f"{remedy}"
        )
