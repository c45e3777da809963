"""What the operator can ask of a running emperor: the operations of `control.sock`.

They say what is wanted; what becomes of it is the supervisor's. Whoever connects is root or the emperor's own user, and
the kernel says which: an operation is done by somebody's hand, and the event says whose.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import pwd
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emperor.control.server import PEER, Operation, Refused, Reply
from emperor.supervisor import fifos, pauses
from emperor.supervisor.events import Events
from emperor.supervisor.fleet import Vassal
from emperor.supervisor.loop import Loop
from emperor.supervisor.supervisor import Supervisor
from emperor.supervisor.vassal import SERVING, SETTLED

FOLLOW_S = 30.0
"""How long an answer about events may wait for one."""


class Ruler(Protocol):
    """What is needed of the emperor."""

    @property
    def stopping(self) -> bool: ...
    def reload_all(self, by: str) -> list[str]: ...
    def reload_file(self, file: str, by: str, rolling: bool = False) -> None: ...
    def has_file(self, file: str) -> bool: ...
    def whole_document(self, take: Callable[[dict[str, Any]], None]) -> None: ...
    def stop(self) -> None: ...
    def reopen_logs(self, name: str = "") -> list[str]: ...
    def roll_back(self, file: str, by: str) -> str: ...
    def promote(self, file: str, by: str) -> str: ...
    def pause(self, name: str, mode: str, by: str) -> None: ...
    def log_line(self, text: str) -> None: ...
    def trace(self, vassal: Vassal, take: Callable[[dict[str, Any]], None]) -> None: ...
    def upgrade(self, program: str, by: str, reply: Reply, keep_router: bool) -> None: ...

    def replace_router(self, by: str, reply: Reply) -> None: ...


class Commands:
    """One emperor's operations."""

    def __init__(self, loop: Loop, supervisor: Supervisor, events: Events, ruler: Ruler) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._events = events
        self._ruler = ruler
        self._waiting: dict[str, list[Reply]] = {}

    def operations(self) -> dict[str, Operation]:
        """By their names in docs/specs/control.md."""
        return {
            "status": self._status,
            "stop": self._stop,
            "reload": self._reload,
            "reopen-logs": self._reopen_logs,
            "trace": self._trace,
            "events": self._tell_events,
            "rollback": self._roll_back,
            "promote": self._promote,
            "pause": self._pause,
            "resume": self._resume,
            "upgrade": self._upgrade,
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
        if message.get("wait") is True:
            self._waiting.setdefault(vassal.file, []).append(reply)
            self._ruler.reload_file(vassal.file, by)
            return
        self._ruler.reload_file(vassal.file, by)
        reply({"reloaded": [vassal.name]})

    def _trace(self, message: dict[str, Any], reply: Reply) -> None:
        self._ruler.trace(self.find("trace", str(message.get("name"))), lambda found: reply({"trace": found}))

    @property
    def waiting(self) -> dict[str, list[Reply]]:
        """Who waits for the outcome of what, by files."""
        return {file: list(replies) for file, replies in self._waiting.items()}

    def resume(self, waiting: Mapping[str, list[Reply]]) -> None:
        """These wait for outcomes since before this program was; some outcomes may be known."""
        for file, replies in waiting.items():
            self._waiting.setdefault(file, []).extend(replies)
        for file in list(waiting):
            vassal = self._supervisor.vassals.get(file)
            if vassal is None or vassal.state in SETTLED:
                self.settled(file)

    def settled(self, file: str) -> None:
        """The outcome of a start or a reload of this file is known: who waits for it is told."""
        vassal = self._supervisor.vassals.get(file)
        for reply in self._waiting.pop(file, []):
            reply({"outcome": outcome_of(vassal)})

    def forgotten(self) -> None:
        """A vassal is gone: who waited for it is told."""
        for file in [each for each in self._waiting if each not in self._supervisor.vassals]:
            self.settled(file)

    def _roll_back(self, message: dict[str, Any], reply: Reply) -> None:
        self._refuse_if_stopping("nothing is started any more")
        vassal = self.find("rollback", str(message.get("name")))
        try:
            said = self._ruler.roll_back(vassal.file, hand("emperor rollback", message))
        except LookupError as error:
            raise Refused(f"rollback: {vassal.name}: {error.args[0]}") from None
        reply({"name": vassal.name, "done": said})

    def _promote(self, message: dict[str, Any], reply: Reply) -> None:
        self._refuse_if_stopping("nothing is promoted any more")
        vassal = self.find("promote", str(message.get("name")))
        try:
            said = self._ruler.promote(vassal.file, hand("emperor promote", message))
        except LookupError as error:
            raise Refused(f"promote: {vassal.name}: {error.args[0]}") from None
        reply({"name": vassal.name, "done": said})

    def _pause(self, message: dict[str, Any], reply: Reply) -> None:
        vassal = self.find("pause", str(message.get("name")))
        mode = pauses.HOLD if message.get("hold") is True else pauses.REFUSE
        self._ruler.pause(vassal.name, mode, hand("emperor pause", message))
        reply({"name": vassal.name})

    def _resume(self, message: dict[str, Any], reply: Reply) -> None:
        vassal = self.find("resume", str(message.get("name")))
        if vassal.name not in self._supervisor.paused:
            raise Refused(f"resume: {vassal.name} is not paused")
        self._ruler.pause(vassal.name, "", hand("emperor resume", message))
        reply({"name": vassal.name})

    def _upgrade(self, message: dict[str, Any], reply: Reply) -> None:
        self._refuse_if_stopping("it does not become another version any more")
        program = message.get("program")
        by = hand("emperor upgrade", message)
        match message.get("router", "replace"):
            case "only":
                self._ruler.replace_router(by, reply)
            case "replace" | "keep" as what:
                self._ruler.upgrade("" if program is None else str(program), by, reply, what == "keep")
            case what:
                raise Refused(f"upgrade: router: {what!r}: replace, keep or only")

    def letter(self, file: str, deed: str, letter: str) -> None:
        """A letter came by a vassal's own `master-fifo`: it asks for that vassal alone."""
        vassal = self._supervisor.vassals.get(file)
        if vassal is None or self._ruler.stopping:
            return
        by = f"master-fifo, letter {letter}"
        match deed:
            case fifos.RELOAD:
                self._ruler.reload_file(file, by)
            case fifos.CHAIN:
                self._ruler.reload_file(file, by, rolling=True)
            case fifos.PAUSE:
                paused = vassal.name in self._supervisor.paused
                self._ruler.pause(vassal.name, "" if paused else pauses.HOLD, by)
            case fifos.LOGS:
                self._ruler.reopen_logs(vassal.name)
                self._events.add("fifo", vassal.name, "its log files are opened anew", by)
            case fifos.STATS:
                self._ruler.whole_document(lambda found: self._log_numbers(vassal.name, found))

    def _log_numbers(self, name: str, found: dict[str, Any]) -> None:
        said = next((each for each in found["vassals"] if each["name"] == name), None)
        apps = [each.get("apps", {}).get(name) for each in found["routers"]]
        if said is not None:
            self._ruler.log_line(
                f"{name}: {json.dumps({**said, 'routers': [each for each in apps if each]})}"
            )

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


def outcome_of(vassal: Vassal | None) -> dict[str, Any]:
    """What became of a reload: `ok`, the generation that serves, and why it is not the new one."""
    if vassal is None:
        return {"ok": False, "generation": 0, "reason": "its file is gone"}
    reason = vassal.problem or ("" if vassal.state in SERVING else vassal.reason or vassal.state.value)
    return {"ok": not reason, "generation": vassal.serving or 0, "reason": reason}


def hand(command: str, message: dict[str, Any]) -> str:
    """Whose hand a message is of, for people."""
    pid, uid = message.get(PEER, (0, -1))
    name = str(uid)
    with contextlib.suppress(KeyError, OverflowError):
        name = pwd.getpwuid(uid).pw_name
    return f"{command}, by {name}" + (f" (pid {pid})" if pid else "")
