"""Pieces for tests of the pure modules: a request head, an exchange, and the two sides that an exchange knows."""

from emperor.protocol import packet
from emperor.protocol.packet import RequestHead
from emperor.router.exchange import Client, Exchange


class Nobody(Client):
    """A front and an app that are not asked for anything."""

    name = "blog"

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a pure module called {name}")


def head(content_length: int | None = None, path: str = "/") -> RequestHead:
    """A GET; with a length, a POST."""
    pairs = [
        (b"REQUEST_METHOD", b"GET" if content_length is None else b"POST"),
        (b"HTTP_HOST", b"blog.localhost"),
        (b"PATH_INFO", path.encode()),
    ]
    if content_length is not None:
        pairs.append((b"CONTENT_LENGTH", b"%d" % content_length))
    return packet.admit(packet.encode(pairs))


def exchange(arrived: float = 0.0, *, content_length: int | None = None, deadline: float = 0.0) -> Exchange:
    nobody = Nobody()
    made = Exchange(nobody, head(content_length), arrived, nobody)  # type: ignore[arg-type]
    made.queue_deadline = deadline or arrived + 10.0
    return made
