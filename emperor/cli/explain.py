"""What each line of a vassal's files came to mean: for people, and as JSON."""

from __future__ import annotations

import os
from typing import Any

from emperor.config.entries import Line
from emperor.config.loading import Examination
from emperor.config.options import NAMES, OPTIONS
from emperor.config.values import shown, shown_typed

_WIDTH = 44
_KINDS = {
    "sets": "sets",
    "adds": "adds",
    "placeholder": "holds",
    "reads": "reads",
    "logic": "block",
    "skipped": "skipped",
    "overridden": "overridden",
    "note": "note",
    "warning": "WARNING",
    "error": "ERROR",
}


def explained(found: Examination) -> str:
    """The lines in the order in which they were read, then every option with where its value comes from."""
    parts = [f"{found.path}: {'right' if found.config else 'REFUSED'}"]
    file = found.path
    for line in found.lines:
        if line.path != file:
            file = line.path
            parts += ["", f"{file}:"]
        parts += _line(line)
    said = {outcome.text for line in found.lines for outcome in line.outcomes}
    for kind, problems in (("ERROR", found.problems), ("WARNING", found.warnings)):
        # What belongs to no line.
        parts += [f"       {kind}: {problem}" for problem in problems if not _is_told(problem, said)]
    if found.config is not None:
        parts += ["", f"options of {found.config.name}:"]
        width = max(len(option.name) for option in OPTIONS)
        for option in OPTIONS:
            value = shown_typed(found.config.options[option.name])
            if found.config.options[option.name] is None:
                value = "–"
            parts.append(f"  {option.name:{width}}  {value:30}  {_origin(found, option.name)}")
        read = [os.path.relpath(each.path, os.path.dirname(found.path)) for each in found.sources[1:]]
        if read:
            parts += ["", f"a change of these counts, too: {', '.join(read)}"]
    return "\n".join(parts)


def document(found: Examination) -> dict[str, Any]:
    """The same, ready for `json.dumps`."""
    options = {}
    if found.config is not None:
        for option in OPTIONS:
            line = found.origins.get(option.name)
            value = found.config.options[option.name]
            options[option.name] = {
                "value": value,
                "origin": None
                if line is None
                else {"path": line.path, "line": line.line or None, "key": line.key},
            }
    return {
        "path": found.path,
        "vassal": None if found.config is None else found.config.name,
        "right": found.config is not None,
        **{
            name: [
                {
                    "path": problem.path,
                    "line": problem.line,
                    "key": problem.key,
                    "reason": problem.reason,
                    "hint": problem.hint,
                }
                for problem in problems
            ]
            for name, problems in (
                ("errors", found.problems),
                ("warnings", found.warnings),
                ("notes", found.notes),
            )
        },
        "sources": [each.path for each in found.sources],
        "lines": [
            {
                "path": line.path,
                "line": line.line or None,
                "key": line.key,
                "written": line.written if _is_plain(line.written) else str(line.written),
                "outcomes": [{"kind": each.kind, "text": each.text} for each in line.outcomes],
            }
            for line in found.lines
        ],
        "options": options,
    }


def _line(line: Line) -> list[str]:
    written = line.key if line.written is None else f"{line.key} = {_plain(line.written)}"
    if len(written) > _WIDTH:
        written = written[: _WIDTH - 1] + "…"
    number = f"{line.line:5}" if line.line else "     "
    outcomes = [f"{_KINDS[each.kind]:10} {each.text}" for each in line.outcomes] or ["nothing"]
    if line.key in NAMES and NAMES[line.key].name != line.key:
        outcomes[0] += f"  ({line.key} is {NAMES[line.key].name})"
    first, *rest = outcomes
    return [f"{number}  {written:{_WIDTH}}  {first}", *(" " * (9 + _WIDTH) + each for each in rest)]


def _origin(found: Examination, name: str) -> str:
    line = found.origins.get(name)
    if line is None:
        return "default"
    if not line.line:
        return line.path
    return f"line {line.line}" if line.path == found.path else f"{line.path}:{line.line}"


def _is_told(problem: Any, said: set[str]) -> bool:
    return (problem.reason if problem.hint is None else f"{problem.reason} ({problem.hint})") in said


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, (str, int, float, bool))
