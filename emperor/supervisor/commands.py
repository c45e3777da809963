"""What the operator can ask of a running emperor: the operations of `control.sock`.

They say what is wanted; what becomes of it is the supervisor's. Whoever connects is root or the emperor's own user, and
the kernel says which: an operation is done by somebody's hand, and the event says whose.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import pwd
from collections.abc import Callable
from typing import Any, Protocol

from emperor.control.server import PEER, Operation, Refused, Reply
from emperor.supervisor.events import Events
from emperor.supervisor.loop import Loop
from emperor.supervisor.supervisor import Supervisor, Vassal

FOLLOW_S = 30.0
"""How long an answer about events may wait for one."""


class Ruler(Protocol):
    """What is needed of the emperor."""

    @property
    def stopping(self) -> bool: ...
    def reload_all(self, by: str) -> list[str]: ...
    def reload_file(self, file: str, by: str) -> None: ...
    def has_file(self, file: str) -> bool: ...
    def whole_document(self, take: Callable[[dict[str, Any]], None]) -> None: ...
    def stop(self) -> None: ...
    def reopen_logs(self) -> list[str]: ...


class Commands:
    """One emperor's operations."""

    def __init__(self, loop: Loop, supervisor: Supervisor, events: Events, ruler: Ruler) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._events = events
        self._ruler = ruler

    def operations(self) -> dict[str, Operation]:
        """By their names in docs/specs/control.md."""
        return {
            "status": self._status,
            "stop": self._stop,
            "reload": self._reload,
            "reopen-logs": self._reopen_logs,
            "events": self._tell_events,
        }

    def _status(self, _message: dict[str, Any], reply: Reply) -> None:
        self._ruler.whole_document(lambda found: reply({"status": found}))

    def _stop(self, _message: dict[str, Any], reply: Reply) -> None:
        reply({"pid": os.getpid()})
        if not self._ruler.stopping:
            self._ruler.stop()

    def _reopen_logs(self, _message: dict[str, Any], reply: Reply) -> None:
        reply({"reopened": self._ruler.reopen_logs()})

    def _reload(self, message: dict[str, Any], reply: Reply) -> None:
        self._refuse_if_stopping("nothing is reloaded any more")
        name = message.get("name")
        by = hand("emperor reload", message)
        if name is None:
            reply({"reloaded": self._ruler.reload_all(by)})
            return
        vassal = self.find("reload", str(name))
        if not self._ruler.has_file(vassal.file):
            raise Refused(f"reload: the file of {vassal.name} is gone")
        self._ruler.reload_file(vassal.file, by)
        reply({"reloaded": [vassal.name]})

    def _tell_events(self, message: dict[str, Any], reply: Reply) -> None:
        """`after` a number, of one vassal if `name` is there; with `follow` the answer waits until there is one."""
        number, name = message.get("after"), message.get("name")
        if type(number) is not int:
            raise Refused(f"events: after: the number of an event expected, not {number!r}")
        if name is not None:
            name = self._known_name("events", str(name))

        def answer(last: bool = False) -> None:
            found = self._events.after(number, name or "")
            if not found and not last and message.get("follow") is True:
                self._events.call_next(answer)
                return
            timer.cancel()
            self._events.forget(answer)
            lost = self._events.lost_after(number)
            last_number = found[-1].number if found and name is None else self._events.last
            reply({"events": [each.to_json() for each in found], "lost": lost, "last": last_number})

        timer = self._loop.call_later(FOLLOW_S, answer, True)
        answer()

    def _known_name(self, op: str, name: str) -> str:
        """`name`, if the ring or the fleet knows it: events of what has gone are worth asking for."""
        if any(each.vassal == name for each in self._events.after(0)):
            return name
        return self.find(op, name).name

    def find(self, op: str, name: str) -> Vassal:
        """The vassal of this name. Raises Refused with the nearest names."""
        vassal = self._supervisor.by_name(name)
        if vassal is not None:
            return vassal
        known = sorted({each.name for each in self._supervisor.vassals.values()})
        near = difflib.get_close_matches(name, known, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise Refused(f"{op}: there is no vassal {name!r}; {hint}")

    def _refuse_if_stopping(self, what: str) -> None:
        if self._ruler.stopping:
            raise Refused(f"the emperor is stopping: {what}")


def hand(command: str, message: dict[str, Any]) -> str:
    """Whose hand a message is of, for people."""
    pid, uid = message.get(PEER, (0, -1))
    name = str(uid)
    with contextlib.suppress(KeyError, OverflowError):
        name = pwd.getpwuid(uid).pw_name
    return f"{command}, by {name}" + (f" (pid {pid})" if pid else "")
