"""Where the names of upstreams lead: looked up beside the loop, again and again, in the way of the first request alone.

* A lookup may take as long as a name server that is silent makes it (resolv.conf(5): 5 s, twice, for each server). So each has
  a thread of its own, which is there for as long as it takes; there are at most `AT_ONCE` of them, and `EACH` of one app, so
  that an app whose name server hangs holds up nobody else's names. The event loop's own resolver has four threads for all.
* What is known stays known while it cannot be looked up again: an upstream does not go because a name server has.
* getaddrinfo(3) tells no time to live; a name is looked up every `AGAIN_S`, and at once (after `SOON_S`) when one of its
  addresses could not be reached.

It asks the system, so ``/etc/hosts``, ``nsswitch.conf`` and search domains hold.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable
from random import random
from typing import Final

AT_ONCE: Final = 16
EACH: Final = 4
AGAIN_S: Final = 10.0
SOON_S: Final = 1.0
FORGOTTEN_S: Final = 60.0
"""A name that nobody has asked for is forgotten."""

Lookup = Callable[[str], list[str]]


def look_up(host: str) -> list[str]:
    """The addresses of a name, in the system's order, each once. Blocks. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


class _Name:
    __slots__ = ("asked_at", "began_at", "due", "error", "ips", "owner", "waiting")

    def __init__(self, owner: str) -> None:
        self.owner = owner  # whose lookup it counts as
        self.ips: tuple[str, ...] = ()
        self.error = ""
        self.due = 0.0
        self.asked_at = 0.0
        self.began_at = 0.0  # of the lookup that is under way; 0: none is
        self.waiting: list[asyncio.Future[None]] = []


class Names:
    """Those of one router. Everything belongs to the loop's thread but the lookup itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lookup: Lookup = look_up) -> None:
        self._loop = loop
        self._lookup = lookup
        self._names: dict[str, _Name] = {}
        self._under_way: Counter[str] = Counter()  # by owner
        self.lookups = 0
        self.failures = 0

    def known(self, host: str, owner: str) -> tuple[str, ...]:
        """What it is known to lead to; looked up, if it is time, for the next call."""
        return self._asked(host, owner).ips

    async def first(self, host: str, owner: str) -> tuple[str, ...]:
        """Where it leads, waiting for the lookup if nothing is known yet; whoever waits has a deadline. Raises OSError."""
        name = self._asked(host, owner)
        if not name.ips:
            waiting = self._loop.create_future()
            name.waiting.append(waiting)
            name.due = min(name.due, self._loop.time() + SOON_S)
            self._start()
            try:
                await waiting
            finally:
                with contextlib.suppress(ValueError):
                    name.waiting.remove(waiting)
        if not name.ips:
            raise OSError(f"{host}: {name.error}")
        return name.ips

    def hurry(self, host: str) -> None:
        """One of its addresses cannot be reached: it may lead elsewhere by now."""
        name = self._names.get(host)
        if name is not None:
            name.due = min(name.due, self._loop.time() + SOON_S)

    def report(self) -> dict[str, int]:
        """For the statistics."""
        now = self._loop.time()
        began = [each.began_at for each in self._names.values() if each.began_at]
        return {
            "names": len(self._names),
            "unknown": sum(not each.ips for each in self._names.values()),
            "lookups": self.lookups,
            "failures": self.failures,
            "under_way": len(began),
            "under_way_limit": AT_ONCE,
            "waiting": sum(now >= each.due and not each.began_at for each in self._names.values()),
            "oldest_s": int(now - min(began)) if began else 0,
        }

    def _asked(self, host: str, owner: str) -> _Name:
        now = self._loop.time()
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name(owner)
        name.asked_at = now
        if now >= name.due and not name.began_at:
            self._start()
        return name

    def _start(self) -> None:
        """Begin what is due, as far as there are threads for it; whom somebody waits for first."""
        now = self._loop.time()
        for host in [host for host, each in self._names.items() if now - each.asked_at > FORGOTTEN_S]:
            if not self._names[host].began_at:
                del self._names[host]
        due = [(host, each) for host, each in self._names.items() if now >= each.due and not each.began_at]
        for host, name in sorted(due, key=lambda pair: not pair[1].waiting):
            if sum(self._under_way.values()) >= AT_ONCE:
                return
            if self._under_way[name.owner] >= EACH:
                continue
            try:
                threading.Thread(target=self._run, args=(host, name), name="names", daemon=True).start()
            except RuntimeError as error:  # no thread to be had
                self._settle(name, (), str(error))
                continue
            name.began_at = now
            self._under_way[name.owner] += 1
            self.lookups += 1

    def _run(self, host: str, name: _Name) -> None:
        ips: tuple[str, ...] = ()
        why = "no address"
        try:
            ips = tuple(self._lookup(host))
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
        # At the router's end the loop may be closed: nobody asks any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._found, name, ips, why)

    def _found(self, name: _Name, ips: tuple[str, ...], why: str) -> None:
        self._under_way[name.owner] -= 1
        self._under_way += Counter()  # whoever has none is not kept
        name.began_at = 0.0
        self._settle(name, ips, why)
        self._start()

    def _settle(self, name: _Name, ips: tuple[str, ...], why: str) -> None:
        # Those of one file are not all asked for in one moment for ever.
        name.due = self._loop.time() + AGAIN_S * (0.75 + random() / 2) * (1.0 if ips else 0.2)
        if ips:
            name.ips, name.error = ips, ""
        else:
            name.error = why
            self.failures += 1
        waiting, name.waiting = name.waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
