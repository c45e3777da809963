"""A client for what wrk cannot do: requests at instants of our choice, and what became of each.

It reads as much of HTTP/1.1 as the bench's apps and the error pages of all stacks need: a status, Content-Length, and the
end of the connection for everything else.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

READ = 65536

IP_BIND_ADDRESS_NO_PORT = 24
"""Of Linux's <linux/in.h>; `socket` has it from Python 3.12 on."""


def connected(address: str, source: str) -> socket.socket:
    """A connection from this address of ours. Its port is chosen with the other end in view: there are more connections in
    TIME_WAIT, of stacks before this one, than an address has ports."""
    host, _, port = address.partition(":")
    made = socket.socket()
    made.settimeout(10)
    made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    made.bind((source, 0))
    made.connect((host, int(port)))
    return made


@dataclass(frozen=True)
class Answer:
    """A response. Status 0: the connection ended before a whole one had come."""

    status: int
    body: bytes = b""


@dataclass(eq=False)
class Connection:
    """One connection to a stack; one request at a time."""

    address: str
    source: str = "127.0.0.1"
    socket: socket.socket = field(init=False)
    alive: bool = field(init=False, default=True)
    _received: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        self.socket = connected(self.address, self.source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.alive = False
        self.socket.close()

    def send(self, request: bytes) -> None:
        """Requests are small: they fit into the socket's buffer. One that finds the connection closed is answered with
        status 0, as one that is lost on the way."""
        try:
            self.socket.sendall(request)
        except OSError:
            self.alive = False

    def receive(self) -> Answer | None:
        """Reads once. None: the response is not whole yet. An answer after which the connection is of no more use closes it."""
        try:
            piece = self.socket.recv(READ)
        except OSError:
            piece = b""
        self._received += piece
        head, gap, body = self._received.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in fields if line.startswith(b"content-length:")), None)
        if gap and length is not None and len(body) >= length:
            self._received = b""
            if b"connection: close" in fields or head.startswith(b"HTTP/1.0"):
                self.close()
            return Answer(int(head[9:12]), body)
        if piece:
            return None
        self.close()
        return Answer(int(head[9:12]) if gap and length is None else 0, body)

    def ask(self, request: bytes) -> Answer:
        """One request, waited for."""
        self.send(request)
        while True:
            answer = self.receive()
            if answer is not None:
                return answer


def request(host: str, target: str = "/", method: str = "GET") -> bytes:
    extra = "Content-Length: 0\r\n" if method == "POST" else ""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode()
