"""Measurements as tables in Markdown."""

from collections.abc import Mapping
from typing import Any


def table(title: str, measured: Mapping[str, Any]) -> str:
    """The result of a measurement: its "rows" as a table, its "ratios" as lines below."""
    rows = measured["rows"]
    columns = list(dict.fromkeys(k for row in rows.values() for k in row))
    lines = [[title, *columns], ["---"] * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append([name, *(cell(row.get(k, "")) for k in columns)])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    for name, r in measured.get("ratios", {}).items():
        spread = f" ({r['least']:.3f} to {r['most']:.3f})" if "least" in r else ""
        text += f"\n{name}: {r['ratio']:.3f}{spread}"
    return text


def cell(value: Any) -> str:
    """A number, the median of a ratio over rounds, or a text that a table may hold."""
    if isinstance(value, Mapping):
        return f"{value['ratio']:.3f}"
    return str(value).replace("|", "/") if isinstance(value, str) else f"{value:,.4g}"
