"""Request smuggling: bytes that two readers in a row may frame differently, with what a router that is reached directly does.

``%M`` is a marker of the row's own, of two letters. ``sent`` goes out piece by piece; ``ANSWER`` between two pieces waits for an answer or the
end. ``statuses`` are the answers on that connection, in order, and ``seen`` is what the app was asked: the target behind the
marker, and the body. Behind a front server other things may happen, but never that an app sees a request that the front did
not mean to send, nor that somebody else gets its answer.

Sources: Linhart et al. 2005; Kettle, "HTTP Desync Attacks" 2019 and "Browser-Powered Desync Attacks" 2022; the regression
tests of gunicorn, waitress, hyper and llhttp; CVE numbers where a row stands for one.
"""

from dataclasses import dataclass

ANSWER = b""
"""In ``sent``: go on when something has come back, or the other side has closed."""


@dataclass(frozen=True, slots=True)
class Row:
    kind: str
    name: str
    sent: tuple[bytes, ...]
    statuses: tuple[int, ...] = (400,)
    seen: tuple[tuple[bytes, bytes], ...] = ()

    def pieces(self, marker: bytes) -> tuple[bytes, ...]:
        return tuple(piece.replace(b"%M", marker) for piece in self.sent)


HOST = b"Host: echo.localhost\r\n"
SMUGGLED = b"GET /%M-smuggled HTTP/1.1\r\nHost: echo.localhost\r\nX-Cut: "
WHOLE = b"GET /%M-smuggled HTTP/1.1\r\nHost: echo.localhost\r\n\r\n"
ENDED = b"0\r\n\r\n" + WHOLE
BEHIND = b"GET /%M-behind HTTP/1.1\r\nHost: echo.localhost\r\n\r\n"


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/%M-a", version: bytes = b"HTTP/1.1", method: bytes = b"POST") -> bytes:
    head = method + b" " + target + b" " + version + b"\r\n" + HOST
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"


def length(size: int) -> bytes:
    return b"Content-Length: %d" % size


def te(name: str, line: bytes, status: int = 400) -> tuple[Row, Row]:
    """A Transfer-Encoding that one of two readers may not see as chunked, beside a length; either may be the one."""
    return (
        Row("TE.TE", name, (post(length(4), line, body=b"%x\r\n" % len(WHOLE) + WHOLE + b"\r\n0\r\n\r\n"),), (status,)),
        Row("TE.TE", f"{name}, the length over all", (post(length(len(ENDED)), line, body=ENDED),), (status,)),
    )


def lone(name: str, line: bytes, status: int) -> Row:
    """The same without a length: who does not see it takes the body for the next request."""
    return Row("TE.0", name, (post(line, body=b"0\r\n\r\n" + WHOLE),), (status,))


def sizes(name: str, chunk: bytes) -> Row:
    """A chunk's size that readers disagree about."""
    return Row("chunk", name, (post(CHUNKED, body=chunk + b"hello\r\n0\r\n\r\n" + WHOLE),))


