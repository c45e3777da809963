"""Slow clients in a process of their own, thousands of them: heads that drip, bodies that stall, readers that hardly read.

``Slow`` starts and asks; ``main`` runs in the process, told by one line of JSON on stdin, telling by lines of JSON on
stdout: ``{"open": N}`` once all are connected, then on the end of stdin, or when nothing is left, what became of
them. They come from several loopback addresses, as from several clients.
"""

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .orphans import Orphans
from .waiting import wait_for

PROJECT = Path(__file__).parents[3]
PER_ADDRESS = 1000
CONNECTED_AT_ONCE = 50


@dataclass(frozen=True)
class Plan:
    """Each client sends `first`, then `drip` every `every_s` (nothing if empty), and takes
    `read_bytes_per_s` of what comes (0: all of it)."""

    port: int
    count: int
    first: str
    drip: str = ""
    every_s: float = 1.0
    read_bytes_per_s: int = 0


@dataclass
class Ended:
    """How many the router ended, with which first line, and how long the longest-lived of them was open; `left` are those
    that were still open when the process was told to go, `refused` those that never were. `read` is bytes, in all."""

    ended: int = 0
    left: int = 0
    refused: int = 0
    longest_s: float = 0.0
    read: int = 0
    answers: dict[str, int] = field(default_factory=dict)


class Slow:
    """The process. `opened` waits until all are connected, `wait_ended` until the router has ended all of them; `stop`
    tells the process to go."""

    def __init__(self, orphans: Orphans, plan: Plan) -> None:
        code = "from tests.scenarios.harness.slow import main; main()"
        self._process = orphans.popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            start_new_session=True,
        )
        self._process.stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
        self._process.stdin.flush()

    def opened(self) -> int:
        """How many are connected."""
        return int(json.loads(self._process.stdout.readline())["open"])

    def wait_ended(self, deadline_s: float) -> Ended:
        """All that there were, ended by the router."""
        stream = self._process.stdout
        wait_for(
            lambda: select.select([stream], [], [], 0)[0],
            deadline_s,
            "the router to end the slow connections",
            every_s=0.05,
        )
        return self._result()

    def stop(self) -> Ended:
        self._process.stdin.close()
        return self._result()

    def _result(self) -> Ended:
        ended = Ended(**json.loads(self._process.stdout.readline()))
        if not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)
        return ended


class _Client:
    __slots__ = ("answer", "next_at", "opened_at", "sent", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.opened_at = time.monotonic()
        self.next_at = 0.0
        self.sent = False
        self.answer = b""


class _Crowd:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.poll = select.epoll()
        self.clients: dict[int, _Client] = {}
        self.result = Ended()

    def open(self) -> None:
        left = self.plan.count
        while left:
            for _ in range(min(left, CONNECTED_AT_ONCE)):
                self._connect(self.plan.count - left)
                left -= 1
            self.turn(0.01)
        print(json.dumps({"open": len(self.clients)}), flush=True)

    def _connect(self, number: int) -> None:
        sock = socket.socket()
        if self.plan.read_bytes_per_s:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.bind((f"127.0.{1 + number // PER_ADDRESS}.1", 0))
        try:
            sock.settimeout(10)
            sock.connect(("127.0.0.1", self.plan.port))
        except OSError:
            self.result.refused += 1
            sock.close()
            return
        sock.setblocking(False)
        client = self.clients[sock.fileno()] = _Client(sock)
        self.poll.register(sock.fileno(), 0 if self.plan.read_bytes_per_s else select.EPOLLIN)
        self._send(client, self.plan.first)
        client.next_at = time.monotonic() + self.plan.every_s

    def _send(self, client: _Client, text: str) -> None:
        try:
            client.sock.send(text.encode())
        except BlockingIOError:
            pass
        except OSError:
            self._end(client)

    def turn(self, timeout_s: float) -> None:
        for fd, events in self.poll.poll(timeout_s, 1000):
            client = self.clients.get(fd)
            if client is not None:
                self._take(client, 65536) if events & select.EPOLLIN else self._end(client)
        now = time.monotonic()
        plan = self.plan
        for client in [each for each in self.clients.values() if each.next_at <= now]:
            client.next_at = now + plan.every_s
            if plan.drip:
                self._send(client, plan.drip)
            if plan.read_bytes_per_s:
                self._take(client, int(plan.read_bytes_per_s * plan.every_s))

    def _take(self, client: _Client, size: int) -> None:
        try:
            piece = client.sock.recv(size)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._end(client)
        self.result.read += len(piece)
        client.answer = client.answer or piece[:12]

    def _end(self, client: _Client) -> None:
        if self.clients.pop(client.sock.fileno(), None) is None:
            return
        self.poll.unregister(client.sock.fileno())
        client.sock.close()
        result = self.result
        result.ended += 1
        result.longest_s = max(result.longest_s, time.monotonic() - client.opened_at)
        word = client.answer.decode("latin-1")[9:12] or "-"
        result.answers[word] = result.answers.get(word, 0) + 1

    def run(self) -> None:
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN)
        while self.clients and not select.select([sys.stdin], [], [], 0)[0]:
            self.turn(0.05)
        self.result.left = len(self.clients)
        print(json.dumps(asdict(self.result)), flush=True)


def main() -> None:
    """The process."""
    plan: dict[str, Any] = json.loads(sys.stdin.buffer.raw.readline())  # type: ignore[attr-defined]
    crowd = _Crowd(Plan(**plan))
    crowd.open()
    crowd.run()
