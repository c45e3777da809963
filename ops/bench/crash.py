"""kill -9 of the one worker under load: what did it take along, and did anything run twice?

The requests are POSTs, which nobody may send again on his own account, each with a number of its own; the app writes the
number down before anything else, in a file that outlives it. 64 clients keep 64 requests under way, so that all but one
wait somewhere: that is what a crash may or may not take along.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from client import Connection, request
from row import Figures, Row, Size, Spoiled
from stacks import Stack

CLIENTS = 64
AGAIN_S = 15.0
"""How long the next answer is waited for after the kill."""
PAUSE_S = 0.01


@dataclass
class Flood:
    """The load, and what became of each request by number."""

    stack: Stack
    ledger: str
    sent: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    last_pid: int = 0
    _taken: dict[Connection, int] = field(default_factory=dict)
    _selector: selectors.SelectSelector = field(default_factory=selectors.SelectSelector)

    def run(self, until: float) -> None:
        """Until the instant; an answer is followed by the next request at once, a connection that ended by another one."""
        while (wait := until - time.monotonic()) > 0:
            while len(self._taken) < CLIENTS and self.connect():
                pass
            self.turn(min(wait, PAUSE_S))

    def finish(self, until: float) -> None:
        """Sends no more; waits for what is under way."""
        while self._taken and time.monotonic() < until:
            self.turn(PAUSE_S, again=False)
        for connection, number in self._taken.items():
            self.statuses[number] = 0
            connection.close()
        self._selector.close()

    def connect(self) -> bool:
        """One more client. False: nobody accepts now."""
        try:
            connection = Connection(self.stack.address)
        except OSError:
            return False
        self._selector.register(connection, selectors.EVENT_READ)
        self.ask(connection)
        return True

    def ask(self, connection: Connection) -> None:
        self.sent += 1
        self._taken[connection] = self.sent
        connection.send(request(self.stack.host, f"{self.ledger}?{self.sent}", "POST"))

    def turn(self, wait: float, again: bool = True) -> None:
        for key, _ in self._selector.select(wait):
            connection: Connection = key.fileobj
            # The selector knows it by descriptor: it has to forget it before a close.
            self._selector.unregister(connection)
            answer = connection.receive()
            if answer is None:
                self._selector.register(connection, selectors.EVENT_READ)
                continue
            self.statuses[self._taken.pop(connection)] = answer.status
            if answer.status == 200:
                self.last_pid = int(answer.body)
            if connection.alive and again and answer.status == 200:
                self._selector.register(connection, selectors.EVENT_READ)
                self.ask(connection)
            else:
                connection.close()


@dataclass(frozen=True)
class Crash(Row):
    def measure(self, stack: Stack, size: Size) -> Figures:
        ledger = stack.directory / f"ledger{time.monotonic_ns()}"
        flood = Flood(stack, str(ledger))
        flood.run(time.monotonic() + size.seconds / 2)
        killed = flood.last_pid
        if killed == 0:
            raise Spoiled("no answer before the kill")
        os.kill(killed, signal.SIGKILL)
        at = time.monotonic()
        while flood.last_pid == killed and time.monotonic() < at + AGAIN_S:
            flood.run(time.monotonic() + PAUSE_S)
        back_s = time.monotonic() - at
        flood.run(time.monotonic() + size.seconds / 2)
        flood.finish(time.monotonic() + AGAIN_S)
        if flood.last_pid == killed:
            raise Spoiled(f"no answer within {AGAIN_S:g} s after the kill")
        begun = Counter(int(line) for line in ledger.read_text().split())
        lost = [number for number, status in flood.statuses.items() if status != 200]
        return {
            "answered": len(flood.statuses) - len(lost),
            "lost": len(lost),
            "lost_unbegun": sum(number not in begun for number in lost),
            "twice": sum(count > 1 for count in begun.values()),
            "back_ms": back_s * 1000,
        }
