"""Which files are vassals, what they are called, and which requests are theirs by name. Pure: file names in,
records out.

A vassal's name is its file's name without the suffix. It stands in paths, process titles, log lines and host
names, hence the narrow rule for its characters; it is what identifies the vassal, hence one file per name.
"""

import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from emperor.config.problems import Problem
from emperor.config.values import reads_as_domain

SUFFIXES = (".ini", ".toml", ".yaml", ".yml", ".json", ".js")

UNREAD = ".xml"
"""What a vassal's file of uWSGI's may be and is not read here: not to be passed over without a word."""

# What editors and copying programs leave beside a file while they write it (vim, emacs, nano, rsync, wget,
# curl, kate). Those with a suffix of their own are here for the reader: no name that ends otherwise than in
# SUFFIXES is a vassal.
TEMPORARY = (".*", "*~", "#*#", "*.swp", "*.swo", "*.tmp", "*.bak", "*.part", "*.orig", "*.rej")
# One pattern: a directory of a thousand files is listed every few seconds.
_TEMPORARY = re.compile("|".join(map(fnmatch.translate, TEMPORARY)))

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Listing:
    """What a directory holds: `vassals` maps a name to its file's name, in the order of file names;
    `refused` says why not.
    """

    vassals: dict[str, str]
    refused: tuple[Problem, ...]


def is_vassal_file(file_name: str) -> bool:
    """Whether a file of this name is meant to be a vassal: a known suffix, and neither hidden nor
    temporary.
    """
    if _TEMPORARY.match(file_name):
        return False
    return os.path.splitext(file_name)[1] in SUFFIXES


def vassal_name(file_name: str) -> str:
    """The name of the vassal in a file for which `is_vassal_file` holds. Raises ValueError with the
    reason if it cannot be one.
    """
    stem = os.path.splitext(file_name)[0]
    if not _NAME.fullmatch(stem):
        if len(stem) > 64:
            raise ValueError(f"the name has {len(stem)} characters: at most 64 before the suffix")
        raise ValueError(f"{stem!r} cannot be the name of a vassal: letters, digits, '.', '_' and '-' only")
    return stem


def list_vassals(file_names: Iterable[str], directory: str) -> Listing:
    """Sorts out the names in a directory. Of two files with one stem the first by name is the vassal, the
    other is refused.
    """
    vassals: dict[str, str] = {}
    refused: list[Problem] = []
    for file_name in sorted(filter(is_vassal_file, file_names)):
        path = os.path.join(directory, file_name)
        try:
            name = vassal_name(file_name)
        except ValueError as error:
            refused.append(Problem(path, None, None, str(error), "rename the file"))
            continue
        if name in vassals:
            first = os.path.join(directory, vassals[name])
            refused.append(
                Problem(path, None, None, f"{first} is the vassal {name!r} already", "rename or remove one")
            )
        else:
            vassals[name] = file_name
    return Listing(vassals, tuple(refused))


def route_names(name: str, domains: Iterable[str]) -> tuple[str, ...]:
    """Every host, `*.host` and `host/path` that the vassal `name` answers: its `domains`, else its name
    if that reads as a domain, and always ``NAME.localhost``; each once, in lower case, in this order.
    """
    routes = list(domains)
    if not routes and reads_as_domain(name):
        routes.append(name.lower())
    routes.append(f"{name.lower()}.localhost")
    return tuple(dict.fromkeys(routes))
