"""A client connection of the router without sockets, loop or workers: bytes in, and what an app would be given.

For tests and fuzzing of how connections frame requests; what a connection tells the router besides is swallowed.
"""

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

from emperor.config.settings import RouterSettings
from emperor.router.app import App
from emperor.router.front import Door
from emperor.router.routes import Routes


class Clock:
    """A loop on which nothing is later than now."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def time(self) -> float:
        return 1.0

    def call_soon(self, call: Callable[[], None], *_: object) -> None:
        self.due.append(call)

    def add_reader(self, fd: int, callback: object) -> None:
        pass


class Everywhere(Routes):
    """All ways but one lead to one app."""

    def find(self, host: bytes, path: bytes) -> App | None:
        return None if path == b"/nobody" else self.fallback


class Street(Door):
    """A door that leads everything to one app."""

    def __init__(self, app: App) -> None:
        super().__init__(Clock(), RouterSettings())  # type: ignore[arg-type]
        self.routes = Everywhere(fallback=app)
        self.date = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"

    def opened(self, front: object) -> None: ...

    def closed(self, front: object) -> None: ...

    def count_error(self, status: int) -> None: ...

    def log(self, level: str, text: str) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., None]:
        # What else a connection may tell the router is of no matter here.
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None


class Sink(App):
    """An app that takes each request whole, remembers it, and answers at once."""

    def __init__(self) -> None:
        self.name = "sink"
        self.body_limit = 100_000
        self.taken: list[tuple[bytes, bytes]] = []

    def submit(self, exchange: object) -> None:
        self.body_arrived(exchange)

    def body_arrived(self, exchange) -> None:  # type: ignore[no-untyped-def]
        if exchange.body_done:
            body = b"".join(exchange.chunks or ())
            exchange.forget_body()
            self.taken.append((exchange.head.packet, body))
            exchange.front.respond(exchange, b"200 OK\r\n", b"ok", True)

    def give_up(self, exchange: object) -> None: ...

    def refused(self, status: int, limit: str) -> None: ...

    def say(self, kind: str, level: str, text: str) -> None: ...

    def drop_if_waiting(self, exchange: object) -> bool:
        return False

    def written(self, exchange: object, count: int) -> None: ...


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "a write behind the close"
        self.written.append(data)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80), "socket": INET}.get(
            name, default
        )

    def close(self) -> None:
        self.closed = True

    abort = close
    write_eof = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


INET = SimpleNamespace(
    family=socket.AF_INET,
    setsockopt=lambda *_: None,
    fileno=lambda: -1,
    getsockname=lambda: ("192.0.2.2", 80),
)
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def converse(
    kind: Callable[[Door], object], parts: Iterable[bytes]
) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """The requests that the app was given, and the statuses that the client was answered with."""
    taken: list[tuple[bytes, bytes]] = []
    statuses: list[bytes] = []
    for requests, written in exchanges(kind, parts):
        taken += requests
        statuses += STATUS_LINE.findall(written)
    return taken, statuses


def exchanges(
    kind: Callable[[Door], object], parts: Iterable[bytes]
) -> Iterator[tuple[list[tuple[bytes, bytes]], bytes]]:
    """For each part that comes in on one connection: the requests that the app was given, and what went out."""
    sink = Sink()
    door = Street(sink)
    wire = Wire()
    front = kind(door)
    front.connection_made(wire)  # type: ignore[attr-defined]
    for part in parts:
        front.data_received(part)  # type: ignore[attr-defined]
        while door.loop.due:  # type: ignore[attr-defined]
            door.loop.due.pop(0)()  # type: ignore[attr-defined]
        yield sink.taken, b"".join(wire.written)
        sink.taken = []
        wire.written.clear()
