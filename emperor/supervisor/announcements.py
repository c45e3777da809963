"""What the routers are told of a vassal's `subscribe-to`: its announcements, and the keys to sign them with.

Keys are read as the tenant whose file names them, and go to the router as descriptors. Told is whenever the router is told a
vassal's entry, and when another reading of its file serves, so that a new router, a reload and a restarted emperor are the
same case; nothing is kept here but what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from emperor.config.announcing import uwsgi_listeners
from emperor.supervisor.loop import Loop
from emperor.supervisor.reading import Reading
from emperor.supervisor.tenant import Outcome, Read, Tenant, Tenants, let_go
from emperor.supervisor.wishes import Wishes


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def error(self, text: str) -> None: ...


Send = Callable[[dict[str, Any], Sequence[int], Callable[[int], None]], None]


class Announcements:
    """`send(message, fds, close)` reaches the routers, if there are any; descriptors stay ours."""

    def __init__(self, loop: Loop, tenants: Tenants, log: Logger, send: Send) -> None:
        self._tenants = tenants
        self._log = log
        self._send = send
        self._wishes: Wishes[Reading] = Wishes(loop, self._tell)
        self.troubles = self._wishes.troubles
        """Why a vassal is not announced, by its name, while it is so."""

    def want(self, name: str, reading: Reading | None) -> None:
        """This reading serves now; None: none does. A reload reads the keys again, as it does everything else."""
        if reading is not None and self._wishes.get(name) is not reading:
            self.told(name, reading)

    def told(self, name: str, reading: Reading | None) -> None:
        """The router has been told this vassal's entry: tell it how to announce it."""
        before = self._wishes.get(name)
        self.forget(name)
        if reading is None:
            return
        self._wishes.put(name, reading)
        # What an emperor before us has told is not known: where we have said nothing yet, nothing to announce is said, too.
        if reading.announcing or before is None or before.announcing:
            self._tell(name)

    def forget(self, name: str) -> None:
        """The vassal has gone."""
        self._wishes.forget(name)

    def _tell(self, name: str) -> None:
        reading = self._wishes[name]
        paths = [each.pem for each in reading.announcing.announcements if each.digest]
        if not paths:
            self._say(name, reading, [])
            return
        tenant = Tenant(reading.uid, reading.gid)
        self._tenants.ask(
            tenant, [Read(path) for path in paths], lambda found: self._read(name, reading, found)
        )

    def _read(self, name: str, reading: Reading, outcomes: list[Outcome]) -> None:
        fds = [each.fd for each in outcomes if each.fd >= 0]
        wrong = next((each.error for each in outcomes if each.error), "")
        if self._wishes.get(name) is reading:
            if wrong:
                self._fail(name, wrong)
            else:
                self.troubles.pop(name, None)
                self._say(name, reading, fds)
        for fd in fds:
            let_go(fd)

    def _fail(self, name: str, wrong: str) -> None:
        text = f"subscribe-to: {wrong}"
        if self.troubles.get(name) != text:
            self._log.error(f"[{name}] {text}; it is not announced, and tried again")
        self.troubles[name] = text
        self._wishes.try_later(name)

    def _say(self, name: str, reading: Reading, fds: Sequence[int]) -> None:
        said = reading.announcing.to_json()
        message = {
            "op": "announce",
            "name": name,
            **said,
            "sockets": [each.address for each in uwsgi_listeners(reading.listening)],
        }
        self._send(message, fds, let_go)
