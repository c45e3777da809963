"""uwsgi packets (uWSGI ``proto/uwsgi.c``), hostile and good, and what a router that trusts no front server makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Pairs = tuple[tuple[bytes, bytes], ...]


def text(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "little") + raw


def block(pairs: Pairs) -> bytes:
    return b"".join(text(key) + text(value) for key, value in pairs)


def packet(raw: bytes, modifier1: int = 0, modifier2: int = 0) -> bytes:
    return bytes([modifier1]) + len(raw).to_bytes(2, "little") + bytes([modifier2]) + raw


GET: Pairs = ((b"REQUEST_METHOD", b"GET"), (b"HTTP_HOST", b"a.example"), (b"PATH_INFO", b"/"))


def request(*more: tuple[bytes, bytes]) -> bytes:
    """A GET, and then these variables."""
    return packet(block((*GET, *more)))


def without(key: bytes, *more: tuple[bytes, bytes]) -> bytes:
    return packet(block((*(pair for pair in GET if pair[0] != key), *more)))


MALFORMED = {
    "nothing": b"",
    "three bytes": b"\0\0\0",
    "a size of more than is there": packet(block(GET))[:-1],
    "a size of less than is there": packet(block(GET)) + b"x",
    "a header that says 65,535 bytes, and nothing": b"\0\xff\xff\0",
    "one byte for a key's length": packet(block(GET) + b"\1"),
    "a key's length and no key": packet(block(GET) + b"\1\0"),
    "a key that goes past the end": packet(block(GET) + b"\xff\xff" + b"A"),
    "a key without a value's length": packet(block(GET) + text(b"A")),
    "a key and half a value's length": packet(block(GET) + text(b"A") + b"\1"),
    "a value that is not there": packet(block(GET) + text(b"A") + b"\1\0"),
    "a value that goes past the end": packet(block(GET) + text(b"A") + b"\xff\xff" + b"b"),
    "a value one byte too long": packet(block(GET) + text(b"A") + b"\3\0" + b"bc"),
    "a dropped key whose value goes past the end": packet(block(GET) + text(b"UWSGI_FILE") + b"\3\0" + b"bc"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
}
"""No whole packet, whoever reads it."""

REFUSED = {
    **{name: (sent, 400) for name, sent in MALFORMED.items()},
    "no variables": (packet(b""), 400),
    "an empty key": (request((b"", b"x")), 400),
    "an empty key without a value": (request((b"", b"")), 400),
    "no REQUEST_METHOD": (without(b"REQUEST_METHOD"), 400),
    "an empty REQUEST_METHOD": (request((b"REQUEST_METHOD", b"")), 400),
    "a REQUEST_METHOD with a blank": (request((b"REQUEST_METHOD", b"GET /")), 400),
    "a REQUEST_METHOD with a line end": (request((b"REQUEST_METHOD", b"GET\r\n")), 400),
    "a REQUEST_METHOD that is not ASCII": (request((b"REQUEST_METHOD", b"G\xc9T")), 400),
    "a REQUEST_METHOD of 33 letters": (request((b"REQUEST_METHOD", b"G" * 33)), 400),
    "CONNECT": (request((b"REQUEST_METHOD", b"CONNECT")), 501),
    "a port of no host": (request((b"HTTP_HOST", b":80")), 400),
    "a port above 65535": (request((b"HTTP_HOST", b"a:65536")), 400),
    "brackets without an address": (request((b"HTTP_HOST", b"[:::::]")), 400),
    "a CONTENT_LENGTH of letters": (request((b"CONTENT_LENGTH", b"abc")), 400),
    "a negative CONTENT_LENGTH": (request((b"CONTENT_LENGTH", b"-1")), 400),
    "a CONTENT_LENGTH with a plus": (request((b"CONTENT_LENGTH", b"+1")), 400),
    "a CONTENT_LENGTH with a blank": (request((b"CONTENT_LENGTH", b" 1")), 400),
    "a CONTENT_LENGTH of other digits": (request((b"CONTENT_LENGTH", b"\xb2")), 400),
    "a CONTENT_LENGTH of 19 digits": (request((b"CONTENT_LENGTH", b"9" * 19)), 400),
    "a list of lengths": (request((b"CONTENT_LENGTH", b"5, 5")), 400),
    "two different CONTENT_LENGTH": (request((b"CONTENT_LENGTH", b"5"), (b"CONTENT_LENGTH", b"6")), 400),
    "an empty CONTENT_LENGTH and another": (request((b"CONTENT_LENGTH", b""), (b"CONTENT_LENGTH", b"6")), 400),
    "a host with a blank": (request((b"HTTP_HOST", b"a b")), 400),
    "a host with a slash": (request((b"HTTP_HOST", b"a/b")), 400),
    "a host with a line end": (request((b"HTTP_HOST", b"a\r\nb")), 400),
    "a host with a NUL": (request((b"HTTP_HOST", b"a\0b")), 400),
    "a header value with a line end": (request((b"HTTP_A", b"b\r\nc")), 400),
    "a header value with a NUL": (request((b"HTTP_A", b"b\0c")), 400),
    "a header value with a control character": (request((b"HTTP_A", b"\x1bc")), 400),
    "a header value with DEL": (request((b"HTTP_A", b"b\x7f")), 400),
    "a NUL in the path": (request((b"PATH_INFO", b"/a\0b")), 400),
    "a port of letters": (request((b"HTTP_HOST", b"a:b")), 400),
    "a bad SERVER_NAME for want of a host": (without(b"HTTP_HOST", (b"SERVER_NAME", b"a b")), 400),
    "variables that only our own make too many": (request((b"A", b"b" * (65535 - len(block(GET)) - 5))), 431),
}
"""Name → (packet, HTTP status of the answer)."""


@dataclass(frozen=True, slots=True)
class Admitted:
    name: str
    sent: bytes
    environ: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    method: bytes = b"GET"
    host: bytes = b"a.example"
    path: bytes = b"/"
    content_length: int = 0


ADMITTED = (
    Admitted(
        "what every app may rely on",
        request(),
        {
            "REQUEST_METHOD": "GET", "HTTP_HOST": "a.example", "PATH_INFO": "/", "SCRIPT_NAME": "", "QUERY_STRING": "",
            "SERVER_NAME": "a.example", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        },
    ),
    Admitted(
        "what the front server says stays",
        request(
            (b"SCRIPT_NAME", b"/s"), (b"QUERY_STRING", b"q"), (b"SERVER_NAME", b"n"), (b"SERVER_PORT", b"1"),
            (b"SERVER_PROTOCOL", b"HTTP/1.0"), (b"REMOTE_ADDR", b"192.0.2.1"), (b"HTTPS", b"on"), (b"HTTP_X_A", b"\xe4\t"),
            (b"REQUEST_URI", b"/%0d%0a"), (b"PATH_INFO", b"/\r\n"),
        ),
        {
            "SCRIPT_NAME": "/s", "QUERY_STRING": "q", "SERVER_NAME": "n", "SERVER_PORT": "1", "SERVER_PROTOCOL": "HTTP/1.0",
            "REMOTE_ADDR": "192.0.2.1", "HTTPS": "on", "HTTP_X_A": "\xe4\t", "PATH_INFO": "/\r\n",
        },
        path=b"/\r\n",
    ),
    Admitted("modifiers are not passed on", packet(block(GET), 0, 9)),
    Admitted("no host", without(b"HTTP_HOST"), {"SERVER_NAME": "localhost"}, absent=("HTTP_HOST",), host=b""),
    Admitted("SERVER_NAME for want of a host", without(b"HTTP_HOST", (b"SERVER_NAME", b"N.Example")), host=b"n.example"),
    Admitted("SERVER_NAME for an empty host", request((b"HTTP_HOST", b""), (b"SERVER_NAME", b"n")), host=b"n"),
    Admitted("nginx's catch-all name", without(b"HTTP_HOST", (b"SERVER_NAME", b"_")), host=b"_"),
    Admitted("a host with a port, capitals and a dot", request((b"HTTP_HOST", b"B.Example.:8080")), {"HTTP_HOST": "B.Example.:8080", "SERVER_NAME": "b.example"}, host=b"b.example"),
    Admitted("a host in brackets", request((b"HTTP_HOST", b"[::1]:80")), host=b"[::1]"),
    Admitted("no path", without(b"PATH_INFO"), {"PATH_INFO": ""}, path=b""),
    Admitted("the last of equal keys wins", request((b"PATH_INFO", b"/2"), (b"HTTP_A", b"1"), (b"HTTP_A", b"2")), {"PATH_INFO": "/2", "HTTP_A": "2"}, path=b"/2"),
    Admitted("a length", request((b"CONTENT_LENGTH", b"0012")), {"CONTENT_LENGTH": "0012"}, content_length=12),
    Admitted("no length, said as nginx says it", request((b"CONTENT_LENGTH", b""), (b"CONTENT_TYPE", b"")), {"CONTENT_LENGTH": ""}),
    Admitted("the same length twice", request((b"CONTENT_LENGTH", b"5"), (b"CONTENT_LENGTH", b"5")), content_length=5),
    Admitted("an empty value", request((b"HTTP_A", b"")), {"HTTP_A": ""}),
    Admitted("a method with a dash", request((b"REQUEST_METHOD", b"M-SEARCH")), method=b"M-SEARCH"),
    Admitted("HEAD", request((b"REQUEST_METHOD", b"HEAD")), method=b"HEAD"),
    Admitted(
        "variables that make uWSGI load code",
        request((b"UWSGI_FILE", b"/etc/passwd"), (b"UWSGI_SCRIPT", b"os"), (b"UWSGI_", b"x"), (b"UWSGI_APPID", b"x")),
        absent=("UWSGI_FILE", "UWSGI_SCRIPT", "UWSGI_", "UWSGI_APPID"),
    ),
    Admitted(
        "keys that no CGI variable has",
        request((b"a", b"1"), (b"wsgi.input", b"2"), (b"HTTP_x", b"3"), (b"HTTP-X", b"4"), (b"_A", b"5"), (b"1A", b"6"), (b"A B", b"7"), (b"A\0", b"8"), (b"\xc4", b"9")),
        absent=("a", "wsgi.input", "HTTP_x", "HTTP-X", "_A", "1A", "A B", "A\0", "\xc4"),
    ),
    Admitted("httpoxy", request((b"HTTP_PROXY", b"http://evil.example")), absent=("HTTP_PROXY",)),
    Admitted(
        "what speaks of the connection to the front server",
        request((b"HTTP_CONNECTION", b"close"), (b"HTTP_KEEP_ALIVE", b"5"), (b"HTTP_TRANSFER_ENCODING", b"chunked"), (b"HTTP_CONTENT_LENGTH", b"7"),
                (b"HTTP_PROXY_CONNECTION", b"close"), (b"HTTP_TE", b"trailers"), (b"HTTP_TRAILER", b"A"), (b"HTTP_UPGRADE", b"h2c"), (b"HTTP_EXPECT", b"100-continue")),
        absent=("HTTP_PROXY_CONNECTION", "HTTP_TE", "HTTP_TRAILER", "HTTP_UPGRADE", "HTTP_EXPECT", "HTTP_CONNECTION", "HTTP_KEEP_ALIVE", "HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_LENGTH", "CONTENT_LENGTH"),
    ),
)  # fmt: skip
