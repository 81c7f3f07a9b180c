"""How much memory the machine has, and the error for what would need more."""

import os
from pathlib import Path

from hatjax.errors import InputError


def size() -> int:
    """Bytes of memory of the machine, or of its container: all of it, not what is free now."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        share = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:  # not Linux, or no container
        return whole
    return min(whole, int(share)) if share.isdigit() else whole


def fits(needed: int, what: str, remedy: str) -> None:
    """Raise InputError if the machine has fewer than the `needed` bytes of memory.

    The message begins with `what` needs them, and ends with the `remedy`.
    """
    if needed > (there := size()):
        raise InputError(
            f"{what} takes {needed / 1e9:,.1f} GB, and the machine has {there / 1e9:,.1f} GB: "
            f"{remedy}"
        )
