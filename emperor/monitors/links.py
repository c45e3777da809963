"""Symbolic links on the way to a file: any of them may be set anew, and then the file is another one."""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple

_MOST_LINKS = 40  # as the kernel


class Trail(NamedTuple):
    """How a path is resolved: every link that was followed (by its own path, resolved up to it), and where it ends. The
    end need not exist."""

    links: tuple[str, ...]
    end: str


def trail(path: str) -> Trail:
    """The way from an absolute path to its file. Of a loop, a part of it."""
    links: list[str] = []
    rest = deque(part for part in path.split("/") if part)
    here = "/"
    while rest:
        part = rest.popleft()
        if part == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, part)
        try:
            target = os.readlink(there)
        except OSError:  # no link, or nothing at all
            here = there
            continue
        links.append(there)
        if len(links) == _MOST_LINKS:
            return Trail(tuple(links), there)
        if target.startswith("/"):
            here = "/"
        rest.extendleft(part for part in reversed(target.split("/")) if part not in ("", "."))
    return Trail(tuple(links), here)
