"""Where access logs are written: the emperor opens each file as its tenant, and hands the descriptor to the router.

The router that writes may be nobody, and must not get at paths at all. A descriptor is sent whenever the router is told
a vassal's entry, so a new router, a new file name and a restarted emperor are the same case; nothing is kept here but
what is wanted. Until a file is open its lines wait in the router, as far as there is room.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from emperor.config.accesslog import STDOUT, AccessLog
from emperor.supervisor.loop import Loop
from emperor.supervisor.tenant import Append, Outcome, Rename, Step, Tenant, Tenants, let_go
from emperor.supervisor.wishes import Wishes

_STDOUT_FD = 1


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def error(self, text: str) -> None: ...


Send = Callable[[dict[str, Any], Sequence[int], Callable[[int], None]], None]


class AccessLogs:
    """`send(message, fds)` reaches the router, if there is one; descriptors stay ours."""

    def __init__(self, loop: Loop, tenants: Tenants, log: Logger, send: Send) -> None:
        self._tenants = tenants
        self._log = log
        self._send = send
        self._wishes: Wishes[tuple[AccessLog, Tenant]] = Wishes(loop, self._open)
        self.troubles = self._wishes.troubles
        """Why a vassal's log is not written, by the vassal's name, while it is so."""
        self._openings = 0
        self._opening: dict[str, int] = {}
        """By which number the routers know the last opening of each vassal's log; 0 while it is being moved away."""
        self._moved: dict[str, int] = {}
        """The second by which the last file of each vassal that was full is called."""

    def told(self, name: str, access: AccessLog | None, tenant: Tenant) -> None:
        """The router has been told this entry of `name`: give it where to write."""
        moved = self._moved.get(name, 0)
        self.forget(name)
        if access is not None:
            self._wishes.put(name, (access, tenant))
            self._moved[name] = moved
            self._open(name)

    def forget(self, name: str) -> None:
        """The vassal has gone, or wants no log."""
        self._wishes.forget(name)
        self._opening.pop(name, None)
        self._moved.pop(name, None)

    def reopen(self, only: str = "") -> list[str]:
        """Open every file, or that of one vassal, again by its name: what had it has been moved away. The vassals
        concerned."""
        names = sorted(name for name in self._wishes if only in ("", name))
        for name in names:
            self._open(name)
        return names

    def full(self, name: str, opening: int | None) -> None:
        """A router says that this log has grown to its limit: move it away and begin anew. One that cannot be moved away
        grows on without a limit until it is opened for another reason: trying again with each line would help nobody.

        Several routers write to one file, and each says so. One has it moved away, and whoever speaks of a file that is no
        longer the last has been served. `opening` None is one of a version before, which was alone."""
        if opening is not None and opening != self._opening.get(name):
            return
        if name in self._wishes:
            self._opening[name] = 0
            access, _ = self._wishes[name]
            # One that fills twice in a second must not be written over the file before it.
            second = self._moved[name] = max(int(time.time()), self._moved.get(name, 0) + 1)
            self._open(name, Rename(access.place, access.backup or f"{access.place}.{second}"))

    def _open(self, name: str, *first: Rename) -> None:
        access, tenant = self._wishes[name]
        if access.place == STDOUT:
            with contextlib.suppress(OSError):  # whoever started us has closed it: nobody reads
                os.fstat(_STDOUT_FD)
                self._send({"op": "access"}, [_STDOUT_FD], os.close)
            return
        steps: list[Step] = [*first, Append(access.place)]
        self._tenants.ask(tenant, steps, lambda outcomes: self._opened(name, access, tenant, outcomes))

    def _opened(self, name: str, access: AccessLog, tenant: Tenant, outcomes: list[Outcome]) -> None:
        *moved, opened = outcomes
        # What counts is what the file is now: somebody else may have moved it away, and a rename to its own name fails nobody.
        stays = bool(moved) and opened.fd >= 0 and opened.size >= access.max_bytes
        if stays:
            why = moved[0].error or f"{access.place} was not moved away by log-backupname"
            self._log.error(
                f"[{name}] access-log: {why}; it grows on until it is opened anew (emperor reopen-logs)"
            )
        if opened.error:
            self._log.error(f"[{name}] access-log: {opened.error}")
            if name in self._wishes:
                self.troubles[name] = f"access-log: {opened.error}"
        if opened.fd >= 0:
            self.troubles.pop(name, None)
            # Opened as somebody else, by an earlier reading of its file: the next answer is ours.
            if self._wishes.get(name) == (access, tenant):
                limit = 0 if stays else access.max_bytes
                self._openings += 1
                self._opening[name] = self._openings
                message = {"op": "access", "name": name, "size": opened.size, "limit": limit}
                self._send({**message, "opening": self._openings}, [opened.fd], let_go)
            let_go(opened.fd)
        else:
            self._wishes.try_later(name)
