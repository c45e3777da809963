"""Statistics for whoever connects: one JSON document per connection, plain or as the answer to an HTTP GET.

Owns its listening sockets and every connection to them. What the client wants is found out by looking: one
that sends an HTTP request gets an HTTP response; one that sends nothing (`nc -U`, uwsgitop) gets the bare
document after 50 ms, or at once when it has closed its sending side. A client that reads slowly holds up
nobody: what the socket does not take waits for it until a deadline, in a bounded number of connections.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from emperor.supervisor.accepting import Accepting
from emperor.supervisor.loop import Loop, Timer

SILENCE_S = 0.05
HEAD_S = 2.0
SEND_S = 10.0
HEAD_BYTES = 16 * 1024
MOST_CONNECTIONS = 64

_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")

Document = Callable[[Callable[[bytes], None]], None]
"""Called with a function that takes the document's bytes, now or later, once."""


class StatsServer:
    """Answers on every socket given to `listen`."""

    def __init__(self, loop: Loop, document: Document) -> None:
        self._loop = loop
        self._document = document
        self._listening: dict[str, tuple[socket.socket, Accepting]] = {}
        self._connections: set[_Connection] = set()

    @property
    def quiet(self) -> bool:
        """Nobody is connected."""
        return not self._connections

    @property
    def listening(self) -> dict[str, socket.socket]:
        """Its sockets by their addresses."""
        return {address: sock for address, (sock, _) in self._listening.items()}

    def listen(self, sock: socket.socket, address: str) -> None:
        """Answer connections to this listening socket, which is ours to close from now on."""
        self._listening[address] = sock, Accepting(self._loop, sock, self._accept)

    def unlisten(self, address: str) -> None:
        """Close this listening socket; its connections stay."""
        self._listening.pop(address)[1].close()

    def rest(self) -> None:
        """Let who comes wait in the kernel, and answer who is there."""
        for _, accepting in self._listening.values():
            accepting.rest()

    def go_on(self) -> None:
        """Answer again, after a `rest`."""
        for _, accepting in self._listening.values():
            accepting.go_on()

    def close(self) -> None:
        """Close everything."""
        for _, accepting in self._listening.values():
            accepting.close()
        self._listening.clear()
        for connection in list(self._connections):
            connection.close()

    def _accept(self, sock: socket.socket) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            sock.close()
        else:
            self._connections.add(_Connection(self._loop, sock, self._document, self._connections.discard))


class _Connection:
    """One client: it is listened to, then answered, then closed."""

    def __init__(
        self, loop: Loop, sock: socket.socket, document: Document, on_closed: Callable[[_Connection], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._document = document
        self._on_closed = on_closed
        self._head = b""
        self._out = memoryview(b"")
        self._http = False
        self._asked = False
        self._open = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), self._readable)
        self._timer: Timer = loop.call_later(SILENCE_S, self._silent)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._timer.cancel()
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._on_closed(self)

    def _readable(self) -> None:
        try:
            chunk = self._sock.recv(HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self._asked:
            # Told enough; an end or noise while we answer changes nothing, but must not spin the poll.
            if not chunk:
                self._loop.update(self._sock.fileno(), None, self._writable)
            return
        self._head += chunk
        whole = b"\r\n\r\n" in self._head or b"\n\n" in self._head
        if self._is_http():
            if not self._http:
                self._http = True
                self._timer.cancel()
                self._timer = self._loop.call_later(HEAD_S, self._silent)
            if whole or not chunk or len(self._head) >= HEAD_BYTES:
                self._ask()
        elif not chunk or not any(method.startswith(self._head) for method in _METHODS):
            self._ask()

    def _silent(self) -> None:
        if not self._asked:
            self._ask()
        else:
            self.close()  # too slow to read

    def _is_http(self) -> bool:
        return self._head.startswith(_METHODS)

    def _ask(self) -> None:
        self._asked = True
        self._timer.cancel()
        self._timer = self._loop.call_later(SEND_S, self._silent)
        if self._http and not self._head.startswith((b"GET ", b"HEAD ")):
            self._send(
                _response("405 Method Not Allowed", b'{"error": "GET or HEAD"}\n', "Allow: GET, HEAD\r\n")
            )
        else:
            self._document(self._answer)

    def _answer(self, document: bytes) -> None:
        if not self._open:
            return
        if not self._http:
            self._send(document)
        elif self._head.startswith(b"HEAD "):
            self._send(_response("200 OK", document)[: -len(document)])
        else:
            self._send(_response("200 OK", document))

    def _send(self, data: bytes) -> None:
        self._out = memoryview(data)
        self._writable()

    def _writable(self) -> None:
        while self._out:
            try:
                self._out = self._out[self._sock.send(self._out, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._loop.update(self._sock.fileno(), self._readable, self._writable)
                return
            except OSError:
                self.close()
                return
        if self._asked:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            self.close()


def _response(status: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body
