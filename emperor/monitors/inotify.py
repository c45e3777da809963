"""inotify(7), as far as we need it: many directories on one descriptor, read in the loop.

A library would start two threads and an inotify instance for each directory, of which a user may have 128; with
``/srv/*/app.ini`` there are as many directories as apps.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)

_HEAD = struct.Struct("iIII")
_READ_BYTES = 64 * 1024

MODIFY, ATTRIB, CLOSE_WRITE, CLOSE_NOWRITE, OPEN = 0x2, 0x4, 0x8, 0x10, 0x20
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
ONLYDIR, ISDIR = 0x01000000, 0x40000000

_MASK = 0xFFF & ~0x1 | ONLYDIR  # everything but reads

KINDS = {
    OPEN: "opened",
    MODIFY: "modified",
    CLOSE_WRITE: "closed",
    CLOSE_NOWRITE: "closed_no_write",
    CREATE: "created",
    MOVED_TO: "moved",
    MOVED_FROM: "deleted",
    DELETE: "deleted",
    ATTRIB: "attrib",
}
"""How `scan` calls what happened to an entry of a directory."""

GONE = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED


class Event(NamedTuple):
    """Something happened in the directory of `watch` to its entry `name` (empty: to itself)."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One instance. Raises OSError when the user has no more of them."""

    def __init__(self) -> None:
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("inotify")

    def fileno(self) -> int:
        return self._fd

    def add(self, directory: str) -> int:
        """The number of the watch on this directory; the same one for another path of it. Raises OSError."""
        watch: int = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
        if watch < 0:
            raise _error(directory)
        return watch

    def remove(self, watch: int) -> None:
        _libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[Event]:
        """What has happened, up to some thousand events; empty when nothing has."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        events = []
        position = 0
        while position < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            name = data[position : position + length].rstrip(b"\0")
            position += length
            events.append(Event(watch, mask, os.fsdecode(name)))
        return events

    def close(self) -> None:
        os.close(self._fd)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    if number == errno.ENOSPC:  # not the disk
        return OSError(number, "too many inotify watches: raise fs.inotify.max_user_watches", what)
    if number == errno.EMFILE:
        return OSError(number, "too many inotify instances: raise fs.inotify.max_user_instances", what)
    return OSError(number, os.strerror(number), what)
