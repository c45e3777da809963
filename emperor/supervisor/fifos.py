"""`master-fifo`: uWSGI's letters, mapped on what an operator can say otherwise.

Owns the FIFOs of all vassals. Each is made and opened *as the tenant* (`as_tenant`), since a tenant's file names it, and
stays over reloads and deaths: the emperor holds it, not a gateway. A letter asks for no more than the vassal's own file could
have: nothing here touches another vassal, or stops one. What uWSGI has a letter for and we have no meaning is answered
in the log.

A FIFO may be written to as fast as anybody likes: a few letters are taken in one turn, and the next ones a little later.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.reading import Reading
from emperor.supervisor.tenant import OpenFifo, Outcome, RemoveFifo, Tenant, Tenants

MOST_AT_ONCE = 16
REST_S = 0.2
RETRY_S = 10.0
SLOTS = 10

RELOAD, CHAIN, PAUSE, LOGS, STATS, SLOT = "reload", "chain", "pause", "logs", "stats", "slot"

LETTERS: dict[str, str] = {
    **{str(number): SLOT for number in range(SLOTS)},
    **dict.fromkeys("rRwW", RELOAD),
    "c": CHAIN,
    "p": PAUSE,
    **dict.fromkeys("lL", LOGS),
    "s": STATS,
}
"""Letter → what is done."""

ANSWERS: dict[str, str] = {
    "+": "the number of workers is `processes` of the file",
    "-": "the number of workers is `processes` of the file",
    "B": "there are no reinforcements to ask for",
    "C": "all of the app's processes run, all the time",
    "E": "the emperor sees changes of its directory by itself",
    "f": "there is nothing to fork again: r starts the app anew",
    "P": "the pidfile is written whenever the app is ready",
    "q": "an app goes when its file does; p pauses it",
    "Q": "an app goes when its file does; p pauses it",
    "S": "what subscribe-to announces is taken back while the app is paused: p pauses it",
}
"""Letters of uWSGI's that have no meaning here, and what to do instead."""


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...


@dataclass
class _Fifo:
    """One vassal's: `slot` of `paths` is open, or is being opened."""

    name: str
    tenant: Tenant
    paths: tuple[str, ...]
    slot: int = 0
    fd: int = -1
    device: int = 0
    inode: int = 0
    timer: Timer | None = None


class Fifos:
    """`obey(file, deed, letter)` is called in the loop for each letter that means something."""

    def __init__(
        self, loop: Loop, tenants: Tenants, log: Logger, obey: Callable[[str, str, str], None]
    ) -> None:
        self._loop = loop
        self._tenants = tenants
        self._log = log
        self._obey = obey
        self._fifos: dict[str, _Fifo] = {}
        self._troubles: dict[str, str] = {}
        self._removing = 0

    @property
    def busy(self) -> bool:
        """Something is being removed."""
        return self._removing > 0

    @property
    def troubles(self) -> dict[str, str]:
        """What is wrong with a vassal's FIFO, by the vassal's name."""
        return dict(self._troubles)

    def want(self, file: str, reading: Reading | None) -> None:
        """From now on the FIFOs of this reading; None: none, and what was made is removed."""
        before = self._fifos.get(file)
        paths = () if reading is None else reading.reloading.fifos[:SLOTS]
        tenant = Tenant() if reading is None else Tenant(reading.uid, reading.gid)
        if before is not None:
            if (before.paths, before.tenant) == (paths, tenant):
                return
            del self._fifos[file]
            self._shut(before)
        if reading is not None and paths:
            fifo = self._fifos[file] = _Fifo(reading.name, tenant, paths)
            self._open(file, fifo)

    def close(self) -> None:
        """Let go of all of them; the files stay, for a next emperor. May be called again."""
        for fifo in self._fifos.values():
            self._let_go(fifo)
        self._fifos.clear()

    def remove_all(self) -> None:
        """The emperor stops: take away what was made."""
        for fifo in self._fifos.values():
            self._shut(fifo)
        self._fifos.clear()

    def _open(self, file: str, fifo: _Fifo) -> None:
        path = fifo.paths[fifo.slot]

        def opened(outcomes: list[Outcome]) -> None:
            (outcome,) = outcomes
            if self._fifos.get(file) is not fifo or fifo.paths[fifo.slot] != path or fifo.fd >= 0:
                now = self._fifos.get(file)
                if outcome.ok:
                    os.close(outcome.fd)
                    if (
                        now is None or path != now.paths[now.slot]
                    ):  # it was not wanted any more while it was made
                        self._remove(fifo.tenant, path, outcome.device, outcome.inode)
                return
            if not outcome.ok:
                text = f"master-fifo: {outcome.error}"
                if self._troubles.get(fifo.name) != text:
                    self._troubles[fifo.name] = text
                    self._log.warning(f"{fifo.name}: {text}; tried again")
                fifo.timer = self._loop.call_later(RETRY_S, self._open, file, fifo)
                return
            self._troubles.pop(fifo.name, None)
            fifo.fd, fifo.device, fifo.inode = outcome.fd, outcome.device, outcome.inode
            self._loop.watch(fifo.fd, partial(self._readable, file, fifo))

        self._tenants.ask(fifo.tenant, [OpenFifo(path)], opened)

    def _readable(self, file: str, fifo: _Fifo) -> None:
        try:
            letters = os.read(fifo.fd, MOST_AT_ONCE).decode("ascii", "replace")
        except BlockingIOError:
            return
        self._loop.unwatch(fifo.fd)
        fifo.timer = self._loop.call_later(REST_S, self._rested, file, fifo)
        for letter in letters:
            if letter.isspace():
                continue  # echo writes a line
            deed = LETTERS.get(letter)
            if deed == SLOT:
                self._switch(file, fifo, int(letter))
            elif deed is not None:
                self._obey(file, deed, letter)
            else:
                why = ANSWERS.get(letter, f"there is no such letter; there are {''.join(sorted(LETTERS))}")
                self._log.info(f"{fifo.name}: master-fifo: {letter!r}: {why}")

    def _rested(self, file: str, fifo: _Fifo) -> None:
        fifo.timer = None
        if self._fifos.get(file) is fifo and fifo.fd >= 0:
            self._loop.watch(fifo.fd, partial(self._readable, file, fifo))

    def _switch(self, file: str, fifo: _Fifo, slot: int) -> None:
        if slot >= len(fifo.paths):
            self._log.info(
                f"{fifo.name}: master-fifo: {slot}: there is no such slot; there are {len(fifo.paths)}"
            )
        elif slot != fifo.slot:
            self._shut(fifo)
            fifo.slot = slot
            self._log.info(f"{fifo.name}: master-fifo: {fifo.paths[slot]} is listened to from now on")
            self._open(file, fifo)

    def _let_go(self, fifo: _Fifo) -> None:
        if fifo.timer is not None:
            fifo.timer.cancel()
            fifo.timer = None
        if fifo.fd >= 0:
            self._loop.unwatch(fifo.fd)
            os.close(fifo.fd)
            fifo.fd = -1

    def _shut(self, fifo: _Fifo) -> None:
        made = fifo.fd >= 0
        self._let_go(fifo)
        self._troubles.pop(fifo.name, None)
        if made:
            self._remove(fifo.tenant, fifo.paths[fifo.slot], fifo.device, fifo.inode)

    def _remove(self, tenant: Tenant, path: str, device: int, inode: int) -> None:
        self._removing += 1
        self._tenants.ask(tenant, [RemoveFifo(path, device, inode)], self._removed)

    def _removed(self, _outcomes: list[Outcome]) -> None:
        # It is gone, or another one by now.
        self._removing -= 1
