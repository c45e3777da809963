"""The emperor's copy of who has subscribed: the router's table, for the router after it.

What the router alone knew would be lost with it, and every node that it had is silent for up to ten seconds: so long its
requests would find nobody. The copy is asked for every second and is opaque here; one that is lost itself is made again
from the router that lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from emperor.supervisor.loop import Loop, Timer

ASK_S = 1.0

MOST = 8192
"""Nodes that are kept, whatever a router says."""

AT_ONCE = 500
"""Nodes of one message."""

_UNKNOWN = -1

Ask = Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], bool]


class Subscribed:
    """`ask` asks the router that lets clients in; `seat_and_pid` says which one that is."""

    def __init__(self, loop: Loop, ask: Ask, seat_and_pid: Callable[[], tuple[int, int]]) -> None:
        self._loop = loop
        self._ask = ask
        self._who = seat_and_pid
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

    def _look(self) -> None:
        self._timer = self._loop.call_later(ASK_S, self._look)
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
