"""WebSockets: echoes under a closed loop, and what one costs that is open and says nothing.

The client speaks raw frames, prepared once: it must not be what is measured. Peers are alone, with nothing before them,
while ours is reached through its router.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

from client import connected
from idle import FIRST, PER_ADDRESS, raise_descriptors
from processes import cpu_seconds, pss_bytes
from row import Figures, Goal, Row, Size, Spoiled
from stacks import APP_DIR, BIN, Emperor, GranianAsgi, Site, Stack

CONNECTIONS = 64
IDLE = 10_000
TEXT = b"0123456789abcdef" * 4
MASK = b"\x12\x34\x56\x78"
SENT = (
    b"\x81" + bytes((0x80 | len(TEXT),)) + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(TEXT))
)
ECHO = b"\x81" + bytes((len(TEXT),)) + TEXT
CLOSE = b"\x88\x82" + MASK + bytes(byte ^ MASK[at] for at, byte in enumerate(b"\x03\xe8"))


class EmperorAsgi(Emperor):
    """The same, with room for all connections in its one worker."""

    def launch(self) -> None:
        vassals = self.directory / "vassals"
        vassals.mkdir()
        lines = ["[uwsgi]", f"asgi = {self.site.app}:application", f"pythonpath = {APP_DIR}"]
        lines.append(f"concurrency = {IDLE + 1000}")
        (vassals / f"{self.site.app}.ini").write_text("\n".join(lines) + "\n")
        run_dir = self.directory / "run"
        self.spawn(BIN / "emperor", "start", vassals, "--http", self.address, "--run-dir", run_dir)


class UvicornWsproto(Stack):
    name = "uvicorn (wsproto)"
    settings = "alone: `--ws wsproto --loop uvloop --http h11`, one worker, no access log"

    def launch(self) -> None:
        host, _, port = self.address.partition(":")
        how = (
            "--ws",
            "wsproto",
            "--loop",
            "uvloop",
            "--http",
            "h11",
            "--no-access-log",
            "--log-level",
            "warning",
        )
        app = f"{self.site.app}:application"
        self.spawn(BIN / "uvicorn", *how, "--host", host, "--port", port, app, PYTHONPATH=str(APP_DIR))


class GranianSockets(GranianAsgi):
    name = "granian (ASGI, --ws)"
    settings = "alone: `--interface asgi --ws --workers N`, no access log"
    shape = (*GranianAsgi.shape, "--ws")


def opened(stack: Stack, source: str = "127.0.0.1") -> socket.socket:
    """One WebSocket. Raises Spoiled when it is not accepted."""
    made = connected(stack.address, source)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.sendall(
        f"GET / HTTP/1.1\r\nHost: {stack.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = made.recv(1)
        if not piece:
            raise Spoiled(f"no WebSocket: {head[:200]!r}")
        head += piece
    if not head.startswith(b"HTTP/1.1 101"):
        raise Spoiled(f"no WebSocket: {head[:200]!r}")
    return made


@dataclass(frozen=True)
class Echo(Row):
    connections: int = CONNECTIONS

    def measure(self, stack: Stack, size: Size) -> Figures:
        clients = [opened(stack) for _ in range(self.connections)]
        try:
            if size.warm_up_s:
                self.load(clients, size.warm_up_s)
            before = cpu_seconds(stack.roots)
            count, took_s, latencies = self.load(clients, size.seconds)
            spent = cpu_seconds(stack.roots) - before
        finally:
            for client in clients:
                client.close()
        latencies.sort()
        return {
            "messages_per_s": count / took_s,
            "cpu_us": spent * 1e6 / max(count, 1),
            "p50_ms": latencies[len(latencies) // 2] * 1e3,
            "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        }

    def load(self, clients: list[socket.socket], seconds: float) -> tuple[int, float, list[float]]:
        """A message on each, and the next when its echo is there. Every 16th is timed."""
        poll = select.epoll()
        by_fd = {client.fileno(): client for client in clients}
        left = dict.fromkeys(by_fd, len(ECHO))
        since: dict[int, float] = {}
        latencies: list[float] = []
        count = 0
        for fd, client in by_fd.items():
            client.setblocking(False)
            poll.register(fd, select.EPOLLIN)
            client.send(SENT)
        begun = time.monotonic()
        until = begun + seconds
        while (now := time.monotonic()) < until:
            for fd, _ in poll.poll(1):
                client = by_fd[fd]
                piece = client.recv(4096)
                if piece != ECHO:
                    left[fd] -= len(piece)
                    if not piece or left[fd] < 0 or piece not in ECHO:
                        raise Spoiled(f"an echo that is none: {piece[:100]!r}")
                    if left[fd]:
                        continue
                    left[fd] = len(ECHO)
                count += 1
                if fd in since:
                    latencies.append(time.monotonic() - since.pop(fd))
                if not count & 15:
                    since[fd] = now
                client.send(SENT)
        took_s = time.monotonic() - begun
        # What is still to come belongs to this run.
        for client in clients:
            client.settimeout(5)
            while left[client.fileno()] and (piece := client.recv(left[client.fileno()])):
                left[client.fileno()] -= len(piece)
        poll.close()
        return count, took_s, latencies or [0.0]


@dataclass(frozen=True)
class IdleSockets(Row):
    def measure(self, stack: Stack, size: Size) -> Figures:
        count = size.many(IDLE)
        raise_descriptors(count + 200)
        stack.start()
        clients: list[socket.socket] = []
        try:
            self.open(stack, clients, FIRST)
            before = pss_bytes(stack.roots)
            self.open(stack, clients, count)
            time.sleep(size.settle_s)
            return {"connection_kb": (pss_bytes(stack.roots) - before) / count / 1024}
        finally:
            for client in clients:
                client.close()

    def open(self, stack: Stack, clients: list[socket.socket], count: int) -> None:
        """So many more, each with one message and its echo behind it."""
        for _ in range(count):
            client = opened(stack, f"127.0.0.{2 + len(clients) // PER_ADDRESS}")
            clients.append(client)
            client.sendall(SENT)
            found = b""
            while len(found) < len(ECHO) and (piece := client.recv(len(ECHO) - len(found))):
                found += piece
            if found != ECHO:
                raise Spoiled(f"connection {len(clients)}: {found!r}")


ROWS: tuple[Row, ...] = (
    Echo(
        "ws-echo",
        "WebSocket echo, 64 connections, 64 bytes",
        Site("wsecho"),
        (EmperorAsgi, UvicornWsproto, GranianSockets),
        (
            Goal("messages_per_s", (UvicornWsproto.name,), 1.0),
            Goal("messages_per_s", (GranianSockets.name,), None, 1.0),
        ),
        "A message on each connection, the next when its echo has come; one worker each, peers without a front server. CPU is "
        "per message, of router and worker.",
    ),
    IdleSockets(
        "ws-idle",
        "10,000 idle WebSockets",
        Site("wsecho"),
        (EmperorAsgi, UvicornWsproto, GranianSockets),
        (Goal("connection_kb", (), 30.0, 15.0, most=True),),
        "Each has had one echo. Growth of the PSS of all the stack's processes since the hundredth; the kernel's own memory is "
        "not in it. A new stack for each run.",
        rounds_most=3,
        fresh=True,
    ),
)
STACKS: tuple[type[Stack], ...] = (UvicornWsproto, GranianSockets)
