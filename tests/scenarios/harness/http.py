"""An HTTP/1.1 client that sends exactly the bytes it is given and reads exactly what comes back."""

import socket
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_made: "weakref.WeakSet[Connection]" = weakref.WeakSet()


@dataclass(frozen=True)
class Response:
    """One whole response: status, fields with names in lower case (a repeated one joined by `, `), body."""

    status: int
    fields: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.body.decode()


class Connection:
    """One TCP or unix connection, from the address `source` of this host. Raises ConnectionError when the peer ends before a
    response is whole."""

    def __init__(self, address: int | str, timeout_s: float = 10.0, source: str = "") -> None:
        if isinstance(address, int):
            self.sock = socket.create_connection(
                ("127.0.0.1", address), timeout_s, (source, 0) if source else None
            )
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                self.sock.settimeout(timeout_s)
                self.sock.connect(address)
            except BaseException:
                self.sock.close()
                raise
        self._input = bytearray()
        _made.add(self)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Sends all of it, as it is."""
        self.sock.sendall(data)

    def request(
        self,
        host: str,
        path: str = "/",
        method: str = "GET",
        body: bytes | Iterable[bytes] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Response:
        """One request and its response. A body that is not bytes goes out chunked."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        elif body is not None:
            lines.append("Transfer-Encoding: chunked")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if isinstance(body, bytes):
            self.send(body)
        elif body is not None:
            for piece in body:
                self.send(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
            self.send(b"0\r\n\r\n")
        return self.read_response(head_only=method == "HEAD")

    def read_response(self, head_only: bool = False) -> Response:
        """The next final response (1xx are passed over)."""
        while True:
            status, pairs = self.read_head()
            if status >= 200:
                break
        fields: dict[str, str] = {}
        for name, value in pairs:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        if head_only or status in (204, 304):
            body = b""
        elif "chunked" in fields.get("transfer-encoding", ""):
            body = b"".join(self._chunks())
        elif "content-length" in fields:
            body = self._take(int(fields["content-length"]))
        else:
            body = self.read_to_end()
        return Response(status, fields, body, tuple(value for name, value in pairs if name == "set-cookie"))

    def read_head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and fields of the next head, a 1xx one too; the body stays to be read."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]
        return int(lines[0].split(" ", 2)[1]), [(name.lower(), value) for name, value in pairs]

    def read_to_end(self) -> bytes:
        """All bytes up to the peer's end of file."""
        while self._fill():
            pass
        rest, self._input = bytes(self._input), bytearray()
        return rest

    def read_some(self) -> bytes:
        """At least one byte, or nothing at the peer's end of file."""
        if not self._input:
            self._fill()
        piece, self._input = bytes(self._input), bytearray()
        return piece

    def reset(self) -> None:
        """Goes away with a RST, as a client that is killed with unread input does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def _chunks(self) -> Iterable[bytes]:
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            yield self._take(size)
            assert self._take(2) == b"\r\n"
        while self._until(b"\r\n") != b"\r\n":
            pass

    def _until(self, mark: bytes) -> bytes:
        while (end := self._input.find(mark)) < 0:
            if not self._fill():
                raise ConnectionError(f"the peer ended after {bytes(self._input)[:200]!r}")
        return self._take(end + len(mark))

    def _take(self, size: int) -> bytes:
        while len(self._input) < size:
            if not self._fill():
                raise ConnectionError(f"the peer ended {size - len(self._input)} bytes early")
        taken = bytes(self._input[:size])
        del self._input[:size]
        return taken

    def _fill(self) -> bool:
        received = self.sock.recv(262144)
        self._input += received
        return bool(received)


def close_all() -> None:
    """Closes what a test that failed has left open: a later one would fail for it, with a ResourceWarning."""
    for connection in list(_made):
        connection.close()


def fetch(
    address: int | str,
    host: str,
    path: str = "/",
    method: str = "GET",
    body: bytes | Iterable[bytes] | None = None,
    fields: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
    source: str = "",
) -> Response:
    """One request on a connection of its own."""
    with Connection(address, timeout_s, source) as connection:
        return connection.request(host, path, method, body, fields)


def answers(port: int, host: str, path: str) -> bool:
    """Somebody says 200 to a GET."""
    try:
        return fetch(port, host, path).status == 200
    except OSError:
        return False


def accepts(port: int) -> bool:
    """Somebody listens there."""
    try:
        Connection(port).close()
    except OSError:
        return False
    return True
