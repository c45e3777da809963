"""Ends workers that a request holds for too long, and says where they were.

The router decides: it knows each request, its path and so its limit, and answers its client; its word comes through the
emperor. Where no router can (the worker has no link, the router or the emperor is away), the page alone decides, a little
later and only if no request of the vassal may run without a limit. Decision 0021.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Final, Protocol

from emperor.config.deadlines import Deadlines
from emperor.protocol.scoreboard import now_ns
from emperor.supervisor.loop import Loop

from .sentence import Sentence, late

LOOK_S: Final = 0.025
BACKSTOP_S: Final = 2.0
"""How much later than a router the gateway acts of its own."""
TEXT_CHARS: Final = 600
MOST_VARIABLES: Final = 100


class Prison(Protocol):
    """What is needed of the gateway."""

    def serving(self) -> list[int]:
        """Seats whose workers have loaded the app and have not ended."""

    def pid_at(self, seat: int) -> int:
        """Of its living worker; 0: none."""

    def slots_of(self, seat: int) -> list[tuple[int, int]]:
        """``(stream, start in ns)`` of every slot, as the page says."""

    def trace(self, seat: int, take: Callable[[list[str], str], None]) -> None:
        """Have its worker show its stacks."""

    def end(self, seat: int, signum: int) -> None:
        """Signal its worker."""

    def condemned(self, seat: int) -> None:
        """Its worker is told to leave, and reported so."""

    def say(self, lines: list[str]) -> None:
        """Lines for the log of the app's output."""

    def note(self, level: str, text: str) -> None:
        """A line for the emperor's log."""


class Harakiri:
    """The sentences of one gateway's workers."""

    def __init__(self, deadlines: Deadlines, stop_timeout_s: float, loop: Loop, prison: Prison) -> None:
        self._deadlines = deadlines
        self._longest_s = max(stop_timeout_s, deadlines.harakiri.most_s)
        self._loop = loop
        self._prison = prison
        self._sentences: dict[int, Sentence] = {}
        self._tracing: set[int] = set()
        self._looking = False

    def start(self) -> None:
        """Look at the page by our own clock."""
        if self._deadlines.backstop_s:
            self._loop.call_later(self._deadlines.backstop_s, self._watch)

    def order(self, message: dict[str, Any]) -> None:
        """The router's word. What makes no sense any more is dropped: the worker may have ended meanwhile."""
        match message:
            case {"seat": int(seat), "pid": int(pid), "stream": int(stream), "ran_ms": int(ran_ms)}:
                request, variables = message.get("request"), message.get("variables")
                if pid and self._prison.pid_at(seat) == pid:
                    said = variables if isinstance(variables, list) else []
                    self._condemn(
                        seat,
                        stream,
                        ran_ms / 1000,
                        request[:TEXT_CHARS] if isinstance(request, str) else "",
                        [each[:TEXT_CHARS] for each in said[:MOST_VARIABLES] if isinstance(each, str)],
                    )

    def overran(self, seat: int, pid: int) -> None:
        """A limit that its app itself has set is over (`uwsgi.set_user_harakiri`). Which request it was, the page does not say:
        the one that has run longest."""
        if self._prison.pid_at(seat) == pid:
            running = [(start, stream) for stream, start in self._prison.slots_of(seat) if stream]
            if running:
                start, stream = min(running)
                text = "what its app has given less time (set_user_harakiri)"
                self._condemn(seat, stream, (now_ns() - start) / 1e9, text, [])

    def why(self, seat: int) -> str:
        """Why its worker was to end; empty: it was not."""
        sentence = self._sentences.get(seat)
        return "" if sentence is None else sentence.why

    def ended(self, seat: int) -> None:
        """Its worker has."""
        self._sentences.pop(seat, None)
        self._tracing.discard(seat)

    def _condemn(self, seat: int, stream: int, ran_s: float, request: str, variables: list[str]) -> None:
        sentence = self._sentences.get(seat)
        if sentence is None:
            why = f"harakiri: a request had run for {ran_s:.1f} s"
            sentence = Sentence(self._loop.now(), self._longest_s, self._deadlines.grace_s, why)
            self._sentences[seat] = sentence
            self._prison.condemned(seat)
        elif stream in sentence.streams:
            return
        sentence.streams.add(stream)
        who = f"worker {seat} (pid {self._prison.pid_at(seat)})"
        what = request or f"a request (stream {stream:#x}, of which no router told)"
        self._prison.note(
            "error", f"harakiri: {who}: {what} has run for {ran_s:.1f} s; its stacks go to the app's log"
        )
        head = [
            f"harakiri: {who}: {what} has run for {ran_s:.1f} s",
            *(f"harakiri: {each}" for each in variables),
        ]

        def take(lines: list[str], mute: str) -> None:
            self._tracing.discard(seat)
            self._prison.say([*head, *lines, f"harakiri: {who}: {mute or 'end of its stacks'}"])

        self._tracing.add(seat)
        self._prison.trace(seat, take)
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        now = self._loop.now()
        for seat, sentence in self._sentences.items():
            if seat in self._tracing:
                continue
            busy = {stream for stream, _ in self._prison.slots_of(seat) if stream}
            match sentence.step(now, busy):
                case "signal":
                    self._prison.end(seat, self._deadlines.signal)
                case "kill":
                    self._prison.end(seat, signal.SIGKILL)
        if self._sentences:
            self._look_soon()

    def _watch(self) -> None:
        limit_s = self._deadlines.backstop_s + BACKSTOP_S
        next_s = limit_s
        for seat in self._prison.serving():
            found, seat_s = late(self._prison.slots_of(seat), limit_s, now_ns())
            next_s = min(next_s, seat_s)
            for stream, ran_s in found:
                self._condemn(seat, stream, ran_s, "", [])
        self._loop.call_later(max(next_s, LOOK_S), self._watch)
