"""The bench's results as a page of Markdown."""

from __future__ import annotations

from statistics import median
from typing import Any

from row import FIGURES
from table import PEERS

Rows = dict[str, dict[str, Any]]


def render(rows: Rows) -> str:
    """`rows` as in latest.json. PICTURE stands for the plot's name."""
    out = [
        "# Bench",
        "",
        "Written by `make bench BENCH=--docs`. Figures hold for this machine and day; the ratios, taken in one run, are what",
        "counts. Stacks take turns, each ratio is taken within one round, and medians of rounds stand here. Every worker of a",
        "WSGI app does one request at a time. A run with one error, or one answer that is not the app's, does not count.",
        "",
        *machines(rows),
        "",
        "## What was promised",
        "",
        *promises(rows),
        "",
        "![Us and our peers, row by row](PICTURE)",
        "",
    ]
    for row in rows.values():
        out += [f"## {row['title']}", "", f"{row['how']} {settings_of(row)}", "", *figures(row), ""]
    used = {name for row in rows.values() for name in row["stacks"]}
    kinds = (kind for kind in PEERS if kind.name in used or f"haproxy + {kind.name}" in used)
    out += ["## Settings", "", *(f"* {kind.name}: {kind.settings}" for kind in kinds), ""]
    return "\n".join(out)


def machines(rows: Rows) -> list[str]:
    """Once for all rows, or, when they were measured at different commits or days, all values of a field."""
    fields: dict[str, dict[str, None]] = {}
    for row in rows.values():
        for name, value in row["machine"].items():
            fields.setdefault(name, {})[value] = None
    return [f"* {name}: {'; '.join(values)}" for name, values in fields.items()]


def settings_of(row: dict[str, Any]) -> str:
    small = f" Everything that is counted is divided by {row['shrink']}." if row["shrink"] > 1 else ""
    return f"Rounds: {row['rounds']}, runs of {row['seconds']} s.{small}"


def promises(rows: Rows) -> list[str]:
    out = ["| | reached | floor | goal |", "| --- | --- | --- | --- |"]
    for row in rows.values():
        for goal in row["goals"]:
            rivals = " and ".join(goal["against"])
            title, form = FIGURES[goal["figure"]]
            if goal["against"]:
                form = "{:.2f} ×"
                best = "the best of " if len(goal["against"]) > 1 else ""
                title = f"{title}, {goal['ours']} against {best}{rivals}"
            bounds = (bound(goal, kind, form) for kind in ("floor", "goal"))
            out.append(f"| {row['title']}: {title} | {form.format(goal['value'])} | {' | '.join(bounds)} |")
    return out


def bound(goal: dict[str, Any], kind: str, form: str) -> str:
    value = goal[kind]
    if value is None:
        return ""
    sign = "≤" if goal["most"] else "≥"
    return f"{sign} {form.format(value)} {'met' if goal[f'{kind}_met'] else '**missed**'}"


def figures(row: dict[str, Any]) -> list[str]:
    stacks = {name: stack for name, stack in row["stacks"].items() if stack["runs"]}
    without = [f"No figure for {reason}." for reason in row.get("without", {}).values()]
    if not stacks:
        return without or ["None of its stacks was asked for."]
    columns = [name for name in FIGURES if name in next(iter(stacks.values()))["runs"][0]]
    out = [
        "| stack | " + " | ".join(FIGURES[name][0] for name in columns) + " | runs not counted |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    for name, stack in stacks.items():
        cells = [FIGURES[key][1].format(median(run[key] for run in stack["runs"])) for key in columns]
        out.append(f"| {name} | {' | '.join(cells)} | {stack['discarded']} |")
    return [*out, *([""] if without else []), *without]
