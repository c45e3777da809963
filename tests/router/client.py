"""Clients that send exactly the bytes a test gives them, and read answers strictly enough to see a cut one."""

import contextlib
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from emperor.protocol import packet

TIMEOUT_S = 10.0


class CutShort(AssertionError):
    """The connection ended before the response did; ``how`` is closed or reset."""

    def __init__(self, how: str, got: bytes) -> None:
        super().__init__(f"{how} after {got!r}")
        self.how = how


@dataclass
class Response:
    """One response. ``framing`` is length, chunked, close (the end of the connection ends it) or none."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    framing: str = "none"
    interim: list[int] = field(default_factory=list)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Connection:
    """A connected socket and what has been read from it and not yet looked at."""

    def __init__(self, address: tuple[str, int] | str, timeout_s: float = TIMEOUT_S) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout_s)
        try:
            # A wait with a deadline is looked at twice, and who is one too many may be taken and reset in between:
            # that is a connection all the same, and what is read from it says how it ended.
            with contextlib.suppress(ConnectionResetError):
                self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, *pieces: bytes) -> Self:
        self.sock.sendall(b"".join(pieces))
        return self

    def send_as_far_as_it_goes(self, piece: bytes) -> None:
        """A client that writes on while the other side may already have closed."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(piece)

    def send_until_blocked(self, piece: bytes, limit_bytes: int = 64 << 20, for_s: float = 0.3) -> int:
        """Send it again and again until the other side has taken nothing for a while. Returns the bytes that went out."""
        sent = 0
        self.sock.settimeout(for_s)
        try:
            while sent < limit_bytes:
                sent += self.sock.send(piece)
        except TimeoutError:
            pass
        finally:
            self.sock.settimeout(TIMEOUT_S)
        return sent

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Gone without a goodbye."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def end(self) -> str:
        """Wait for the end of the connection: ``closed`` or ``reset``. Fails if bytes come instead."""
        assert not self._read, f"more has been read: {self._read!r}"
        try:
            more = self.sock.recv(65536)
        except ConnectionResetError:
            return "reset"
        assert not more, f"more came: {more!r}"
        return "closed"

    def everything_to_the_end(self) -> bytes:
        """All bytes until the other side closes."""
        with contextlib.suppress(CutShort):
            while True:
                self._more(b"")
        out, self._read = self._read, b""
        return out

    def _more(self, got: bytes) -> None:
        try:
            piece = self.sock.recv(65536)
        except ConnectionResetError:
            raise CutShort("reset", got + self._read) from None
        if not piece:
            raise CutShort("closed", got + self._read)
        self._read += piece

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            self._more(b"")
        out, _, self._read = self._read.partition(mark)
        return out

    def read_exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more(b"")
        out, self._read = self._read[:size], self._read[size:]
        return out

    def head(self) -> Response:
        """Status and headers of the next response, interim ones read over; its body is not read."""
        interim: list[int] = []
        while True:
            line, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            version, status, _ = line.split(" ", 2)
            assert version == "HTTP/1.1", line
            headers: dict[str, str] = {}
            for each in fields:
                name, _, value = each.partition(": ")
                assert name.lower() not in headers or name.lower() == "set-cookie", f"{name} twice"
                headers[name.lower()] = value
            if int(status) >= 200:
                return Response(int(status), headers, interim=interim)
            interim.append(int(status))

    def response(self, *, to_head: bool = False) -> Response:
        """The next whole response. Raises CutShort when the connection ends inside it."""
        response = self.head()
        headers = response.headers
        if to_head or response.status in (204, 304):
            return response
        if "transfer-encoding" in headers:
            assert headers["transfer-encoding"] == "chunked" and "content-length" not in headers
            response.framing = "chunked"
            while True:
                size = int(self._until(b"\r\n"), 16)
                response.body += self.read_exactly(size)
                assert self.read_exactly(2) == b"\r\n"
                if not size:
                    return response
        if "content-length" in headers:
            response.framing = "length"
            response.body = self.read_exactly(int(headers["content-length"]))
            return response
        response.framing = "close"
        try:
            while True:
                self._more(b"")
        except CutShort as cut:
            if cut.how != "closed":
                raise
        response.body, self._read = self._read, b""
        return response


def request(
    host: str = "blog.localhost", path: str = "/", *fields: str, method: str = "GET", version: str = "1.1"
) -> bytes:
    """The head of a well-formed request."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def get(host: str = "blog.localhost", path: str = "/", *fields: str) -> bytes:
    return request(host, path, *fields)


def post(body: bytes, host: str = "blog.localhost", path: str = "/", *fields: str) -> bytes:
    return request(host, path, f"Content-Length: {len(body)}", *fields, method="POST") + body


def chunked(*pieces: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def uwsgi(host: str = "blog.localhost", path: str = "/", body: bytes = b"", **variables: str) -> bytes:
    """A uwsgi packet as nginx's stock parameters make it, and a body."""
    pairs = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "REQUEST_URI": path,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        **variables,
    }
    return packet.encode((key.encode(), value.encode("latin-1")) for key, value in pairs.items()) + body
