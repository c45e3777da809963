"""What an emperor leaves for the program that it executes in its place: one JSON document, and descriptors.

An exec keeps the process: its pid, its children, its locks, and the descriptors that are let through. Everything else has to
be written down, and is, in a memfd that is let through itself; the environment names it. What the new program does not ask
for is closed, so that an upgrade leaks nothing, also when the new version has no use for something.

The document is read by another version of this program than wrote it: keys may be missing and unknown ones are passed over.
`FORMAT` is what changes when that is not enough; a version that does not know it says so in its trial, and is not executed.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import MutableMapping
from typing import Any

from emperor.supervisor import process

FORMAT = 1

VARIABLE = "_EMPEROR_HANDOVER"
"""In the environment of the program that takes over: the number of the memfd."""

TRIAL = "_EMPEROR_TRIAL"
"""In the environment of one that is only to say whether it could: the numbers of the memfd and of a pipe for the answer."""

MOST_BYTES = 1 << 30


class Unreadable(Exception):
    """What was handed over is not for this version; the text says why."""


class Keep:
    """Collects the descriptors that a document names."""

    def __init__(self) -> None:
        self.fds: set[int] = set()

    def __call__(self, fd: int) -> int:
        """This one is let through; a negative number is none."""
        if fd >= 0:
            self.fds.add(fd)
        return fd

    def part(self, document: dict[str, Any] | None) -> dict[str, Any] | None:
        """The one under `fd` is let through; None stays None."""
        if document is not None:
            self(document["fd"])
        return document


class Handover:
    """What was handed to us. `document` is read by whom it concerns; a descriptor is theirs once `take` gave it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._left = {int(each) for each in document["fds"]}

    def take(self, fd: int) -> int:
        """This one has an owner now."""
        self._left.discard(fd)
        return fd

    def take_all(self, part: Any) -> None:
        """All that is named by `fd`, `page` or `pem` in this part have owners now."""
        if isinstance(part, dict):
            for key, value in part.items():
                if key in ("fd", "page", "pem") and type(value) is int:
                    self.take(value)
                else:
                    self.take_all(value)
        elif isinstance(part, list):
            for each in part:
                self.take_all(each)

    def lock_on(self, path: str) -> int | None:
        """The descriptor of a lock on what is at this path now, if it was handed over."""
        with contextlib.suppress(OSError):
            wanted = os.stat(path)
            for fd in self.document["locks"]:
                found = os.fstat(fd)
                if fd in self._left and (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return self.take(fd)
        return None

    def close_rest(self) -> None:
        """Close what nobody has asked for."""
        for fd in self._left:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._left.clear()


def write(document: dict[str, Any], keep: Keep) -> int:
    """A memfd with the document. Raises OSError."""
    fd = os.memfd_create("emperor-handover", os.MFD_CLOEXEC)
    try:
        text = {"format": FORMAT, **document, "fds": sorted(keep.fds)}
        with open(fd, "wb", closefd=False) as file:
            file.write(json.dumps(text).encode())
    except OSError:
        os.close(fd)
        raise
    return fd


def read(fd: int) -> Handover:
    """What is in this memfd, which is closed. Raises Unreadable."""
    try:
        with open(fd, "rb") as file:
            file.seek(0)
            document = json.loads(file.read(MOST_BYTES))
    except (OSError, ValueError) as error:
        raise Unreadable(f"what the emperor before handed over cannot be read: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("fds"), list):
        raise Unreadable("what the emperor before handed over is no document of ours")
    if document.get("format") != FORMAT:
        raise Unreadable(
            f"version {document.get('version')} hands over in format {document.get('format')}, and this one reads "
            f"format {FORMAT}: stop the emperor and start the other version"
        )
    return Handover(document)


def taken(environ: MutableMapping[str, str]) -> int | None:
    """The descriptor of what was handed to us, if there is any. No descriptor is inheritable from here on."""
    variable = environ.pop(VARIABLE, "")
    if not variable.isdecimal():
        return None
    process.forbid_inheritance()
    fd = int(variable)
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
    return None


def trial_of(environ: MutableMapping[str, str]) -> tuple[int, int] | None:
    """The descriptors of a trial: what would be handed over, and where the answer goes."""
    document, colon, answer = environ.pop(TRIAL, "").partition(":")
    if not (colon and document.isdecimal() and answer.isdecimal()):
        return None
    process.forbid_inheritance()
    return int(document), int(answer)