ROWS = (
    # Both framings
    Row("CL.TE", "a length up to the smuggled request, chunks that end before it", (post(length(6 + len(SMUGGLED)), CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),)),
    Row("CL.TE", "one letter left over", (post(length(6), CHUNKED, body=b"0\r\n\r\nG"),)),
    Row("CL.TE", "Transfer-Encoding first", (post(CHUNKED, length(6), body=b"0\r\n\r\nG"),)),
    Row("CL.TE", "a length of 0", (post(length(0), CHUNKED, body=b"0\r\n\r\n"),)),
    Row("TE.CL", "chunks that hold a request, a length that ends in them", (post(length(4), CHUNKED, body=b"%x\r\n" % len(WHOLE) + WHOLE + b"\r\n0\r\n\r\n"),)),
    Row("TE.CL", "in a GET", (post(length(4), CHUNKED, body=b"%x\r\n" % len(WHOLE) + WHOLE + b"\r\n0\r\n\r\n", method=b"GET"),)),
    Row("TE.CL", "HTTP/1.0 with chunks", (post(CHUNKED, body=b"0\r\n\r\n" + WHOLE, version=b"HTTP/1.0"),)),
    Row("TE.CL", "HTTP/1.0 with both", (post(length(5), CHUNKED, body=b"0\r\n\r\n" + WHOLE, version=b"HTTP/1.0"),)),
    # Lengths
    Row("CL.CL", "two that differ", (post(length(5), length(0), body=b"hello" + WHOLE),)),
    Row("CL.CL", "two that are equal", (post(length(5), length(5), body=b"hello" + WHOLE),)),
    Row("CL.CL", "a list", (post(b"Content-Length: 5, 5", body=b"hello" + WHOLE),)),
    Row("CL.CL", "a list that differs", (post(b"Content-Length: 5, 0", body=b"hello" + WHOLE),)),
    Row("CL.CL", "two in other letters", (post(length(5), b"CONTENT-LENGTH: 0", body=b"hello" + WHOLE),)),
    Row("CL", "a plus sign", (post(b"Content-Length: +5", body=b"hello" + WHOLE),)),
    Row("CL", "negative", (post(b"Content-Length: -5", body=b"hello" + WHOLE),)),
    Row("CL", "negative zero", (post(b"Content-Length: -0", body=WHOLE),)),
    Row("CL", "an underscore in the digits", (post(b"Content-Length: 0_5", body=b"hello" + WHOLE),)),
    Row("CL", "hexadecimal", (post(b"Content-Length: 0x5", body=b"hello" + WHOLE),)),
    Row("CL", "a decimal point", (post(b"Content-Length: 5.0", body=b"hello" + WHOLE),)),
    Row("CL", "empty", (post(b"Content-Length:", body=WHOLE),)),
    Row("CL", "a blank between the digits", (post(b"Content-Length: 0 5", body=b"hello" + WHOLE),)),
    Row("CL", "2⁶⁴", (post(b"Content-Length: 18446744073709551616", body=WHOLE),)),
    Row("CL", "2⁶⁴ + 5", (post(b"Content-Length: 18446744073709551621", body=b"hello" + WHOLE),)),
    Row("CL", "digits of another script", (post("Content-Length: \u0665".encode(), body=b"hello" + WHOLE),)),
    Row("CL", "a vertical tab before it", (post(b"Content-Length:\x0b5", body=b"hello" + WHOLE),)),
    Row("CL", "leading zeros are only zeros", (post(b"Content-Length: 0005", body=b"hello" + BEHIND),), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    Row("CL", "blanks around it mean nothing", (post(b"Content-Length: \t 5 \t", body=b"hello" + BEHIND),), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    # Transfer-Encoding that is hidden from one of two
    *te("a blank before the colon", b"Transfer-Encoding : chunked"),
    *te("a tab before the colon", b"Transfer-Encoding\t: chunked"),
    *te("no blank behind the colon", b"Transfer-Encoding:chunked"),
    *te("a blank behind the value", b"Transfer-Encoding: chunked "),
    *te("a tab before the value", b"Transfer-Encoding:\tchunked"),
    *te("a vertical tab before the value (CVE-2020-1944)", b"Transfer-Encoding:\x0bchunked"),
    *te("a form feed before the value", b"Transfer-Encoding:\x0cchunked"),
    *te("a NUL behind the value", b"Transfer-Encoding: chunked\0"),
    *te("a NUL in the name", b"Transfer-Encoding\0: chunked"),
    *te("a control character in the name", b"Transfer-Encoding\x01: chunked"),
    *te("a letter that is no letter in the name", b"Transfer-Encod\xc4\xb1ng: chunked"),
    *te("quotes", b'Transfer-Encoding: "chunked"', 501),
    *te("another coding", b"Transfer-Encoding: xchunked", 501),
    *te("a coding and a parameter", b"Transfer-Encoding: chunked;q=1", 501),
    *te("identity (CVE-2018-8004)", b"Transfer-Encoding: identity", 501),
    *te("chunked first", b"Transfer-Encoding: chunked, identity"),
    *te("chunked last", b"Transfer-Encoding: identity, chunked", 501),
    *te("chunked twice in a list", b"Transfer-Encoding: chunked, chunked"),
    *te("an empty element", b"Transfer-Encoding: ,chunked", 501),
    *te("twice", CHUNKED + b"\r\nTransfer-Encoding: x"),
    *te("twice, the other first", b"Transfer-Encoding: x\r\n" + CHUNKED, 501),
    *te("folded", b"Transfer-Encoding:\r\n chunked"),
    *te("folded with a tab", b"Transfer-Encoding:\r\n\tchunked"),
    *te("behind a bare LF (CVE-2019-16785)", b"X: y\n" + CHUNKED),
    *te("behind a bare CR", b"X: y\r" + CHUNKED),
    *te("behind an empty header name", b": y\r\n" + CHUNKED),
    *te("with a blank before its name", b" Transfer-Encoding: chunked"),
    *te("upper case", b"TRANSFER-ENCODING: CHUNKED"),
    # An underscore is no dash: the length counts, and the field is nobody's.
    Row("TE.TE", "an underscore in the name", (post(length(5), b"Transfer_Encoding: chunked", body=b"hello" + BEHIND),), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    Row("TE.TE", "an underscore in the name, the length over all", (post(length(len(ENDED)), b"Transfer_Encoding: chunked", body=ENDED),), (200,), ((b"-a", ENDED),)),
    Row("TE.TE", "another dash in the name, the length over all", (post(length(len(ENDED)), b"Transfer.Encoding: chunked", body=ENDED),), (200,), ((b"-a", ENDED),)),
    Row("CL.CL", "an underscore in the name", (post(length(5), b"Content_Length: 0", body=b"hello" + BEHIND),), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    # The same with no length to fall back on
    lone("another coding", b"Transfer-Encoding: xchunked", 501),
    lone("identity", b"Transfer-Encoding: identity", 501),
    lone("empty", b"Transfer-Encoding:", 400),
    lone("quotes", b'Transfer-Encoding: "chunked"', 501),
    lone("chunked first", b"Transfer-Encoding: chunked, gzip", 400),
    lone("gzip, chunked", b"Transfer-Encoding: gzip, chunked", 501),
    lone("a tab inside", b"Transfer-Encoding: chu\tnked", 501),
    # Chunk sizes
    sizes("0x", b"0x5\r\n"),
    sizes("a plus sign", b"+5\r\n"),
    sizes("negative", b"-5\r\n"),
    sizes("an underscore", b"0_5\r\n"),
    sizes("a blank before it", b" 5\r\n"),
    sizes("a blank behind it", b"5 \r\n"),
    sizes("a tab behind it", b"5\t\r\n"),
    sizes("a letter that is no digit", b"5g\r\n"),
    sizes("empty", b"\r\n"),
    sizes("2⁶⁴ + 5 (CVE-2013-2028)", b"10000000000000005\r\n"),
    sizes("2³² + 5 with zeros before it", b"0000000100000005\r\n"),
    sizes("a bare LF behind it", b"5\n"),
    sizes("a bare CR behind it", b"5\r"),
    sizes("two CR behind it", b"5\r\r\n"),
    sizes("a NUL behind it", b"5\0\r\n"),
    Row("chunk", "a chunk longer than its size", (post(CHUNKED, body=b"5\r\nhello!\r\n0\r\n\r\n" + WHOLE),)),
    Row("chunk", "a chunk that ends in a bare LF", (post(CHUNKED, body=b"5\r\nhello\n0\r\n\r\n" + WHOLE),)),
    Row("chunk", "no CRLF between two chunks (CVE-2022-24761)", (post(CHUNKED, body=b"5\r\nhelloXX0\r\n\r\n" + WHOLE),)),
    Row("chunk", "leading zeros are only zeros", (post(CHUNKED, body=b"00005\r\nhello\r\n000\r\n\r\n" + BEHIND),), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    # Chunk extensions (CVE-2024-27982, TERM.EXT, EXT.TERM)
    Row("EXT", "an LF in an extension", (post(CHUNKED, body=b"5;a\nhello\r\n0\r\n\r\n" + WHOLE),)),
    Row("EXT", "a CR in an extension", (post(CHUNKED, body=b"5;a\rb\r\nhello\r\n0\r\n\r\n" + WHOLE),)),
    Row("EXT", "a NUL in an extension", (post(CHUNKED, body=b"5;\0\r\nhello\r\n0\r\n\r\n" + WHOLE),)),
    Row("EXT", "an LF in a quoted extension", (post(CHUNKED, body=b'5;a="\n"\r\nhello\r\n0\r\n\r\n' + WHOLE),)),
    Row("EXT", "an extension of the last chunk that ends in LF", (post(CHUNKED, body=b"5\r\nhello\r\n0;a\n\r\n" + WHOLE),)),
    Row("EXT", "a long extension", (post(CHUNKED, body=b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n" + WHOLE),)),
    Row("EXT", "an extension that is none of the body's business", (post(CHUNKED, body=b'5;a=b;c="d;e"\r\nhello\r\n0;f\r\n\r\n' + BEHIND),), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    # Trailers
    Row("trailer", "a request as a trailer", (post(CHUNKED, body=b"0\r\n" + WHOLE),)),
    Row("trailer", "a bare LF ends a trailer", (post(CHUNKED, body=b"0\r\nX: y\n\r\n" + WHOLE),)),
    Row("trailer", "a bare LF ends the trailers", (post(CHUNKED, body=b"0\r\nX: y\r\n\n" + WHOLE),)),
    Row("trailer", "a folded trailer", (post(CHUNKED, body=b"0\r\nX: y\r\n z\r\n\r\n" + WHOLE),)),
    Row("trailer", "a blank before the colon", (post(CHUNKED, body=b"0\r\nX : y\r\n\r\n" + WHOLE),)),
    Row("trailer", "framing as a trailer changes nothing", (post(CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 100\r\n\r\n" + BEHIND),), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    # Lines of the head
    Row("line", "bare LF as line ends", ((post(length(5), body=b"hello").replace(b"\r\n", b"\n") + WHOLE),)),
    Row("line", "bare CR as line ends", (post(b"X: y\rContent-Length: 5", body=b"hello" + WHOLE),)),
    Row("line", "CR CR LF", (post(b"X: y\r", length(5), body=b"hello" + WHOLE),)),
    Row("line", "an LF alone as the empty line", (b"POST /%M-a HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\nhello" + WHOLE,)),
    Row("line", "a header line without a colon", (post(b"Content-Length 5", body=b"hello" + WHOLE),)),
    Row("line", "a folded length", (post(b"Content-Length:\r\n 5", body=b"hello" + WHOLE),)),
    Row("line", "a header on the request line's fold", (b"GET /%M-a HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n" + WHOLE,)),
    Row("line", "two blanks in the request line", (b"GET  /%M-a HTTP/1.1\r\n" + HOST + b"\r\n" + WHOLE,)),
    Row("line", "a request line in the target", (b"GET /%M-a HTTP/1.1\r\nX: y HTTP/1.1\r\n" + HOST.replace(b": ", b" ") + b"\r\n",)),
    Row("line", "HTTP/0.9", (b"GET /%M-a\r\n\r\n" + WHOLE,)),
    Row("line", "a version without its point", (b"GET /%M-a HTTP/11\r\n" + HOST + b"\r\n" + WHOLE,)),
    Row("line", "HTTP/2 in a request line", (b"GET /%M-a HTTP/2.0\r\n" + HOST + b"\r\n" + WHOLE,), (505,)),
    # A body that one of two ignores
    Row("CL.0", "an app that reads no body", (post(length(len(WHOLE) + 10), body=b"x" * 10 + WHOLE, target=b"/%M-ignore"), BEHIND), (200, 200), ((b"-ignore", b""), (b"-behind", b""))),
    Row("CL.0", "a GET with a body", (post(length(5), body=b"hello", method=b"GET") + BEHIND,), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    Row("CL.0", "a HEAD with a body", (post(length(5), body=b"hello", method=b"HEAD") + BEHIND,), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    Row("CL.0", "chunks that an app does not read", (post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n", target=b"/%M-ignore") + BEHIND,), (200, 200), ((b"-ignore", b""), (b"-behind", b""))),
    Row("CL.0", "an unknown host", (post(length(5), body=b"hello").replace(b"echo.localhost", b"nobody.localhost") + BEHIND,), (404, 200), ((b"-behind", b""),)),
    Row("CL.0", "Connection names the length", (post(length(5), b"Connection: Content-Length", body=b"hello") + BEHIND,), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    Row("TE.0", "Connection names the coding", (post(CHUNKED, b"Connection: Transfer-Encoding", body=b"5\r\nhello\r\n0\r\n\r\n") + BEHIND,), (200, 200), ((b"-a", b"hello"), (b"-behind", b""))),
    Row("0.CL", "a length that a colon hides", (post(b"Content-Length : 5", body=b"hello" + WHOLE),)),
    Row("0.CL", "a length behind a bare CR", (post(b"X: y\rContent-Length: 5", body=b"hello" + WHOLE),)),
    Row("0.CL", "Expect in a list", (post(length(5), b"Expect: 100-continue, x", body=b"hello" + WHOLE),), (417,)),
    # Waiting
    Row("pause", "a body that never comes, then a request in its place", (post(length(len(WHOLE))), ANSWER, WHOLE), (408,)),
    Row("pause", "chunks that stop, then a request in their place", (post(CHUNKED, body=b"5\r\nhel"), ANSWER, WHOLE), (408,)),
    # Whose host
    Row("host", "two", (post(b"Host: nobody.localhost"),)),
    Row("host", "an absolute target and another Host", (b"GET http://echo.localhost/%M-a HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n",), (200,), ((b"-a", b""),)),
    Row("host", "with a path behind it", (b"GET /%M-a HTTP/1.1\r\nHost: echo.localhost/x\r\n\r\n",)),
)  # fmt: skip
