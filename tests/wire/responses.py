"""Response heads as a worker may send them, good and bad (docs/specs/backplane.md, section 9).

``BAD`` heads must never reach a client. ``GOOD`` rows give what the client must see for one kind of request.
"""

from dataclasses import dataclass

HTTP11 = 1
KEEP_ALIVE = 2
HEAD = 4
UWSGI = 8
TRAILERS = 16

NO_BODY = 0
LENGTH = 1
CHUNKED = 2
UNTIL_CLOSE = 3

DATE = b"Date: Sun, 22 Nov 2026 14:03:01 GMT\r\n"

OK = b"200 OK\r\n"

BAD = {
    # Status line
    "nothing": b"",
    "a line end": b"\r\n",
    "a status alone, cut off": b"200",
    "a status line without its end": b"200 OK",
    "a status line that ends in a bare LF": b"200 OK\n",
    "a status line that ends in a bare CR": b"200 OK\r",
    "a status of two digits": b"20 OK\r\n",
    "a status of four digits": b"2000 OK\r\n",
    "a status of letters": b"abc OK\r\n",
    "a negative status": b"-20 OK\r\n",
    "a status that starts with 0": b"099 OK\r\n",
    "a blank before the status": b" 200 OK\r\n",
    "a tab behind the status": b"200\tOK\r\n",
    "a reason right behind the status": b"200OK\r\n",
    "an interim status": b"100 Continue\r\n",
    "101, which needs a word about it": b"101 Switching Protocols\r\nUpgrade: websocket\r\n",
    "199": b"199 Nearly\r\n",
    "a NUL in the reason": b"200 O\0K\r\n",
    "a control character in the reason": b"200 O\x01K\r\n",
    "DEL in the reason": b"200 O\x7fK\r\n",
    "bare CR in the reason": b"200 O\rK\r\n",
    "an HTTP status line": b"HTTP/1.1 200 OK\r\n",
    # Header lines
    "an empty line at the end": OK + b"\r\n",
    "an empty line in the middle": OK + b"A: b\r\n\r\nC: d\r\n",
    "a body behind the head": OK + b"\r\n<html>",
    "a header without a colon": OK + b"abc\r\n",
    "a header without a name": OK + b": b\r\n",
    "a header line without its end": OK + b"A: b",
    "a header line that ends in CR": OK + b"A: b\r",
    "a header line that ends in a bare LF": OK + b"A: b\n",
    "a bare LF in a value": OK + b"A: b\nSet-Cookie: c=d\r\n",
    "a bare CR in a value": OK + b"A: b\rSet-Cookie: c=d\r\n",
    "CR CR LF": OK + b"A: b\r\r\n",
    "a NUL in a value": OK + b"A: b\0c\r\n",
    "a control character in a value": OK + b"A: \x1b[2J\r\n",
    "DEL in a value": OK + b"A: \x7f\r\n",
    "a folded line": OK + b"A: b\r\n c\r\n",
    "a blank before the colon": OK + b"A : b\r\n",
    "a tab before the colon": OK + b"A\t: b\r\n",
    "a blank in a name": OK + b"A B: c\r\n",
    "a name that is not ASCII": OK + b"\xc4: b\r\n",
    "a name with a NUL": OK + b"A\0: b\r\n",
    "a name in parentheses": OK + b"(A): b\r\n",
    "a name with a slash": OK + b"A/B: c\r\n",
    # Length
    "two different Content-Length": OK + b"Content-Length: 5\r\ncontent-length: 6\r\n",
    "two equal Content-Length": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "two Content-Length of 0": OK + b"Content-Length: 0\r\nContent-Length: 0\r\n",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n",
    "an empty Content-Length": OK + b"Content-Length:\r\n",
    "a Content-Length of blanks": OK + b"Content-Length:  \t\r\n",
    "a negative Content-Length": OK + b"Content-Length: -1\r\n",
    "a Content-Length with a plus": OK + b"Content-Length: +1\r\n",
    "a hexadecimal Content-Length": OK + b"Content-Length: 0x5\r\n",
    "a Content-Length with a blank": OK + b"Content-Length: 1 0\r\n",
    "a Content-Length of 19 digits": OK + b"Content-Length: 9999999999999999999\r\n",
    "a bad Content-Length on a 204": b"204 No Content\r\nContent-Length: x\r\n",
    # Size
    "more than 65,535 bytes": OK + b"A: " + b"b" * 65535 + b"\r\n",
    "many short lines that grow on the way": OK + b"a:\r\n" * 16380,
}


