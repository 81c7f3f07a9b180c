"""Which gates lie on the axes of a network's parameters, and what follows from that (HAT, eq. 2).

Nothing here knows layers. A network is a pytree of arrays, and `axes` says of each of its
parameters which gate lies on which axis. How far a parameter may still move, the share of the
weights that is used and what tasks share are computed from that alone, for any network of any
library.

    rules       which gate lies on which axis
    checks      whether parameters, gates, their past and the task fit together
    moving      how far a parameter may move, and an optimizer that moves it no farther
    use         how much of a network tasks use, and what they share
    probing     whether a network can be protected at all

The only imports are jax, numpy and optax. Letters as in the paper: a gates of units, 0..1; past the
cumulative gates a^{<=t}, {gate: "units"}.
"""

from hatjax.protection.checks import check, check_parts, check_past, check_task, whole
from hatjax.protection.moving import across, free, global_norm, on_axis, protect, row, shares
from hatjax.protection.probing import probe
from hatjax.protection.rules import PER_TASK, Axes, Axis, axes, gate_on, path
from hatjax.protection.use import held, overlap, used

__all__ = [
    "PER_TASK", "Axes", "Axis", "across", "axes", "check", "check_parts", "check_past",
    "check_task", "free", "gate_on", "global_norm", "held", "on_axis", "overlap", "path", "probe",
    "protect", "row", "shares", "used", "whole",
]  # fmt: skip
