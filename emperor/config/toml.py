"""The keys of a TOML file, with the lines they stand on.

tomllib says what a file holds but not where. `locate` finds the lines by walking the text a second time;
since tomllib has accepted the text by then, it can be simple: it knows strings, comments and brackets, and
takes every key that starts a statement. Options stand at the top, or in one table ``[vassal]`` or
``[uwsgi]``. Values are literal: placeholders belong to INI.
"""

import re
import tomllib
from collections.abc import Container

from emperor.config.entries import SECTIONS, Reading
from emperor.config.options import NAMES
from emperor.config.problems import Problem
from emperor.config.tables import Keys, entries_of

_KEY = re.compile(
    r"""[ \t]*(?:(?P<bare>[A-Za-z0-9_-]+)|"(?P<basic>(?:[^"\\\n]|\\.)*)"|'(?P<literal>[^'\n]*)')"""
    r"""[ \t]*(?P<dot>\.)?"""
)
_STRING = re.compile(
    r"""\"{3}(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""",
    re.DOTALL,
)
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read(
    text: str, path: str, sections: tuple[str, ...] = SECTIONS, names: Container[str] = NAMES
) -> Reading:
    """All entries of the file: at the top, or in one table of `sections`; a table at the top is a value where
    `names` has its key. A syntax error leaves no entries: nothing else in the file can be trusted."""
    reading = Reading()
    try:
        document = tomllib.loads(text)
    except RecursionError:
        reading.problems.append(Problem(path, None, None, "is nested too deep"))
        return reading
    except ValueError as error:
        reading.problems.append(_syntax_problem(error, text, path))
        return reading
    return entries_of(document, locate(text), path, header="[{}]", sections=sections, names=names)


def locate(text: str) -> dict[Keys, int]:
    """The first line of every key path that starts a statement, and of every table header, in a valid
    TOML text.
    """
    lines: dict[Keys, int] = {}
    table: Keys = ()
    position, line, depth = 0, 1, 0
    starts_statement = True
    while position < len(text):
        character = text[position]
        end = position + 1
        if character == "\n":
            starts_statement = depth == 0
        elif character == "#":
            end = _line_end(text, position)
        elif starts_statement and character not in " \t\r":
            starts_statement = False
            header = re.compile(r"\[\[?").match(text, position)
            keys, end = _keys(text, header.end() if header else position)
            if header:
                table = keys
                end = _line_end(text, end)
            full = table if header else table + keys
            for length in range(1, len(full) + 1):
                lines.setdefault(full[:length], line)
        elif character in "\"'":
            string = _STRING.match(text, position)
            end = string.end() if string else end
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        line += text.count("\n", position, end)
        position = end
    return lines


def _keys(text: str, position: int) -> tuple[Keys, int]:
    """The dotted key that begins at `position`, and where it ends."""
    keys: list[str] = []
    while match := _KEY.match(text, position):
        position = match.end()
        if match["basic"] is not None:
            keys.append(tomllib.loads(f'key = "{match["basic"]}"')["key"])
        else:
            keys.append(match["bare"] if match["bare"] is not None else match["literal"])
        if not match["dot"]:
            break
    return tuple(keys), position


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _syntax_problem(error: ValueError, text: str, path: str) -> Problem:
    message = str(error)
    where = _WHERE.search(message)
    line = None
    if where:
        message = message[: where.start()]
        line = int(where[1]) if where[1] else len(text.rstrip().split("\n"))
        if where[2]:
            message += f" at column {where[2]}"
    return Problem(path, line, None, f"is not TOML: {message[:1].lower()}{message[1:]}")
