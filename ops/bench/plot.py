"""The bench's results as a picture: bars in SVG, one group per row.

Written by hand and not by a library: a bar is a rectangle and a text, and the best-kept library for it, matplotlib, brings ten
packages and 100 MB into a virtual environment whose interpreter is what is being measured. SVG is text: a difference of two
runs can be read.
"""

from __future__ import annotations

from html import escape
from statistics import median
from typing import Any

from row import FIGURES
from stacks import Emperor

WIDTH = 900
LEFT = 190
RIGHT = 130
BAR = 15
GAP = 22
OURS = "#1f6f50"
THEIRS = "#b9c3cc"


def draw(rows: dict[str, dict[str, Any]]) -> str:
    """`rows` as in latest.json. A row's bars show the figure of its first goal, the longest as wide as the page."""
    y = 10
    parts: list[str] = []
    for row in rows.values():
        if not row["goals"]:
            continue
        figure = row["goals"][0]["figure"]
        values = {
            name: median(run[figure] for run in stack["runs"])
            for name, stack in row["stacks"].items()
            if stack["runs"]
        }
        better = "less is better" if row["goals"][0]["most"] else "more is better"
        title, form = FIGURES[figure]
        parts.append(text(10, y + 12, f"{row['title']}: {title} ({better})", "font-weight='bold'"))
        y += 20
        longest = max(values.values()) or 1.0
        for name, value in values.items():
            width = max((WIDTH - LEFT - RIGHT) * value / longest, 1)
            colour = OURS if name == Emperor.name else THEIRS
            parts.append(f"<rect x='{LEFT}' y='{y}' width='{width:.1f}' height='{BAR - 3}' fill='{colour}'/>")
            parts.append(text(LEFT - 8, y + 10, name, "text-anchor='end'"))
            parts.append(text(LEFT + width + 6, y + 10, form.format(value)))
            y += BAR
        y += GAP
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {y}' font-family='sans-serif' font-size='11'>\n"
        f"<rect width='{WIDTH}' height='{y}' fill='white'/>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, style: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y}' {style}>{escape(words)}</text>"
