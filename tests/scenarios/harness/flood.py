"""An open-loop client in a process of its own: requests leave on schedule, whatever has become of the ones
before.

Each request carries a nonce that the nonce app echoes. What is recorded of each is what its user saw: an
answer, whose it was, and how long after the scheduled instant it was whole. A request is sent once; nothing
is tried again here.

In the process of its own runs `main`: the plan is a line of JSON on stdin, the end of stdin ends the
schedule, the records go to the plan's file as lines of JSON once every request has its outcome.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .orphans import Orphans

TIMEOUT_S = 20.0
# An idle connection older than this is not used again: a server may be about to close it, and that is no
# fault of its own.
REUSE_S = 2.0
READY = b"flood ready\n"
PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Target:
    """A kind of request: to `vassal`, with `query` after the nonce, and a body of `body_bytes` when not 0. One that `closes`
    has a connection of its own."""

    vassal: str
    query: str = ""
    body_bytes: int = 0
    closes: bool = False


@dataclass(frozen=True)
class Answer:
    """One request and what became of it. Instants are CLOCK_MONOTONIC seconds.

    `outcome` is the status code as text, or `refused` (no connection), `lost` (the connection ended before
    the answer was whole), `timeout`. `own` says that a 200 echoed this request's nonce. `seen` is what its client saw of
    the connection, where it was no 200.
    """

    nonce: str
    vassal: str
    scheduled_s: float
    done_s: float
    outcome: str
    own: bool
    pid: int
    reused: bool
    seen: str = ""

    @property
    def latency_ms(self) -> float:
        return (self.done_s - self.scheduled_s) * 1000

    @property
    def ok(self) -> bool:
        return self.outcome == "200" and self.own


class Flood:
    """The client process. `start`, then disturb the fleet, then `stop` for the answers. `within` stands before its command, as
    a `Host` has it."""

    def __init__(
        self,
        orphans: Orphans,
        port: int,
        targets: Sequence[Target],
        file: Path,
        rate: float = 300,
        tag: str = "f",
        within: Sequence[str] = (),
    ) -> None:
        self._orphans = orphans
        self._within = within
        self._plan = {
            "port": port,
            "targets": [asdict(target) for target in targets],
            "rate": rate,
            "file": str(file),
            "tag": tag,
        }
        self._file = file
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> "Flood":
        """Returns once the schedule runs."""
        self._child = self._orphans.popen(
            [*self._within, sys.executable, "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            start_new_session=True,
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(self._plan).encode() + b"\n")
        self._child.stdin.flush()
        assert self._child.stdout.readline() == READY, "the client process did not start"
        return self

    def stop(self, deadline_s: float = TIMEOUT_S + 5) -> list[Answer]:
        """Ends the schedule and returns every request's outcome, in the order of the schedule."""
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        code = self._child.wait(deadline_s)
        self._child.stdout.close()
        assert code == 0, f"the client process failed: {code}"
        return [Answer(**json.loads(line)) for line in self._file.read_text().splitlines()]


