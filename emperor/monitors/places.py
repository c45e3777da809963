"""Where vassals are: directories and patterns, in the order in which they were named; what their files are called.

A place is a directory, each of whose vassal files is one, or a pattern of files such as ``/srv/*/app.ini`` (a single
file is a pattern without wildcards). A vassal's name is the part of its path that tells it from its neighbours: the
file's stem in a directory and where the pattern's last part has a wildcard, else what the last wildcard stood for:
``/srv/blog/app.ini`` is *blog*.

A file is known by its key: its bare name where one directory is all there is, else its absolute path. Of two files with
one name the first by place, then by path, is the vassal.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from emperor.config.listing import UNREAD, is_vassal_file, vassal_name

_MAGIC = re.compile(r"[*?\[]")


class PlaceError(ValueError):
    """A path that cannot hold vassals; the text says which, why and what to do."""


@dataclass(frozen=True)
class Place:
    """A directory or a pattern of files, by its absolute path as it was named: a link in it is followed anew at each
    look."""

    path: str
    is_pattern: bool = False

    def holds(self, path: str) -> bool:
        """Whether `path` would be one of this place's files, were it there."""
        if not self.is_pattern:
            return os.path.dirname(path) == self.path and is_vassal_file(os.path.basename(path))
        parts, wanted = path.split("/"), self.path.split("/")
        return len(parts) == len(wanted) and all(map(_fits, parts, wanted))

    def name(self, path: str) -> str:
        """What the vassal in `path`, a file of this place, is called. Raises ValueError if it cannot be a name."""
        parts, wanted = path.split("/"), self.path.split("/")
        if self.is_pattern:
            wild = [index for index, part in enumerate(wanted) if _MAGIC.search(part)]
            if wild and wild[-1] < len(parts) - 1:
                # A directory's whole name: a suffix is made up to be taken away again.
                return vassal_name(parts[wild[-1]] + ".ini")
        return vassal_name(parts[-1])


@dataclass
class Found:
    """What one place holds now: `files` by path, the `directories` in which a change would matter, and why it cannot
    be looked at."""

    files: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    trouble: str = ""


class Places:
    """All places of one emperor."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(dict.fromkeys(places))
        if not self.places:
            raise PlaceError("there is nothing to serve: name a directory of vassals")

    @classmethod
    def named(cls, paths: Iterable[str]) -> Places:
        """From absolute paths, told apart by what is there. Raises PlaceError."""
        places = []
        for path in map(os.path.normpath, paths):
            if os.path.isdir(path):
                places.append(Place(path))
            elif _MAGIC.search(path) or os.path.lexists(path):
                places.append(Place(path, is_pattern=True))
            else:
                raise PlaceError(
                    f"there is no {path}: name a directory of vassals, a vassal's file, or a pattern"
                )
        single: dict[str, str] = {}
        for place in places:
            if place.is_pattern and not _MAGIC.search(place.path):
                other = single.setdefault(os.path.basename(place.path), place.path)
                if other != place.path:
                    raise PlaceError(
                        f"{other} and {place.path} are one name: name them by one pattern, in quotes, so that the shell "
                        "leaves it alone"
                    )
        return cls(places)

    @property
    def alone(self) -> str | None:
        """The path of the one directory that is all there is."""
        first = self.places[0]
        return first.path if len(self.places) == 1 and not first.is_pattern else None

    def key(self, path: str) -> str:
        return path.removeprefix(os.path.join(self.alone, "")) if self.alone is not None else path

    def path(self, key: str) -> str:
        return os.path.join(self.alone, key) if self.alone is not None else key

    def place(self, key: str) -> Place | None:
        """The first place that holds this file."""
        path = self.path(key)
        return next((place for place in self.places if place.holds(path)), None)

    def rank(self, key: str) -> tuple[int, str]:
        """The order in which files get what two of them want."""
        place = self.place(key)
        return (len(self.places) if place is None else self.places.index(place), key)

    def name(self, key: str) -> str:
        """Raises ValueError for a file that cannot be named."""
        place = self.place(key)
        return vassal_name(os.path.basename(key)) if place is None else place.name(self.path(key))

    def directory(self, key: str) -> str:
        """The directory of the vassals, as this file is to know it (``%v``)."""
        place = self.place(key)
        if place is None or place.is_pattern:
            return os.path.dirname(self.path(key))
        return place.path

    def unread(self) -> list[str]:
        """What to say of files that would be vassals of uWSGI's and are passed over here, for each directory."""
        said = []
        for place in self.places:
            names: list[str] = []
            if not place.is_pattern:
                with contextlib.suppress(OSError):
                    names = sorted(name for name in os.listdir(place.path) if name.endswith(UNREAD))
            names = [name for name in names if not name.startswith(".")]
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                said.append(
                    f"{os.path.join(place.path, names[0])}{more}: passed over, since XML is not read (write it as .ini, "
                    ".toml, .yaml or .json)"
                )
        return said

    def __str__(self) -> str:
        return ", ".join(place.path for place in self.places)


def look(place: Place) -> Found:
    """What is there now. A directory that cannot be listed is a trouble; below a wildcard it is one that has nothing."""
    found = Found()
    if not place.is_pattern:
        found.directories.append(place.path)
        try:
            names = os.listdir(place.path)
        except OSError as error:
            found.trouble = f"{place.path}: cannot be listed ({error.strerror})"
            return found
        found.files = [os.path.join(place.path, name) for name in names if is_vassal_file(name)]
        return found
    *above, last = place.path.split("/")[1:]
    level = ["/"]
    wild = False
    for part in above:
        if not _MAGIC.search(part):
            if wild:
                found.directories += level
            level = [os.path.join(directory, part) for directory in level]
            continue
        below = []
        for directory in level:
            found.directories.append(directory)
            try:
                names = sorted(os.listdir(directory))
            except OSError as error:
                if not wild:
                    found.trouble = f"{place.path}: {directory} cannot be listed ({error.strerror})"
                continue
            below += [os.path.join(directory, name) for name in names if _fits(name, part)]
        level = [path for path in below if _is_directory(path)]
        wild = True
    for directory in level:
        found.directories.append(directory)
        if not wild and not _is_directory(directory):
            found.trouble = f"{place.path}: there is no directory {directory}"
        if not _MAGIC.search(last):
            found.files.append(os.path.join(directory, last))
            continue
        try:
            names = os.listdir(directory)
        except OSError as error:
            if not wild:
                found.trouble = f"{place.path}: {directory} cannot be listed ({error.strerror})"
            continue
        found.files += [
            os.path.join(directory, name) for name in names if _fits(name, last) and is_vassal_file(name)
        ]
    found.files = [path for path in found.files if os.path.lexists(path)]
    found.directories = list(dict.fromkeys(found.directories))
    return found


def _fits(name: str, part: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return fnmatch.fnmatchcase(name, part) if _MAGIC.search(part) else name == part


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False
