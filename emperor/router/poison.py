"""Requests that end workers: recognised, and not given a third one. Pure; time comes in as monotonic seconds.

Nobody runs a request twice, but clients do: they try again, and each time a worker dies. So the deaths of the last
`WINDOW_S` are kept, with what was under way in each, and a request is *poison* when

    it was under way in `deaths` of them (option `poison-deaths`, 2), it is the only one that was under way in all of
    these, and it was alone in one of them; or, never alone, it was so in one more.

A request that ran too long (harakiri) was alone in that death: it is known to be the one. Whoever has been run to its end
since (answered, or failed in a way that the worker survived) is innocent, and struck off every death: so a page that is
asked for all the time is no suspect because workers are killed under it, and what remains in a death is more likely its
cause. What "the same request" is: method, host, path, query and the length of its body.

| deaths, oldest first; − p: p was run to its end meanwhile | poison |
| --- | --- |
| {p} {p} | p |
| {p} −p {p} | nobody |
| {p h} {p} | p |
| {p h} {p g} | nobody yet: p was never alone |
| {p h} {p g} {p k} | p |
| {p h} {p h} {p h} | nobody: it could be either |
| {p h} {p h} {p h} −h | p |
| {p} … a while … {p} | nobody |

Poison is answered 500 for `BAN_S`, then one is let through as a trial: if it comes to its end, it is innocent; if it ends a
worker, the next ban is twice as long, up to `WINDOW_S`. So a mistake of ours, or an app that was mended, costs a minute.
All of it is bounded: deaths, requests per death (with more under way than `CROWD` nobody can tell), and bans.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from emperor.protocol import packet
from emperor.protocol.packet import RequestHead

WINDOW_S: Final = 600.0
BAN_S: Final = 60.0
CROWD: Final = 32
MOST_DEATHS: Final = 64
MOST_BANS: Final = 64


def fingerprint(head: RequestHead) -> str:
    """What is the same for two requests that are the same: 16 hexadecimal digits, which say nothing of a client's."""
    query = packet.variables(head.packet).get(b"QUERY_STRING", b"")
    # A chunked body has no length before it is whole.
    length = b"" if head.chunked else b"%d" % head.content_length
    parts = (head.method, head.host or b"", head.path, query, length)
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()


class _Death:
    __slots__ = ("suspects", "when")

    def __init__(self, when: float, suspects: set[str]) -> None:
        self.when = when
        self.suspects = suspects


class _Ban:
    __slots__ = ("length_s", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.length_s = 0.0


class Poison:
    """The deaths of one app's workers and what they say. `deaths` 0: nothing is recognised.

    `watching`: there is a suspect or a ban, so that requests are worth a look; else `survived` and `refuses` need not be
    called. `paths` are those of suspects, to look at few requests closely.
    """

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self.watching = False
        self.refused = 0
        self.found = 0
        self.paths: dict[bytes, int] = {}
        self._deaths: list[_Death] = []
        self._bans: dict[str, _Ban] = {}
        self._path_of: dict[str, bytes] = {}

    def died(self, now: float, under_way: Iterable[RequestHead]) -> list[str]:
        """A worker has died in the middle of these. Returns the fingerprints that are poison from now on, or again."""
        if not self.deaths:
            return []
        known = {fingerprint(head): head.path for head in under_way}
        if not 0 < len(known) <= CROWD:
            return []
        self._deaths = [death for death in self._deaths if now - death.when < WINDOW_S][1 - MOST_DEATHS :]
        self._deaths.append(_Death(now, set(known)))
        self._path_of.update(known)
        return self._judge(now, set(known))

    def survived(self, head: RequestHead, now: float) -> list[str]:
        """A worker has run this to its end. Returns who is poison now that this one is not."""
        if head.path not in self.paths:
            return []
        who = fingerprint(head)
        if who not in self._path_of:
            return []
        self._bans.pop(who, None)
        left: set[str] = set()
        for death in self._deaths:
            if who in death.suspects:
                death.suspects.discard(who)
                left |= death.suspects
        return self._judge(now, left)

    def refuses(self, head: RequestHead, now: float) -> str:
        """The fingerprint, if this is poison; else nothing. After a ban the first that asks is let through."""
        if not self._bans or head.path not in self.paths:
            return ""
        who = fingerprint(head)
        ban = self._bans.get(who)
        if ban is None:
            return ""
        if now >= ban.until:
            ban.until = now + BAN_S
            return ""
        self.refused += 1
        return who

    def banned_s(self, who: str) -> float:
        """How long its latest ban is."""
        return self._bans[who].length_s

    def tidy(self, now: float) -> None:
        """Forget what was long ago."""
        self._deaths = [death for death in self._deaths if now - death.when < WINDOW_S and death.suspects]
        for who in [who for who, ban in self._bans.items() if now - ban.until > WINDOW_S]:
            del self._bans[who]
        self._note()

    def report(self, now: float) -> dict[str, Any]:
        """For the statistics: numbers, and fingerprints that are refused now."""
        return {
            "found": self.found,
            "refused": self.refused,
            "banned": [
                {"fingerprint": who, "seconds": max(0, round(ban.until - now))}
                for who, ban in sorted(self._bans.items())
            ],
        }

    def _judge(self, now: float, among: set[str]) -> list[str]:
        self._deaths = [death for death in self._deaths if death.suspects]
        found = [who for who in sorted(among) if self._is_poison(who, now)]
        for who in found:
            if who not in self._bans:
                self.found += 1
                while len(self._bans) >= MOST_BANS:
                    del self._bans[min(self._bans, key=lambda each: self._bans[each].until)]
            ban = self._bans.setdefault(who, _Ban())
            ban.length_s = min(WINDOW_S, ban.length_s * 2 or BAN_S)
            ban.until = now + ban.length_s
        self._note()
        return found

    def _is_poison(self, who: str, now: float) -> bool:
        its = [
            death.suspects for death in self._deaths if who in death.suspects and now - death.when < WINDOW_S
        ]
        if not its or len(set.intersection(*its)) > 1:
            return False
        alone = any(len(suspects) == 1 for suspects in its)
        return len(its) >= self.deaths + (not alone)

    def _note(self) -> None:
        who = {*self._bans, *(each for death in self._deaths for each in death.suspects)}
        self._path_of = {each: path for each, path in self._path_of.items() if each in who}
        self.paths = dict.fromkeys(self._path_of.values(), 1)
        self.watching = bool(who)
