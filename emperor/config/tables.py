"""What TOML, YAML and JSON share: options are the keys of one table, at the top or below `vassal` or `uwsgi`."""

from collections.abc import Container
from typing import Any

from emperor.config.entries import SECTIONS, Entry, Reading
from emperor.config.options import NAMES
from emperor.config.problems import Problem

Keys = tuple[str, ...]


def entries_of(
    document: dict[str, Any],
    lines: dict[Keys, int],
    path: str,
    *,
    header: str,
    sections: tuple[str, ...] = SECTIONS,
    names: Container[str] = NAMES,
) -> Reading:
    """The entries of `document`, in the order of their lines: at the top, or in one table of `sections`. A
    table at the top is a value where `names` has its key. `header` is how the format writes the head of a
    table, ``[{}]`` in TOML.
    """
    reading = Reading()
    named = " or ".join(header.format(name) for name in reversed(sections))
    for name in sections:
        if name in document and not isinstance(document[name], dict):
            line, hint = line_of(lines, (name,)), f"write {header.format(name)}, once"
            reading.problems.append(Problem(path, line, name, "is not one table", hint))
            del document[name]
    found = [name for name in sections if isinstance(document.get(name), dict)]
    if len(found) > 1:
        last = max(lines.get((name,), 1) for name in found)
        reason = f"has both {named.replace(' or ', ' and ')}"
        reading.problems.append(Problem(path, last, None, reason, "put everything into one of them"))
    if not found:
        reading.entries = _entries(document, (), lines, path)
        return reading
    for section in found:
        reading.entries += _entries(document[section], (section,), lines, path)
    for key, value in document.items():
        if key in found:
            continue
        line = line_of(lines, (key,))
        if isinstance(value, dict) and key not in names:
            reason = f"table {header.format(key)} is not read"
            reading.warnings.append(Problem(path, line, None, reason, f"only {named} is"))
        else:
            inside = header.format(found[0])
            reading.problems.append(
                Problem(path, line, key, f"stands outside of {inside}", f"put it below {inside}")
            )
    reading.entries.sort(key=lambda entry: entry.line)
    return reading


def line_of(lines: dict[Keys, int], keys: Keys) -> int:
    """The line of `keys`, or, for what stands in an inline table, of the nearest table around it."""
    return next((lines[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in lines), 1)


def _entries(table: dict[str, Any], prefix: Keys, lines: dict[Keys, int], path: str) -> list[Entry]:
    return [Entry(key, value, line_of(lines, (*prefix, key)), path) for key, value in table.items()]
