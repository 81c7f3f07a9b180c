"""The memory of the machine, and the error for needing more."""

import os
from pathlib import Path

from hatjax.errors import InputError


def size() -> int:
    """The total memory of the machine or its container in bytes, whether free or not."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        share = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:  # not Linux, or not in a container
        return whole
    return min(whole, int(share)) if share.isdigit() else whole


def fits(needed: int, what: str, remedy: str) -> None:
    """Raise InputError if the machine has less than `needed` bytes of memory.

    The message says `what` needs them, and ends with the `remedy`.
    """
    if needed > (there := size()):
        raise InputError(
            f"{what} takes {needed / 1e9:,.1f} GB, and the machine has {there / 1e9:,.1f} GB: "
            f"{remedy}"
        )