class _Wire(asyncio.Protocol):
    """One connection, one request at a time; answers carry Content-Length or end with the last chunk."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.port = 0
        self.input = bytearray()
        self.waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self.lost = False
        self.is_last = False  # the server has said that it closes
        self.idle_since = 0.0
        self.asked_s = 0.0
        self.answered = 0
        self.before = ""  # the head of the last answer
        self.ended = ""  # how, if the server did that

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        self.input += data
        if self.waiter is not None and not self.waiter.done() and (answer := self._whole()) is not None:
            self.waiter.set_result(answer)

    def eof_received(self) -> None:
        self.ended = "FIN"

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.ended = self.ended if error is None else repr(error)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionError("lost"))

    def _whole(self) -> tuple[int, bytes] | None:
        end = self.input.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.input[:end]).lower()
        body = self.input[end + 4 :]
        self.is_last = b"\r\nconnection: close" in head
        if (at := head.find(b"content-length:")) >= 0:
            size = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(body) < size:
                return None
            rest = bytes(body[:size])
        elif b"transfer-encoding: chunked" in head:
            if not body.endswith(b"0\r\n\r\n"):
                return None
            rest = bytes(body).partition(b"\r\n")[2]  # from the first chunk's content on
        else:
            return None
        self.before = head.decode("latin-1")
        self.answered += 1
        self.input.clear()
        return int(head[9:12]), rest

    def told(self) -> str:
        """What has become of it, for people."""
        now = time.monotonic()
        idle = (
            f"{(self.asked_s - self.idle_since) * 1000:.1f} ms after {self.before!r}"
            if self.answered
            else "at once"
        )
        return (
            f"{self.ended or 'open'}, {(now - self.asked_s) * 1000:.1f} ms after request {self.answered + 1} of port "
            f"{self.port}, which was sent {idle}; of its answer {bytes(self.input)!r}"
        )


class _Client:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.port = plan["port"]
        self.targets = [Target(**target) for target in plan["targets"]]
        self.period_s = 1 / plan["rate"]
        self.tag = plan["tag"]
        self.idle: list[_Wire] = []
        self.answers: list[Answer] = []

    async def run(self, stop: asyncio.Event) -> list[Answer]:
        loop = asyncio.get_running_loop()
        began, number = time.monotonic(), 0
        tasks: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            scheduled = began + number * self.period_s
            if (wait_s := scheduled - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            task = loop.create_task(self.one(number, scheduled))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        if tasks:
            await asyncio.wait(tasks)
        for wire in self.idle:
            wire.transport.close()
        return sorted(self.answers, key=lambda answer: answer.scheduled_s)

    async def one(self, number: int, scheduled: float) -> None:
        target = self.targets[number % len(self.targets)]
        nonce = f"{self.tag}{number}"
        blank = Answer(nonce, target.vassal, scheduled, 0, "", False, 0, False)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self.exchange(target, blank)
        except TimeoutError:
            answer = replace(blank, outcome="timeout")
        self.answers.append(replace(answer, done_s=time.monotonic()))

    async def exchange(self, target: Target, blank: Answer) -> Answer:
        loop = asyncio.get_running_loop()
        wire = None if target.closes else self.take_idle()
        reused = wire is not None
        if wire is None:
            try:
                _, wire = await loop.create_connection(_Wire, "127.0.0.1", self.port)
            except OSError:
                return replace(blank, outcome="refused")
        wire.waiter = loop.create_future()
        method = "POST" if target.body_bytes else "GET"
        head = f"{method} /?n={blank.nonce}{target.query} HTTP/1.1\r\nHost: {target.vassal}.localhost\r\n"
        if target.closes:
            head += "Connection: close\r\n"
        if target.body_bytes:
            head += f"Content-Length: {target.body_bytes}\r\n"
        wire.asked_s = time.monotonic()
        try:
            wire.transport.write(head.encode() + b"\r\n" + b"b" * target.body_bytes)
            status, body = await wire.waiter
        except ConnectionError:
            return replace(blank, outcome="lost", reused=reused, seen=wire.told())
        except asyncio.CancelledError:
            wire.transport.abort()
            raise
        wire.idle_since = time.monotonic()
        if target.closes or wire.is_last:
            wire.transport.close()
        else:
            self.idle.append(wire)
        words = body.split()
        own = status == 200 and words[:1] == [blank.nonce.encode()] and words[2] == b"%d" % target.body_bytes
        pid = int(words[1]) if own else 0
        return replace(
            blank,
            outcome=str(status),
            own=own,
            pid=pid,
            reused=reused,
            seen="" if own else f"{wire.before} {body[:200]!r}",
        )

    def take_idle(self) -> _Wire | None:
        oldest = time.monotonic() - REUSE_S
        while self.idle:
            wire = self.idle.pop()
            if not wire.lost and wire.idle_since > oldest and not wire.transport.is_closing():
                return wire
            wire.transport.close()
        return None


async def _main(plan: dict[str, Any]) -> list[Answer]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)  # readable again only at its end
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    waiting = asyncio.ensure_future(stop.wait())
    waiting.add_done_callback(lambda _: loop.remove_reader(sys.stdin.fileno()))
    return await _Client(plan).run(stop)


def main() -> None:
    """The client process, from the plan on stdin to the records in the plan's file."""
    plan = json.loads(sys.stdin.buffer.raw.read(1 << 20))  # type: ignore[attr-defined]
    found = asyncio.run(_main(plan))
    Path(plan["file"]).write_text("".join(json.dumps(asdict(answer)) + "\n" for answer in found))
