"""What the routers are told of a vassal's `subscribe-to`: its announcements, and the keys to sign them with.

Keys are read as the tenant whose file names them, and go to the router as descriptors. Told is whenever the router is told a
vassal's entry, and when another reading of its file serves, so that a new router, a reload and a restarted emperor are the
same case; nothing is kept here but what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from emperor.config.announcing import uwsgi_listeners
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.reading import Reading
from emperor.supervisor.tenant import Outcome, Read, Tenant, Tenants, let_go

RETRY_S = 30.0
"""How long after a key could not be read it is tried again."""


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def error(self, text: str) -> None: ...


Send = Callable[[dict[str, Any], Sequence[int], Callable[[int], None]], None]


class Announcements:
    """`send(message, fds, close)` reaches the routers, if there are any; descriptors stay ours."""

    def __init__(self, loop: Loop, tenants: Tenants, log: Logger, send: Send) -> None:
        self._loop = loop
        self._tenants = tenants
        self._log = log
        self._send = send
        self._wanted: dict[str, Reading] = {}
        self._retries: dict[str, Timer] = {}
        self.troubles: dict[str, str] = {}
        """Why a vassal is not announced, by its name, while it is so."""

    def want(self, name: str, reading: Reading | None) -> None:
        """This reading serves now; None: none does. A reload reads the keys again, as it does everything else."""
        if reading is not None and self._wanted.get(name) is not reading:
            self.told(name, reading)

    def told(self, name: str, reading: Reading | None) -> None:
        """The router has been told this vassal's entry: tell it how to announce it."""
        before = self._wanted.get(name)
        self.forget(name)
        if reading is None:
            return
        self._wanted[name] = reading
        # What an emperor before us has told is not known: where we have said nothing yet, nothing to announce is said, too.
        if reading.announcing or before is None or before.announcing:
            self._tell(name)

    def forget(self, name: str) -> None:
        """The vassal has gone."""
        self._wanted.pop(name, None)
        self.troubles.pop(name, None)
        retry = self._retries.pop(name, None)
        if retry is not None:
            retry.cancel()

    def _tell(self, name: str) -> None:
        reading = self._wanted[name]
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
        if self._wanted.get(name) is reading:
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
        self._retries[name] = self._loop.call_later(RETRY_S, self._again, name)

    def _again(self, name: str) -> None:
        self._retries.pop(name, None)
        if name in self._wanted:
            self._tell(name)

    def _say(self, name: str, reading: Reading, fds: Sequence[int]) -> None:
        said = reading.announcing.to_json()
        message = {
            "op": "announce",
            "name": name,
            **said,
            "sockets": [each.address for each in uwsgi_listeners(reading.listening)],
        }
        self._send(message, fds, let_go)
