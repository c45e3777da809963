"""The lines of an INI file, by uWSGI's rules (core/ini.c): not configparser's, which has continuation lines
and inline comments.

One ``key = value`` a line, split at the first ``=``, both sides stripped; a key alone is legal; a comment is
a line whose first character is ``;`` or ``#``; no quoting, no escapes, no continuation. Where uWSGI passes
over what it does not understand, we say so: a malformed header, a key before the first section, a section
that is not there.
"""

from emperor.config.entries import SECTIONS, Entry, Reading
from emperor.config.problems import Problem


def split(line: str) -> tuple[str, str | None] | None:
    """Key and value of one line; value None for a key alone; None for an empty line or a comment."""
    stripped = line.strip()
    if not stripped or stripped[0] in ";#":
        return None
    key, equals, value = stripped.partition("=")
    return key.strip(), value.strip() if equals else None


def read(text: str, path: str, sections: tuple[str, ...] = SECTIONS) -> Reading:
    """All entries of `sections`, ``[uwsgi]`` and ``[vassal]`` in a vassal's file (one of them may be there,
    any number of times).
    """
    named = " or ".join(f"[{name}]" for name in reversed(sections))
    reading = Reading()
    section: str | None = None
    first_lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        pair = split(line)
        if pair is None:
            continue
        stripped = line.strip()
        if stripped.startswith("["):
            if not stripped.endswith("]"):
                reading.problems.append(
                    Problem(path, number, None, f"{stripped!r} is no section header", f"write {named}")
                )
                continue
            section = stripped[1:-1].strip()
            if section not in first_lines and section not in sections:
                unread = Problem(path, number, None, f"section [{section}] is not read", f"only {named} is")
                reading.unread[section] = unread
                reading.warnings.append(unread)
            first_lines.setdefault(section, number)
        elif section is None:
            key = pair[0] or None
            reading.problems.append(
                Problem(path, number, key, "stands before the first section", f"put {named} above it")
            )
        elif section in sections:
            key, value = pair
            if key:
                reading.entries.append(Entry(key, value, number, path))
            else:
                reading.problems.append(Problem(path, number, None, "a value without a key"))
    found = [name for name in sections if name in first_lines]
    if not found:
        reading.problems.append(Problem(path, None, None, f"has no section {named}"))
    if len(found) > 1:
        last = max(found, key=lambda name: first_lines[name])
        reading.problems.append(
            Problem(
                path,
                first_lines[last],
                None,
                f"has both {named.replace(' or ', ' and ')}",
                "put everything into one of them",
            )
        )
    return reading
