"""The keys of a JSON file, with the lines they stand on.

json says what a file holds but not where, and passes over keys that are there twice. `locate` walks the text a
second time, as for TOML: json has accepted it by then, so it is strings, brackets and commas.
"""

import json
import re
from typing import Any

from emperor.config.entries import Reading
from emperor.config.problems import Problem
from emperor.config.tables import Keys, entries_of

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]', re.DOTALL)


def read(text: str, path: str) -> Reading:
    """All entries of the file. A syntax error or a key that is there twice leaves no entries."""
    reading = Reading()
    try:
        document = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        reading.problems.append(Problem(path, None, None, "is nested too deep"))
        return reading
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]} at column {error.colno}"
        reading.problems.append(Problem(path, error.lineno, None, reason))
        return reading
    except ValueError as error:
        reading.problems.append(Problem(path, None, None, f"is not JSON: {error}"))
        return reading
    if not isinstance(document, dict):
        reading.problems.append(
            Problem(path, 1, None, "is no object", 'write {"vassal": {"module": "pkg.mod:app"}}')
        )
        return reading
    lines, twice = locate(text)
    for keys, line in twice:
        reading.problems.append(
            Problem(path, line, keys[-1], f"is there already, in line {lines[keys]}", "give a list of values")
        )
    if twice:
        return reading
    return entries_of(document, lines, path, header='"{}"')


def locate(text: str) -> tuple[dict[Keys, int], list[tuple[Keys, int]]]:
    """The line of every key path of objects in a valid JSON text, and the paths that come again, with the
    line of each. Objects in lists are passed over.
    """
    lines: dict[Keys, int] = {}
    twice: list[tuple[Keys, int]] = []
    line = 1
    keys: list[str | None] = []  # one for each open bracket: the key it is at; None in a list
    string = ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token in "{[":
            keys.append("" if token == "{" else None)
        elif token in "}]":
            keys.pop()
        elif token[0] == '"':
            string = token
        elif token == ":" and keys and keys[-1] is not None:
            keys[-1] = json.loads(string)
            if None not in keys:
                full = tuple(key for key in keys if key is not None)
                if full in lines:
                    twice.append((full, line))
                else:
                    lines[full] = line
    return lines, twice


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
