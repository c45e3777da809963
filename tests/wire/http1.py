"""HTTP/1.1 requests and what a strict front end makes of them (RFC 9112, RFC 9110).

``REFUSED`` rows are answered with ``status`` and cost the connection. ``TAKEN`` rows are one whole request each.
A clause of "9112 5.1" is a section of RFC 9112; "ours" is a bound or a strictness that the RFCs leave to the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

HEAD_LIMIT = 65536
LINE_LIMIT = 16384
FIELDS_LIMIT = 100
TRAILERS_LIMIT = 8192
CHUNK_LINE_LIMIT = 256
EXTENSIONS_LIMIT = 16384


@dataclass(frozen=True, slots=True)
class Refused:
    clause: str
    name: str
    sent: bytes
    status: int


@dataclass(frozen=True, slots=True)
class Taken:
    """``environ``: CGI variables that the app must see. ``absent``: variables that it must not see."""

    clause: str
    name: str
    sent: bytes
    environ: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    body: bytes = b""
    method: bytes = b"GET"
    host: bytes = b"a.example"
    path: bytes = b"/"
    keep_alive: bool = True
    expect_continue: bool = False
    http11: bool = True
    content_length: int = 0
    chunked: bool = False


HOST = b"Host: a.example\r\n"


def line(first: bytes) -> bytes:
    """A request of this request line and a Host."""
    return first + b"\r\n" + HOST + b"\r\n"


def fields(*lines: bytes) -> bytes:
    """A GET with Host and these header lines, each without its CRLF."""
    return b"GET / HTTP/1.1\r\n" + HOST + b"".join(one + b"\r\n" for one in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + b"".join(one + b"\r\n" for one in lines) + b"\r\n" + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


REFUSED = (
    # Lines
    Refused("9112 2.2", "bare LF after the request line", b"GET / HTTP/1.1\nHost: a.example\r\n\r\n", 400),
    Refused("9112 2.2", "bare LF after a header line", b"GET / HTTP/1.1\r\nHost: a.example\n\r\n", 400),
    Refused("9112 2.2", "bare LF as the empty line", b"GET / HTTP/1.1\r\nHost: a.example\r\n\n", 400),
    Refused("9112 2.2", "bare LF everywhere", b"GET / HTTP/1.1\nHost: a.example\n\n", 400),
    Refused("9112 2.2", "LF before the request line", b"\n" + line(b"GET / HTTP/1.1"), 400),
    Refused("9112 2.2", "a CR alone before the request line", b"\r" + line(b"GET / HTTP/1.1"), 400),
    Refused("9112 2.2", "bare CR in the request line", line(b"GET /\r HTTP/1.1"), 400),
    Refused(
        "9112 2.2", "bare CR for CRLF after the request line", b"GET / HTTP/1.1\rHost: a.example\r\n\r\n", 400
    ),
    Refused("9112 2.2", "bare CR in a header value", fields(b"A: b\rContent-Length: 5"), 400),
    Refused("9112 2.2", "two CR before an LF", fields(b"A: b\r"), 400),
    Refused(
        "9112 2.2", "CR CR LF as the empty line", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\r\n\r\n", 400
    ),
    Refused(
        "9112 2.2", "nine empty lines before the request line", b"\r\n" * 9 + line(b"GET / HTTP/1.1"), 400
    ),
    Refused(
        "9112 2.2", "blanks before the first header line", b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n", 400
    ),
    Refused("9112 2.2", "a blank before the request line", line(b" GET / HTTP/1.1"), 400),
    # Request line
    Refused("9112 3", "no method", line(b"/ HTTP/1.1"), 400),
    Refused("9112 3", "a method alone", b"GET\r\n\r\n", 400),
    Refused("9112 3", "a method and a blank", b"GET \r\n\r\n", 400),
    Refused("9112 3", "HTTP/0.9: no version", b"GET /\r\n\r\n", 400),
    Refused("9112 3", "no version, a blank", line(b"GET / "), 400),
    Refused("9112 3", "no target", line(b"GET HTTP/1.1"), 400),
    Refused("9112 3", "an empty target", line(b"GET  HTTP/1.1"), 400),
    Refused("9112 3", "two blanks behind the method", line(b"GET  / HTTP/1.1"), 400),
    Refused("9112 3", "two blanks before the version", line(b"GET /  HTTP/1.1"), 400),
    Refused("9112 3", "a tab for a blank", line(b"GET\t/\tHTTP/1.1"), 400),
    Refused("9112 3", "a blank behind the version", line(b"GET / HTTP/1.1 "), 400),
    Refused("9112 3", "a fourth word", line(b"GET / HTTP/1.1 x"), 400),
    Refused("9112 3.1", "a method that is no token", line(b"G(T / HTTP/1.1"), 400),
    Refused("9112 3.1", "a method with a colon", line(b"GET: / HTTP/1.1"), 400),
    Refused("9112 3.1", "a method with a NUL", line(b"GE\0T / HTTP/1.1"), 400),
    Refused("9112 3.1", "a method that is not ASCII", line(b"G\xc9T / HTTP/1.1"), 400),
    Refused("9112 3", "a method of 33 letters", line(b"G" * 33 + b" / HTTP/1.1"), 501),
    Refused("9112 2.2", "LF where a second request should be", line(b"GET / HTTP/1.1")[:-2] + b"\n", 400),
    Refused("9112 2.2", "TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
    Refused("9112 2.2", "a NUL where a request should be", b"\0", 400),
    Refused("9112 2.3", "http in lower case", line(b"GET / http/1.1"), 400),
    Refused("9112 2.3", "a version without a minor", line(b"GET / HTTP/1"), 400),
    Refused("9112 2.3", "a version with two digits", line(b"GET / HTTP/1.10"), 400),
    Refused("9112 2.3", "a version with a comma", line(b"GET / HTTP/1,1"), 400),
    Refused("9112 2.3", "a version of letters", line(b"GET / HTTP/1.x"), 400),
    Refused("9112 2.3", "another protocol", line(b"GET / ICAP/1.0"), 400),
    Refused("9110 15.6.6", "HTTP/0.9 said aloud", line(b"GET / HTTP/0.9"), 505),
    Refused("9110 15.6.6", "HTTP/2.0", line(b"GET / HTTP/2.0"), 505),
    Refused("9110 15.6.6", "HTTP/9.9", line(b"GET / HTTP/9.9"), 505),
    Refused("9113 3.4", "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    # Target
    Refused("9112 3.2", "a blank in the target", line(b"GET /a b HTTP/1.1"), 400),
    Refused("9112 3.2", "a NUL in the target", line(b"GET /a\0b HTTP/1.1"), 400),
    Refused("9112 3.2", "a control character in the target", line(b"GET /a\x01b HTTP/1.1"), 400),
    Refused("9112 3.2", "DEL in the target", line(b"GET /a\x7fb HTTP/1.1"), 400),
    Refused("9112 3.2", "raw UTF-8 in the target", line("GET /ä HTTP/1.1".encode()), 400),
    Refused("9112 3.2", "a fragment", line(b"GET /a#b HTTP/1.1"), 400),
    Refused("9112 3.2", "a bare word", line(b"GET index.html HTTP/1.1"), 400),
    Refused("9112 3.2", "a query alone", line(b"GET ?a=b HTTP/1.1"), 400),
    Refused("9112 3.2.2", "another scheme", line(b"GET ftp://a.example/ HTTP/1.1"), 400),
    Refused("9112 3.2.2", "http: without slashes", line(b"GET http:/a HTTP/1.1"), 400),
    Refused("9110 4.2.1", "an http URL without a host", line(b"GET http:///a HTTP/1.1"), 400),
    Refused("9110 4.2.1", "an http URL that ends before its host", line(b"GET http:// HTTP/1.1"), 400),
    Refused("9110 4.2.1", "an http URL with a port for a host", line(b"GET http://:80/a HTTP/1.1"), 400),
    Refused("9110 4.2.4", "an http URL with a user", line(b"GET http://u:p@a.example/ HTTP/1.1"), 400),
    Refused("9112 3.2.2", "an http URL with a bad host", line(b"GET http://a,b/ HTTP/1.1"), 400),
    Refused(
        "9110 7.4", "an https URL on a connection without TLS", line(b"GET https://a.example/ HTTP/1.1"), 421
    ),
    Refused(
        "9110 9.3.8",
        "TRACE with a body",
        b"TRACE / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nab",
        400,
    ),
    Refused(
        "9110 9.3.8",
        "TRACE with chunks",
        b"TRACE / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    Refused("1945 8.3", "an HTTP/1.0 POST without a length", b"POST / HTTP/1.0\r\n\r\nab", 411),
    Refused("1945 8.3", "an HTTP/1.0 PUT without a length", b"PUT / HTTP/1.0\r\n\r\nab", 411),
    Refused("9112 3.2.3", "authority-form in a GET", line(b"GET a.example:80 HTTP/1.1"), 400),
    Refused("9112 3.2.3", "CONNECT", line(b"CONNECT a.example:443 HTTP/1.1"), 501),
    Refused("9112 3.2.3", "CONNECT of a path", line(b"CONNECT /x HTTP/1.1"), 501),
    Refused("9112 3.2.4", "* in a GET", line(b"GET * HTTP/1.1"), 400),
    Refused("ours", "an encoded NUL in the path", line(b"GET /a%00b HTTP/1.1"), 400),
    Refused(
        "9110 15.5.15",
        "a request line one byte too long",
        line(b"GET /" + b"a" * (LINE_LIMIT - 14) + b" HTTP/1.1"),
        414,
    ),
    Refused("9110 15.5.15", "a request line without end", b"GET /" + b"a" * LINE_LIMIT, 414),
    Refused(
        "9110 15.5.15",
        "a request line that is too long and ends in a bare LF",
        b"GET /" + b"a" * LINE_LIMIT + b"\n",
        414,
    ),
    # Host
    Refused("9112 3.2", "no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    Refused("9112 3.2", "no Host, but another header", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400),
    Refused(
        "9112 3.2",
        "an absolute target does not make up for no Host",
        b"GET http://a.example/ HTTP/1.1\r\n\r\n",
        400,
    ),
    Refused("9112 3.2", "two different Host", fields(b"Host: b.example"), 400),
    Refused("9112 3.2", "two equal Host", fields(b"HOST: a.example"), 400),
    Refused("9112 3.2", "two Host in HTTP/1.0", b"GET / HTTP/1.0\r\n" + HOST + b"Host: b\r\n\r\n", 400),
    Refused("9112 3.2", "a list of hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    Refused("9112 3.2", "a host with a slash", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    Refused("9112 3.2", "a host with a blank", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    Refused("9112 3.2", "a host with a user", b"GET / HTTP/1.1\r\nHost: u@a.example\r\n\r\n", 400),
    Refused(
        "9112 3.2", "a host that is not ASCII", "GET / HTTP/1.1\r\nHost: ä.example\r\n\r\n".encode(), 400
    ),
    Refused("9112 3.2", "a host with markup", b"GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", 400),
    Refused("9112 3.2", "a port of letters", b"GET / HTTP/1.1\r\nHost: a.example:http\r\n\r\n", 400),
    Refused("9112 3.2", "two ports", b"GET / HTTP/1.1\r\nHost: a.example:80:81\r\n\r\n", 400),
    Refused("3986 3.2.2", "empty brackets", b"GET / HTTP/1.1\r\nHost: []\r\n\r\n", 400),
    Refused("3986 3.2.2", "colons alone in brackets", b"GET / HTTP/1.1\r\nHost: [:::::]\r\n\r\n", 400),
    Refused("3986 3.2.2", "a NUL in brackets", b"GET / HTTP/1.1\r\nHost: [::1\x00]\r\n\r\n", 400),
    Refused("3986 3.2.3", "a port of no host", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
    Refused("3986 3.2.3", "port 65536", b"GET / HTTP/1.1\r\nHost: a.example:65536\r\n\r\n", 400),
    Refused("3986 3.2.3", "port 0", b"GET / HTTP/1.1\r\nHost: a.example:0\r\n\r\n", 400),
    Refused("3986 3.2.3", "a port of eight digits", b"GET / HTTP/1.1\r\nHost: a.example:00000080\r\n\r\n", 400),
    Refused(
        "9112 3.2",
        "an absolute target does not make up for a bad Host",
        b"GET http://a.example/ HTTP/1.1\r\nHost: a b/<x>\r\n\r\n",
        400,
    ),
    Refused("9112 3.2", "a bracket left open", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    Refused("9112 3.2", "something behind a bracket", b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400),
    Refused("9112 3.2", "no address in brackets", b"GET / HTTP/1.1\r\nHost: [a.example]\r\n\r\n", 400),
    # Header lines
    Refused("9112 5.1", "a blank before the colon", fields(b"A : b"), 400),
    Refused("9112 5.1", "a tab before the colon", fields(b"A\t: b"), 400),
    Refused(
        "9112 5.1",
        "a blank before the colon of Content-Length",
        post(b"Content-Length : 5", body=b"hello"),
        400,
    ),
    Refused(
        "9112 5.1",
        "a blank before the colon of Transfer-Encoding",
        post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
        400,
    ),
    Refused("9112 5", "no colon", fields(b"abc"), 400),
    Refused("9112 5", "an empty name", fields(b": b"), 400),
    Refused("9110 5.1", "a blank in a name", fields(b"A B: c"), 400),
    Refused("9110 5.1", "a NUL in a name", fields(b"A\0: b"), 400),
    Refused("9110 5.1", "a control character in a name", fields(b"A\x1f: b"), 400),
    Refused("9110 5.1", "a name that is not ASCII", fields(b"\xc4: b"), 400),
    Refused("9110 5.1", "a parenthesis in a name", fields(b"A(: b"), 400),
    Refused("9110 5.1", "a quote in a name", fields(b'"A": b'), 400),
    Refused("9112 5.2", "a folded line, by a blank", fields(b"A: b", b" c"), 400),
    Refused("9112 5.2", "a folded line, by a tab", fields(b"A: b", b"\tc"), 400),
    Refused(
        "9112 5.2",
        "a folded Transfer-Encoding",
        post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"),
        400,
    ),
    Refused("9112 5.2", "a line of blanks", fields(b"A: b", b"  "), 400),
    Refused("9110 5.5", "a NUL in a value", fields(b"A: b\0c"), 400),
    Refused("9110 5.5", "0x01 in a value", fields(b"A: \x01"), 400),
    Refused("9110 5.5", "VT in a value", fields(b"A: b\x0bc"), 400),
    Refused("9110 5.5", "FF in a value", fields(b"A: b\x0cc"), 400),
    Refused("9110 5.5", "ESC in a value", fields(b"A: b\x1bc"), 400),
    Refused("9110 5.5", "DEL in a value", fields(b"A: b\x7fc"), 400),
    Refused("6585 5", "101 header lines", fields(*[b"A: b"] * FIELDS_LIMIT), 431),
    Refused("6585 5", "a Connection that names 101 fields", fields(b"Connection: " + b"a," * 101), 431),
    Refused(
        "6585 5",
        "Connections that name 101 fields",
        fields(b"Connection: " + b"a," * 60, b"Connection: " + b",b" * 41),
        431,
    ),
    Refused(
        "6585 5", "a header line without end", b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * HEAD_LIMIT, 431
    ),
    Refused(
        "6585 5",
        "a header line that is too long and ends in a bare LF",
        b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * HEAD_LIMIT + b"\n",
        431,
    ),
    Refused(
        "6585 5", "a head without end", b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * (HEAD_LIMIT // 6), 431
    ),
    Refused(
        "6585 5",
        "a head that does not fit into a packet",
        fields(*[b"A-%d: " % n + b"b" * 6540 for n in range(10)]),
        431,
    ),
    Refused("6585 5", "a name of 121 bytes", fields(b"A" * 121 + b": b"), 431),
    # Framing by Transfer-Encoding
    Refused(
        "9112 6.1", "Transfer-Encoding and Content-Length", chunked(b"0\r\n\r\n", b"Content-Length: 5"), 400
    ),
    Refused(
        "9112 6.1",
        "Content-Length and Transfer-Encoding",
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
    ),
    Refused(
        "9112 6.1",
        "Transfer-Encoding in HTTP/1.0",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    Refused("9112 6.1", "two Transfer-Encoding", chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), 400),
    Refused(
        "9112 6.1",
        "two Transfer-Encoding, the second another",
        chunked(b"0\r\n\r\n", b"Transfer-Encoding: identity"),
        400,
    ),
    Refused("9112 6.1", "gzip, chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    Refused("9112 6.3", "chunked, gzip", post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400),
    Refused("9112 6.3", "chunked, and a comma", post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n"), 400),
    Refused(
        "9112 6.1", "chunked twice", post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400
    ),
    Refused(
        "9112 6.1",
        "chunked twice, with another in between",
        post(b"Transfer-Encoding: chunked, gzip ,Chunked"),
        400,
    ),
    Refused("9112 6.1", "identity", post(b"Transfer-Encoding: identity"), 501),
    Refused("9112 6.1", "gzip", post(b"Transfer-Encoding: gzip"), 501),
    Refused("9112 6.1", "xchunked", post(b"Transfer-Encoding: xchunked"), 501),
    Refused("9112 6.1", "a quoted chunked", post(b'Transfer-Encoding: "chunked"'), 501),
    Refused("9112 7", "chunked with a parameter", post(b"Transfer-Encoding: chunked;q=1"), 501),
    Refused("9112 6.1", "an empty Transfer-Encoding", post(b"Transfer-Encoding:"), 400),
    Refused("9112 6.1", "chunked behind VT", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    Refused(
        "9112 6.1", "chunked behind a NUL", post(b"Transfer-Encoding: \0chunked", body=b"0\r\n\r\n"), 400
    ),
    # Framing by Content-Length
    Refused(
        "9112 6.3",
        "two different Content-Length",
        post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
        400,
    ),
    Refused(
        "9112 6.3",
        "two equal Content-Length",
        post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        400,
    ),
    Refused("9112 6.3", "a list of lengths", post(b"Content-Length: 5, 5", body=b"hello"), 400),
    Refused("9110 8.6", "a negative length", post(b"Content-Length: -1"), 400),
    Refused("9110 8.6", "a length with a plus", post(b"Content-Length: +5", body=b"hello"), 400),
    Refused("9110 8.6", "a hexadecimal length", post(b"Content-Length: 0x5", body=b"hello"), 400),
    Refused("9110 8.6", "a decimal length", post(b"Content-Length: 5.0", body=b"hello"), 400),
    Refused("9110 8.6", "an empty length", post(b"Content-Length:"), 400),
    Refused("9110 8.6", "a length with a blank", post(b"Content-Length: 1 0", body=b"0123456789"), 400),
    Refused("9110 8.6", "a length with an underscore", post(b"Content-Length: 1_0", body=b"0123456789"), 400),
    Refused("9110 8.6", "a length and a word", post(b"Content-Length: 5 bytes", body=b"hello"), 400),
    Refused("9110 8.6", "a length in other digits", post(b"Content-Length: \xb2", body=b"he"), 400),
    Refused("9110 8.6", "a length of 19 digits", post(b"Content-Length: 9999999999999999999"), 400),
    Refused("9110 8.6", "a length of 40 digits", post(b"Content-Length: " + b"9" * 40), 400),
    # Chunks
    Refused("9112 7.1", "no size", chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a size that is no number", chunked(b"x\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a size with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a negative size", chunked(b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a size with a plus", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a size with an underscore", chunked(b"0_5\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a blank before the size", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a blank behind the size", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1.1", "a blank before an extension", chunked(b"5 ;a=b\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a tab behind the size", chunked(b"5\t\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "a size of 16 digits", chunked(b"8000000000000000\r\nhello"), 400),
    Refused(
        "9112 7.1",
        "a size of 17 digits that overflows",
        chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        400,
    ),
    Refused("9112 7.1", "bare LF behind the size", chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "bare CR behind the size", chunked(b"5\rhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "nothing between two chunks", chunked(b"5\r\nhello0\r\n\r\n"), 400),
    Refused("9112 7.1", "bare LF behind the bytes", chunked(b"5\r\nhello\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "bare CR behind the bytes", chunked(b"5\r\nhello\rx0\r\n\r\n"), 400),
    Refused("9112 7.1", "more bytes than the size says", chunked(b"3\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "fewer bytes than the size says", chunked(b"6\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1", "an empty line between chunks", chunked(b"5\r\nhello\r\n\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1.1", "bare LF in an extension", chunked(b"5;a\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1.1", "bare CR in an extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1.1", "a NUL in an extension", chunked(b"5;a=\0\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1.1", "an extension that is not ASCII", chunked(b"5;a=\xe4\r\nhello\r\n0\r\n\r\n"), 400),
    Refused("9112 7.1.1", "a colon for a semicolon", chunked(b"5:a\r\nhello\r\n0\r\n\r\n"), 400),
    Refused(
        "ours",
        "an extension that is too long",
        chunked(b"5;" + b"a" * CHUNK_LINE_LIMIT + b"\r\nhello\r\n0\r\n\r\n"),
        400,
    ),
    Refused("ours", "a size line without end", chunked(b"0" * (CHUNK_LINE_LIMIT + 1)), 400),
    Refused("ours", "an extension without end", chunked(b"5;" + b"a" * CHUNK_LINE_LIMIT), 400),
    # Trailers
    Refused("9112 7.1.2", "bare LF behind a trailer", chunked(b"0\r\nA: b\n\r\n"), 400),
    Refused("9112 7.1.2", "bare LF for the last line", chunked(b"0\r\n\n"), 400),
    Refused("9112 7.1.2", "bare LF behind the last chunk", chunked(b"0\n\r\n"), 400),
    Refused("9112 7.1.2", "a trailer without a colon", chunked(b"0\r\nabc\r\n\r\n"), 400),
    Refused("9112 7.1.2", "a trailer without a name", chunked(b"0\r\n: b\r\n\r\n"), 400),
    Refused("9112 7.1.2", "a blank before the colon of a trailer", chunked(b"0\r\nA : b\r\n\r\n"), 400),
    Refused("9112 7.1.2", "a folded trailer", chunked(b"0\r\nA: b\r\n c\r\n\r\n"), 400),
    Refused("9112 7.1.2", "a NUL in a trailer", chunked(b"0\r\nA: \0\r\n\r\n"), 400),
    Refused("9112 7.1.2", "bare CR in a trailer", chunked(b"0\r\nA: b\rc\r\n\r\n"), 400),
    Refused(
        "9112 7.1.2",
        "a request where trailers should be",
        chunked(b"0\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n"),
        400,
    ),
    Refused(
        "9112 7.1.1",
        "extensions of more than 16 KiB in all",
        chunked((b"1;" + b"e" * 200 + b"\r\na\r\n") * (EXTENSIONS_LIMIT // 201 + 1)),
        413,
    ),
    Refused("6585 5", "a trailer without end", chunked(b"0\r\nA: " + b"b" * TRAILERS_LIMIT), 431),
    Refused(
        "6585 5",
        "a trailer that is too long",
        chunked(b"0\r\nA: " + b"b" * TRAILERS_LIMIT + b"\r\n\r\n"),
        431,
    ),
    Refused(
        "6585 5", "trailers without end", chunked(b"0\r\n" + b"A: b\r\n" * (TRAILERS_LIMIT // 6 + 1)), 431
    ),
    # Expect
    Refused(
        "9110 10.1.1", "another expectation", post(b"Expect: 200-ok", b"Content-Length: 2", body=b"ab"), 417
    ),
    Refused(
        "9110 10.1.1",
        "100-continue twice",
        post(b"Expect: 100-continue, 100-continue", b"Content-Length: 2", body=b"ab"),
        417,
    ),
    Refused("9110 10.1.1", "an empty expectation", post(b"Expect:", b"Content-Length: 2", body=b"ab"), 417),
)


TAKEN = (
    # Request line and lines
    Taken(
        "9112 3",
        "a plain GET",
        line(b"GET /a/b?c=d HTTP/1.1"),
        {
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": "/a/b?c=d",
            "PATH_INFO": "/a/b",
            "QUERY_STRING": "c=d",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "a.example",
        },
        absent=("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_CONTENT_LENGTH"),
        path=b"/a/b",
    ),
    Taken("9112 2.2", "eight empty lines before the request line", b"\r\n" * 8 + line(b"GET / HTTP/1.1")),
    Taken("9110 9.1", "methods are case-sensitive", line(b"get / HTTP/1.1"), {"REQUEST_METHOD": "get"}, method=b"get"),
    Taken("9110 9.1", "a method with a dash", line(b"M-SEARCH / HTTP/1.1"), method=b"M-SEARCH"),
    Taken("9110 9.1", "a method of 32 letters", line(b"G" * 32 + b" / HTTP/1.1"), method=b"G" * 32),
    Taken("9112 2.3", "HTTP/1.2 is read as 1.1", line(b"GET / HTTP/1.2"), {"SERVER_PROTOCOL": "HTTP/1.1"}),
    Taken("ours", "a request line of just the limit", line(b"GET /" + b"a" * (LINE_LIMIT - 15) + b" HTTP/1.1"), path=b"/" + b"a" * (LINE_LIMIT - 15)),
    # Target
    Taken("9110 4.2.3", "the path is decoded once", line(b"GET /%61%2fb%2525?%61 HTTP/1.1"), {"REQUEST_URI": "/%61%2fb%2525?%61", "PATH_INFO": "/a/b%25", "QUERY_STRING": "%61"}, path=b"/a/b%25"),
    Taken("3875 4.1.5", "what is decoded is ISO 8859-1", line(b"GET /%C3%A4 HTTP/1.1"), {"PATH_INFO": "/\xc3\xa4"}, path=b"/\xc3\xa4"),
    Taken("ours", "a stray percent stays", line(b"GET /%zz%4 HTTP/1.1"), {"PATH_INFO": "/%zz%4"}, path=b"/%zz%4"),
    Taken("ours", "a percent at the end stays", line(b"GET /a% HTTP/1.1"), {"PATH_INFO": "/a%"}, path=b"/a%"),
    Taken("ours", "a code at the end", line(b"GET /%41 HTTP/1.1"), {"PATH_INFO": "/A"}, path=b"/A"),
    Taken("ours", "raw brackets and quotes as browsers send them", line(b"GET /?a[]=\"<{|}>\"^`\\ HTTP/1.1"), {"QUERY_STRING": 'a[]="<{|}>"^`\\'}),
    Taken("9112 3.2.1", "two slashes are a path", line(b"GET //b.example/c HTTP/1.1"), {"PATH_INFO": "//b.example/c"}, path=b"//b.example/c"),
    Taken("9112 3.2.1", "two question marks", line(b"GET /?a?b HTTP/1.1"), {"QUERY_STRING": "a?b"}),
    Taken("9112 3.2.1", "an empty query", line(b"GET /? HTTP/1.1"), {"QUERY_STRING": "", "REQUEST_URI": "/?"}),
    Taken("9112 3.2.2", "an absolute target wins over Host", line(b"GET http://B.example:81/c?d HTTP/1.1"), {"HTTP_HOST": "B.example:81", "REQUEST_URI": "/c?d", "PATH_INFO": "/c"}, host=b"b.example", path=b"/c"),
    Taken("9112 3.2.2", "an absolute target without a path", line(b"GET HTTP://b.example HTTP/1.1"), {"REQUEST_URI": "/", "PATH_INFO": "/", "HTTP_HOST": "b.example"}, host=b"b.example"),
    Taken("9110 4.2.3", "an absolute target with a query and no path", line(b"GET http://b.example?c=d HTTP/1.1"), {"REQUEST_URI": "/?c=d", "PATH_INFO": "/", "QUERY_STRING": "c=d"}, host=b"b.example"),
    Taken("9112 3.2.2", "an absolute target without a Host, in HTTP/1.0", b"GET http://b.example/ HTTP/1.0\r\n\r\n", {"HTTP_HOST": "b.example"}, host=b"b.example", keep_alive=False, http11=False),
    Taken("9112 3.2.4", "OPTIONS of an absolute target without a path", line(b"OPTIONS http://b.example HTTP/1.1"), {"REQUEST_URI": "*", "PATH_INFO": ""}, host=b"b.example", path=b"*", method=b"OPTIONS"),
    Taken("9112 3.2.4", "OPTIONS of an absolute target with a path", line(b"OPTIONS http://b.example/ HTTP/1.1"), {"REQUEST_URI": "/"}, host=b"b.example", method=b"OPTIONS"),
    Taken("9110 9.3.8", "TRACE is the app's affair", line(b"TRACE / HTTP/1.1"), method=b"TRACE"),
    Taken("9110 7.8", "Upgrade is ignored", fields(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), absent=("HTTP_UPGRADE", "HTTP_HTTP2_SETTINGS")),
    Taken("9112 3.2.4", "OPTIONS *", line(b"OPTIONS * HTTP/1.1"), {"REQUEST_URI": "*", "PATH_INFO": "", "REQUEST_METHOD": "OPTIONS"}, method=b"OPTIONS", path=b"*"),
    # Host
    Taken("9112 3.2", "no Host in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", {"SERVER_PROTOCOL": "HTTP/1.0"}, absent=("HTTP_HOST",), host=b"", keep_alive=False, http11=False),
    Taken("9112 3.2", "an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", {"HTTP_HOST": ""}, host=b""),
    Taken("9110 7.2", "a port, capitals and a final dot", b"GET / HTTP/1.1\r\nHost: Blog.Example.:8080\r\n\r\n", {"HTTP_HOST": "Blog.Example.:8080"}, host=b"blog.example"),
    Taken("9110 7.2", "an empty port", b"GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n"),
    Taken("3986 3.2.2", "an IPv6 address", b"GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", host=b"[2001:db8::1]"),
    Taken("ours", "a host with an underscore", b"GET / HTTP/1.1\r\nHost: my_app\r\n\r\n", host=b"my_app"),
    # Header lines
    Taken("9110 5.1", "names in any case", b"GET / HTTP/1.1\r\nhOsT: a.example\r\nx-FoO: b\r\n\r\n", {"HTTP_X_FOO": "b"}),
    Taken("9112 5.1", "no blank behind the colon", fields(b"A:b"), {"HTTP_A": "b"}),
    Taken("9112 5.1", "blanks and tabs around a value", fields(b"A: \t b c\t \t"), {"HTTP_A": "b c"}),
    Taken("9112 5.1", "an empty value", fields(b"A:"), {"HTTP_A": ""}),
    Taken("9112 5.1", "a value of blanks", fields(b"A: \t "), {"HTTP_A": ""}),
    Taken("9110 5.5", "a tab and bytes above 127 in a value", fields(b"A: b\t\xe4\xff"), {"HTTP_A": "b\t\xe4\xff"}),
    Taken("9110 5.3", "repeated headers are one list", fields(b"X-A: 1", b"B: 2", b"x-a: 3", b"X-A:", b"X-A: 4"), {"HTTP_X_A": "1, 3, , 4", "HTTP_B": "2"}),
    Taken("6265 5.4", "repeated cookies are joined by semicolons", fields(b"Cookie: a=1", b"cookie: b=2"), {"HTTP_COOKIE": "a=1; b=2"}),
    Taken("6585 5", "100 header lines", fields(*[b"A: b"] * (FIELDS_LIMIT - 1)), {"HTTP_A": ", ".join(["b"] * (FIELDS_LIMIT - 1))}),
    Taken("ours", "a name of 120 bytes", fields(b"A" * 120 + b": b"), {"HTTP_" + "A" * 120: "b"}),
    Taken("3875 4.1.18", "Content-Type has a name of its own", post(b"Content-Type: text/plain"), {"CONTENT_TYPE": "text/plain"}, absent=("HTTP_CONTENT_TYPE",), method=b"POST"),
    # Header policy
    Taken("ours", "a name with an underscore is dropped", fields(b"X_A: 1", b"Content_Length: 7", b"Ho_st: b"), absent=("HTTP_X_A", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH", "HTTP_HO_ST")),
    Taken("ours", "a name with an underscore does not replace a good one before it", fields(b"X_A: 1", b"X-A: 2"), {"HTTP_X_A": "2"}),
    Taken("ours", "a name with an underscore is not joined to a good one either", fields(b"X-Some-ID: 192.0.2.1", b"X_Some_ID: 10.0.0.1", b"X-Real_IP: 10.0.0.2"), {"HTTP_X_SOME_ID": "192.0.2.1"}),
    Taken("ours", "Content_Length is not joined to Content-Length", post(b"Content-Length: 2", b"Content_Length: 9", body=b"ab"), {"CONTENT_LENGTH": "2"}, body=b"ab", method=b"POST", content_length=2),
    Taken("ours", "names with odd characters are dropped", fields(b"X.A: 1", b"~: 2", b"A!: 3"), absent=("HTTP_X.A", "HTTP_~", "HTTP_A!", "HTTP_X_A", "HTTP_A")),
    Taken("httpoxy", "Proxy is dropped", fields(b"Proxy: http://evil.example", b"pROXY: b"), absent=("HTTP_PROXY",)),
    Taken(
        "9110 7.6.1",
        "hop-by-hop headers are dropped",
        fields(b"Connection: upgrade", b"Keep-Alive: timeout=5", b"Proxy-Connection: close", b"TE: trailers", b"Trailer: A", b"Upgrade: websocket"),
        absent=("HTTP_CONNECTION", "HTTP_KEEP_ALIVE", "HTTP_PROXY_CONNECTION", "HTTP_TE", "HTTP_TRAILER", "HTTP_UPGRADE"),
    ),
    Taken(
        "9110 7.6.1",
        "what Connection names is dropped, each time it comes",
        fields(b"X-Hop: 1", b"Connection: keep-alive, x-HOP ,,X-Other", b"X-Hop: 2", b"x-other: 3", b"X-Hop-Not: 4"),
        {"HTTP_X_HOP_NOT": "4"},
        absent=("HTTP_X_HOP", "HTTP_X_OTHER"),
    ),
    Taken("9110 7.6.1", "a second Connection names too", fields(b"Connection: a", b"A: 1", b"B: 2", b"Connection: b"), absent=("HTTP_A", "HTTP_B")),
    Taken(
        "ours",
        "Connection cannot take away what frames or routes the request",
        post(b"Connection: host, content-length, content-type", b"Content-Length: 2", b"Content-Type: a/b", body=b"ab"),
        {"HTTP_HOST": "a.example", "CONTENT_LENGTH": "2", "CONTENT_TYPE": "a/b"},
        body=b"ab",
        method=b"POST",
        content_length=2,
    ),
    # Keep-alive
    Taken("9112 9.3", "Connection: close", fields(b"Connection: close"), keep_alive=False),
    Taken("9112 9.3", "close in a list, in capitals", fields(b"Connection: Upgrade ,\tCLOSE"), keep_alive=False),
    Taken("9112 9.3", "close in a second line", fields(b"Connection: keep-alive", b"Connection: close"), keep_alive=False),
    Taken("9112 9.3", "closed is not close", fields(b"Connection: closed, not-close")),
    Taken("9112 9.3", "HTTP/1.0 closes", b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", keep_alive=False, http11=False),
    Taken("9112 9.3", "HTTP/1.0 with keep-alive", b"GET / HTTP/1.0\r\n" + HOST + b"Connection: Keep-Alive\r\n\r\n", http11=False),
    # Bodies by length
    Taken("9112 6.3", "a length of 0", post(b"Content-Length: 0"), {"CONTENT_LENGTH": "0"}, method=b"POST"),
    Taken("9112 6.3", "a body of 5 bytes", post(b"Content-Length: 5", body=b"hello"), {"CONTENT_LENGTH": "5"}, body=b"hello", method=b"POST", content_length=5),
    Taken("9110 8.6", "a length with leading zeros", post(b"Content-Length: 005", body=b"hello"), body=b"hello", method=b"POST", content_length=5),
    Taken("9112 6.3", "no length is no body", post(), method=b"POST"),
    Taken("9112 6.3", "a GET without a length in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", host=b"", keep_alive=False, http11=False),
    Taken("9110 9.3.1", "a GET with a body", fields(b"Content-Length: 2") + b"ab", body=b"ab", content_length=2),
    Taken("9110 9.3.2", "a HEAD with a body", b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nab", body=b"ab", method=b"HEAD", content_length=2),
    Taken("9112 6.3", "a body that looks like a request", post(b"Content-Length: 18", body=b"GET / HTTP/1.1\r\n\r\n"), body=b"GET / HTTP/1.1\r\n\r\n", method=b"POST", content_length=18),
    # Bodies by chunks
    Taken("9112 7.1", "two chunks", chunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), {"HTTP_TRANSFER_ENCODING": "chunked"}, absent=("CONTENT_LENGTH",), body=b"hello!", method=b"POST", content_length=-1, chunked=True),
    Taken("9112 7.1", "no chunks", chunked(b"0\r\n\r\n"), method=b"POST", content_length=-1, chunked=True),
    Taken("9112 7", "Chunked in capitals", post(b"Transfer-Encoding: \tCHUNKED ", body=b"1\r\na\r\n0\r\n\r\n"), body=b"a", method=b"POST", content_length=-1, chunked=True),
    Taken("9112 7.1", "sizes in capitals, with zeros", chunked(b"000A\r\n0123456789\r\n0a\r\n0123456789\r\n000\r\n\r\n"), body=b"0123456789" * 2, method=b"POST", content_length=-1, chunked=True),
    Taken("9112 7.1", "a size of 15 digits", chunked(b"000000000000001\r\na\r\n0\r\n\r\n"), body=b"a", method=b"POST", content_length=-1, chunked=True),
    Taken("9112 7.1.1", "extensions are read over", chunked(b'1;a=b; c="d;e"\r\na\r\n0;f\r\n\r\n'), body=b"a", method=b"POST", content_length=-1, chunked=True),
    Taken("9112 7.1.1", "extensions of just under the limit in all", chunked((b"1;" + b"e" * 200 + b"\r\na\r\n") * (EXTENSIONS_LIMIT // 201) + b"0\r\n\r\n"), body=b"a" * (EXTENSIONS_LIMIT // 201), method=b"POST", content_length=-1, chunked=True),
    Taken("ours", "a size line of just the limit", chunked(b"1;" + b"a" * (CHUNK_LINE_LIMIT - 3) + b"\r\na\r\n0\r\n\r\n"), body=b"a", method=b"POST", content_length=-1, chunked=True),
    Taken("9112 7.1", "CRLF and sizes inside the bytes", chunked(b"a\r\n\r\n0\r\n\r\n5\r\n\r\n0\r\n\r\n"), body=b"\r\n0\r\n\r\n5\r\n", method=b"POST", content_length=-1, chunked=True),
    Taken("9110 6.5.1", "trailers are checked and dropped", chunked(b"1\r\na\r\n0\r\nX-A: b\r\nContent-Length: 5\r\n\r\n"), absent=("HTTP_X_A", "CONTENT_LENGTH"), body=b"a", method=b"POST", content_length=-1, chunked=True),
    # Expect
    Taken("9110 10.1.1", "Expect before a body", post(b"Expect: 100-Continue", b"Content-Length: 2", body=b"ab"), absent=("HTTP_EXPECT",), body=b"ab", method=b"POST", content_length=2, expect_continue=True),
    Taken("9110 10.1.1", "Expect before chunks", chunked(b"0\r\n\r\n", b"Expect: 100-continue"), method=b"POST", content_length=-1, chunked=True, expect_continue=True),
    Taken("9110 10.1.1", "Expect without a body", fields(b"Expect: 100-continue")),
    Taken("9110 10.1.1", "Expect in HTTP/1.0 is ignored", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", body=b"ab", method=b"POST", host=b"", content_length=2, keep_alive=False, http11=False),
)  # fmt: skip