@dataclass(frozen=True, slots=True)
class Good:
    clause: str
    name: str
    head: bytes
    flags: int
    whole: int
    out: bytes
    length: int
    framing: int
    keep: bool


KEEP11 = HTTP11 | KEEP_ALIVE

GOOD = (
    Good("9112 6.2", "all of the body at hand", OK, KEEP11, 5, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\n\r\n", 5, LENGTH, True),
    Good("9112 6.2", "an empty body at hand", OK, KEEP11, 0, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("9112 6.2", "the app's length", OK + b"Content-Length: 7\r\n", KEEP11, -1, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 7\r\n\r\n", 7, LENGTH, True),
    Good("9112 6.2", "the app's length wins", OK + b"content-LENGTH:  007\t\r\n", KEEP11, 5, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 7\r\n\r\n", 7, LENGTH, True),
    Good("9112 6.1", "chunks when the length is unknown", OK, KEEP11, -1, b"HTTP/1.1 200 OK\r\n" + DATE + b"Transfer-Encoding: chunked\r\n\r\n", -1, CHUNKED, True),
    Good("9112 6.1", "chunks, and then the end", OK, HTTP11, -1, b"HTTP/1.1 200 OK\r\n" + DATE + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", -1, CHUNKED, False),
    Good("9112 6.1", "no chunks for HTTP/1.0", OK, KEEP_ALIVE, -1, b"HTTP/1.1 200 OK\r\n" + DATE + b"Connection: close\r\n\r\n", -1, UNTIL_CLOSE, False),
    Good("9112 9.3", "keep-alive for HTTP/1.0", OK, KEEP_ALIVE, 5, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\nConnection: keep-alive\r\n\r\n", 5, LENGTH, True),
    Good("9112 9.3", "HTTP/1.0 without keep-alive", OK, 0, 5, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\nConnection: close\r\n\r\n", 5, LENGTH, False),
    Good("9112 9.6", "the app closes", OK + b"Connection: Close\r\n", KEEP11, 5, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\nConnection: close\r\n\r\n", 5, LENGTH, False),
    Good("9112 9.6", "the app closes in a list", OK + b"Connection: x, close\r\n", KEEP11, 5, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\nConnection: close\r\n\r\n", 5, LENGTH, False),
    Good("9112 9.3", "the app cannot keep what must close", OK + b"Connection: keep-alive\r\n", HTTP11, 5, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\nConnection: close\r\n\r\n", 5, LENGTH, False),
    Good("9110 9.3.2", "HEAD keeps the app's length and has no body", OK + b"Content-Length: 7\r\n", KEEP11 | HEAD, -1, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 7\r\n\r\n", 7, NO_BODY, True),
    Good("9110 9.3.2", "HEAD without a length says none", OK, KEEP11 | HEAD, 0, b"HTTP/1.1 200 OK\r\n" + DATE + b"\r\n", -1, NO_BODY, True),
    Good("9110 9.3.2", "HEAD for HTTP/1.0 can keep", OK, KEEP_ALIVE | HEAD, -1, b"HTTP/1.1 200 OK\r\n" + DATE + b"Connection: keep-alive\r\n\r\n", -1, NO_BODY, True),
    Good("9110 8.6", "204 has no length", b"204 No Content\r\nContent-Length: 5\r\n", KEEP11, 5, b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n", -1, NO_BODY, True),
    Good("9110 15.4.5", "304 may say the length of what it does not send", b"304 Not Modified\r\nContent-Length: 5\r\n", KEEP11, 0, b"HTTP/1.1 304 Not Modified\r\n" + DATE + b"Content-Length: 5\r\n\r\n", 5, NO_BODY, True),
    Good("9110 15.4.5", "304 gets no length of ours", b"304 Not Modified\r\n", KEEP11, 0, b"HTTP/1.1 304 Not Modified\r\n" + DATE + b"\r\n", -1, NO_BODY, True),
    Good("9110 15.3.6", "205 has no content, and says so", b"205 Reset Content\r\nContent-Length: 5\r\n", KEEP11, 5, b"HTTP/1.1 205 Reset Content\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, NO_BODY, True),
    Good("9110 15.3.6", "205 of unknown length", b"205 Reset Content\r\n", KEEP11, -1, b"HTTP/1.1 205 Reset Content\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, NO_BODY, True),
    Good("9110 15.3.6", "205 to HEAD", b"205 Reset Content\r\n", KEEP11 | HEAD, -1, b"HTTP/1.1 205 Reset Content\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, NO_BODY, True),
    Good("9110 15.5.22", "426 says to what", b"426 Upgrade Required\r\nUpgrade: websocket\r\n", KEEP11, 0, b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n" + DATE + b"Content-Length: 0\r\nConnection: upgrade\r\n\r\n", 0, LENGTH, True),
    Good("9110 15.5.22", "426 with a Connection of the app's, and closes", b"426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", HTTP11, 0, b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n" + DATE + b"Content-Length: 0\r\nConnection: close, upgrade\r\n\r\n", 0, LENGTH, False),
    Good("9110 15.5.22", "426 to HTTP/1.0 says nothing of it", b"426 Upgrade Required\r\nUpgrade: websocket\r\n", 0, 0, b"HTTP/1.1 426 Upgrade Required\r\n" + DATE + b"Content-Length: 0\r\nConnection: close\r\n\r\n", 0, LENGTH, False),
    Good("9110 6.6.2", "Trailer passes to who takes trailers", OK + b"Trailer: X-Sum\r\n", KEEP11 | TRAILERS, -1, b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n" + DATE + b"Transfer-Encoding: chunked\r\n\r\n", -1, CHUNKED, True),
    Good("9110 6.6.1", "the app's Date", OK + b"DATE: Thu, 01 Jan 1970 00:00:00 GMT\r\n", KEEP11, 0, b"HTTP/1.1 200 OK\r\nDATE: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("9112 4", "no reason", b"200\r\n", KEEP11, 0, b"HTTP/1.1 200 \r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("9112 4", "an empty reason", b"200 \r\n", KEEP11, 0, b"HTTP/1.1 200 \r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("9112 4", "a reason of other letters", b"200 Sch\xf6n\tda\r\n", KEEP11, 0, b"HTTP/1.1 200 Sch\xf6n\tda\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("9110 15", "999", b"999 Odd\r\n", KEEP11, 0, b"HTTP/1.1 999 Odd\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("9110 5.5", "blanks are trimmed, the rest stays as it is", OK + b"x-A:\t b \xe4,c \t\r\nB:\r\nx-A: 2\r\n", KEEP11, 0, b"HTTP/1.1 200 OK\r\nx-A: b \xe4,c\r\nB: \r\nx-A: 2\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("6265 3", "cookies stay apart", OK + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n", KEEP11, 0, b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good(
        "9110 7.6.1",
        "hop-by-hop headers are taken out",
        OK + b"Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nTE: x\r\nTrailer: A\r\nUpgrade: h2c\r\nProxy-Connection: close\r\nA: b\r\n",
        KEEP11, 5, b"HTTP/1.1 200 OK\r\nA: b\r\n" + DATE + b"Content-Length: 5\r\n\r\n", 5, LENGTH, True,
    ),
    Good("9110 7.6.1", "what the app's Connection names is taken out, before it and behind it", OK + b"x-HOP: 1\r\nConnection: X-Hop, X-Other\r\nX-Other: 2\r\nA: b\r\nConnection: a\r\n", KEEP11, 0, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    Good("9110 7.6.1", "but not what frames the body", OK + b"Content-Length: 5\r\nContent-Type: a/b\r\nConnection: content-length, content-type, close\r\n", KEEP11, -1, b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n" + DATE + b"Content-Length: 5\r\nConnection: close\r\n\r\n", 5, LENGTH, False),
    Good("9112 6.1", "an app's Transfer-Encoding frames nothing", OK + b"Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", KEEP11, -1, b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\n\r\n", 5, LENGTH, True),
    Good("ours", "names that only begin like those", OK + b"Te-st: a\r\nContent-Lengthy: b\r\nDated: c\r\nUpgraded: d\r\n", KEEP11, 0, b"HTTP/1.1 200 OK\r\nTe-st: a\r\nContent-Lengthy: b\r\nDated: c\r\nUpgraded: d\r\n" + DATE + b"Content-Length: 0\r\n\r\n", 0, LENGTH, True),
    # uwsgi: the front server frames the body, dates the response and owns its connection
    Good("uwsgi", "nothing is added but a known length", OK + b"A: b\r\nConnection: close\r\n", UWSGI | HTTP11, 5, b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\n", 5, LENGTH, False),
    Good("uwsgi", "until close when the length is unknown", OK, UWSGI | HTTP11, -1, b"HTTP/1.1 200 OK\r\n\r\n", -1, UNTIL_CLOSE, False),
    Good("uwsgi", "HEAD", OK + b"Content-Length: 7\r\n", UWSGI | HTTP11 | HEAD, -1, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", 7, NO_BODY, False),
    Good("uwsgi", "204", b"204 No Content\r\n", UWSGI | HTTP11, 0, b"HTTP/1.1 204 No Content\r\n\r\n", -1, NO_BODY, False),
)  # fmt: skip
