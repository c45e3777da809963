"""An upstream played by the test itself, well behaved or not: it accepts when told to, and sends exactly what it is given."""

import contextlib
import socket
import struct
from collections.abc import Iterator

from emperor.protocol import packet

TIMEOUT_S = 10.0


class Peer:
    """One connection that the router has made."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(TIMEOUT_S)
        self._read = b""

    def packet(self) -> dict[str, str]:
        """The variables of a uwsgi packet; ``modifiers`` among them."""
        header = self.take(4)
        size = int.from_bytes(header[1:3], "little")
        modifier1, modifier2, pairs = packet.decode(header + self.take(size))
        found = {key.decode(): value.decode("latin-1") for key, value in pairs}
        return {**found, "modifiers": f"{modifier1} {modifier2}"}

    def head(self) -> tuple[str, dict[str, str]]:
        """The request line and the fields of an HTTP request, by lower-case names; none is there twice."""
        while b"\r\n\r\n" not in self._read:
            self._fill()
        block, _, self._read = self._read.partition(b"\r\n\r\n")
        line, *fields = block.decode("latin-1").split("\r\n")
        found: dict[str, str] = {}
        for each in fields:
            name, _, value = each.partition(": ")
            assert name.lower() not in found, block
            found[name.lower()] = value
        return line, found

    def chunks(self) -> bytes:
        """A chunked body, whole."""
        body = b""
        while True:
            while b"\r\n" not in self._read:
                self._fill()
            line, _, self._read = self._read.partition(b"\r\n")
            size = int(line, 16)
            body += self.take(size)
            assert self.take(2) == b"\r\n"
            if not size:
                return body

    def take(self, size: int) -> bytes:
        while len(self._read) < size:
            self._fill()
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def send(self, *pieces: bytes) -> "Peer":
        self.sock.sendall(b"".join(pieces))
        return self

    def answer(self, body: bytes = b"hello", status: str = "200 OK", *fields: str) -> "Peer":
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
        return self.send("\r\n".join(lines).encode(), body)

    def at_end(self) -> bool:
        """The router has closed the connection, or reset it; waits for it."""
        try:
            return not self.sock.recv(65536)
        except ConnectionError:
            return True

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def _fill(self) -> None:
        piece = self.sock.recv(262144)
        assert piece, f"the router closed after {self._read[:200]!r}"
        self._read += piece


class Backend:
    """A listening socket. Closed, it refuses, and its port stays its own until `forget`."""

    def __init__(self, protocol: str = "uwsgi") -> None:
        self.protocol = protocol
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.listener.listen(64)
        self.listener.settimeout(TIMEOUT_S)
        self.peers: list[Peer] = []

    @property
    def address(self) -> str:
        return f"{self.protocol}://127.0.0.1:{self.port}"

    def accept(self) -> Peer:
        """The next connection on which something comes: one that was tried for nobody's request (`probes`) is none."""
        while True:
            self.peers.append(Peer(self.listener.accept()[0]))
            with contextlib.suppress(ConnectionError):
                if not self.peers[-1].sock.recv(1, socket.MSG_PEEK):
                    continue
            return self.peers[-1]

    def asked(self) -> Peer:
        """A connection, once its request has come."""
        peer = self.accept()
        if self.protocol == "uwsgi":
            peer.packet()
        else:
            peer.head()
        return peer

    def refuse(self) -> None:
        """From now on."""
        self.listener.close()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))

    def listen_again(self) -> None:
        self.listener.listen(64)
        self.listener.settimeout(TIMEOUT_S)

    def expect_nobody(self, for_s: float = 0.1) -> None:
        self.listener.settimeout(for_s)
        with contextlib.suppress(TimeoutError):
            self.accept()
            raise AssertionError("the router has come")
        self.listener.settimeout(TIMEOUT_S)

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.listener.close()


@contextlib.contextmanager
def backends(count: int = 1, protocol: str = "uwsgi") -> Iterator[list[Backend]]:
    made = [Backend(protocol) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.close()
