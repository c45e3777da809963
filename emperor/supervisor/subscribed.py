"""The emperor's copy of who has subscribed: the router's table, for the router after it.

What the router alone knew would be lost with it, and every node that it had is silent for up to ten seconds: so long its
requests would find nobody. The copy is asked for every second and is opaque here; one that is lost itself is made again
from the router that lives.

Where several routers let clients in, a datagram comes to the first. The others are told what it knows, whenever that is new:
they serve the same nodes, at most two seconds later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from emperor.supervisor.loop import Loop, Timer

ASK_S = 1.0

MOST = 8192
"""Nodes that are kept, whatever a router says."""

AT_ONCE = 500
"""Nodes of one message."""

_UNKNOWN = -1

Ask = Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], bool]


class Other(Protocol):
    """What is needed of the end of a router beside the first (`routers.Router`)."""

    seat: int

    @property
    def pid(self) -> int: ...

    @property
    def state(self) -> str: ...

    def ask(self, message: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> bool: ...


class Subscribed:
    """`ask` asks the first of the routers that let clients in; `seat_and_pid` says which one that is, `others` are those beside
    it."""

    def __init__(
        self,
        loop: Loop,
        ask: Ask,
        seat_and_pid: Callable[[], tuple[int, int]],
        others: Callable[[], Sequence[Other]] = lambda: (),
    ) -> None:
        self._loop = loop
        self._ask = ask
        self._who = seat_and_pid
        self._others = others
        self._copies: dict[tuple[int, int], int] = {}  # by seat and pid, which of ours each has
        self._number = 0  # of the copy that we have
        self._nodes: list[Any] = []
        self._version = _UNKNOWN
        self._of = (-1, 0)
        self._coming: list[Any] = []
        self._timer: Timer | None = None

    def start(self) -> None:
        """From now on."""
        self._timer = self._loop.call_later(ASK_S, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def messages(self) -> Iterable[dict[str, Any]]:
        """What a router is told before it lets clients in."""
        for at in range(0, len(self._nodes), AT_ONCE):
            yield {"op": "subscribed", "nodes": self._nodes[at : at + AT_ONCE]}

    def _pass_on(self) -> None:
        """Whoever has another copy than ours gets ours."""
        running = {(each.seat, each.pid): each for each in self._others() if each.state == "running"}
        self._copies = {who: number for who, number in self._copies.items() if who in running}
        for who, each in running.items():
            if self._number and self._copies.get(who) != self._number:
                self._copies[who] = self._number
                self._tell(who, each)

    def _tell(self, who: tuple[int, int], other: Other) -> None:
        def answered(answer: Mapping[str, Any]) -> None:
            if answer.get("ok") is not True:
                self._copies.pop(who, None)  # once more

        parts = list(self.messages()) or [{"op": "subscribed", "nodes": []}]
        for at, message in enumerate(parts):
            copy = {"copy": True, "first": at == 0, "last": at == len(parts) - 1}
            if not other.ask({**message, **copy}, answered):
                self._copies.pop(who, None)

    def _look(self) -> None:
        self._timer = self._loop.call_later(ASK_S, self._look)
        self._pass_on()
        if self._of != self._who():
            self._version = _UNKNOWN
        self._coming = []
        self._next(self._version)

    def _next(self, known: int) -> None:
        who = self._who()
        message = {"op": "nodes", "known": known, "start": len(self._coming)}
        self._ask(message, lambda answer: self._answered(who, answer))

    def _answered(self, who: tuple[int, int], answer: Mapping[str, Any]) -> None:
        """Whatever is no answer of that kind leaves all as it was: it is asked again."""
        match answer:
            case {"ok": True, "version": int(version), "nodes": list(nodes), "more": bool(more)}:
                self._coming += nodes
                if more and nodes and len(self._coming) < MOST and who == self._who():
                    self._next(_UNKNOWN)
                elif who == self._who():
                    self._nodes, self._version, self._of = self._coming[:MOST], version, who
                    self._number += 1
