import itertools
import time

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emperor.protocol import http1
from emperor.protocol.errors import HttpError
from emperor.protocol.http1 import Reader
from emperor.protocol.packet import RequestHead, altered
from tests.protocol.pieces import PREFIX, Outcome, Read, bytewise, cut, read
from tests.wire import http1 as wire

NEXT = b"GET /next HTTP/1.1\r\nHost: next.example\r\n\r\n"


def names(rows: tuple[wire.Refused, ...] | tuple[wire.Taken, ...]) -> list[str]:
    return [f"{row.clause}: {row.name}" for row in rows]


def test_the_limits_are_the_ones_that_the_corpus_is_written_for() -> None:
    limits = http1.DEFAULTS
    assert (limits.head, limits.line, limits.fields) == (wire.HEAD_LIMIT, wire.LINE_LIMIT, wire.FIELDS_LIMIT)
    assert (limits.trailers, limits.chunk_line) == (wire.TRAILERS_LIMIT, wire.CHUNK_LINE_LIMIT)
    assert limits.extensions == wire.EXTENSIONS_LIMIT


@pytest.mark.parametrize("row", wire.REFUSED, ids=names(wire.REFUSED))
def test_refused(row: wire.Refused) -> None:
    ways: dict[str, Outcome] = {
        "whole": read([row.sent]),
        "byte by byte": read(bytewise(row.sent)),
        "with a tail": read([row.sent + NEXT]),
        "in two halves": read(cut(row.sent, [len(row.sent) // 2])),
        "behind another request": read([NEXT + row.sent]),
    }
    assert {way: outcome.status for way, outcome in ways.items()} == dict.fromkeys(ways, row.status)
    behind = ways.pop("behind another request")
    assert behind.requests[0].whole
    for way, outcome in (*ways.items(), ("behind", Outcome(behind.requests[1:]))):
        assert not any(one.whole for one in outcome.requests), f"{way}: it was read as whole"
        assert len(outcome.requests) <= 1, f"{way}: two requests were read out of it"
    assert ways["whole"].reason == ways["byte by byte"].reason


@pytest.mark.parametrize("row", wire.TAKEN, ids=names(wire.TAKEN))
def test_taken(row: wire.Taken) -> None:
    whole = read([row.sent])
    assert (whole.status, whole.reason, whole.left) == (0, "", 0)
    [one] = whole.requests
    head = one.head
    assert (head.method, head.host, head.path) == (row.method, row.host, row.path)
    assert (head.content_length, head.chunked) == (row.content_length, row.chunked)
    assert (head.keep_alive, head.expect_continue) == (row.keep_alive, row.expect_continue)
    assert (head.http11, head.is_head) == (row.http11, row.method == b"HEAD")
    assert (one.body, one.whole) == (row.body, True)
    assert {key: one.environ.get(key) for key in row.environ} == dict(row.environ)
    assert not one.environ.keys() & set(row.absent)
    assert one.environ["REQUEST_SCHEME"] == "http"

    assert read(bytewise(row.sent)).seen() == whole.seen()
    tailed = read([row.sent + NEXT])
    assert tailed.requests[0].seen() == one.seen()
    assert [other.head.path for other in tailed.requests[1:]] == [b"/next"]


@pytest.mark.parametrize("row", wire.TAKEN, ids=names(wire.TAKEN))
def test_a_request_that_is_cut_off_is_neither_refused_nor_whole(row: wire.Taken) -> None:
    step = max(1, len(row.sent) // 400)
    for size in range(1, len(row.sent), step):
        outcome = read([row.sent[:size]])
        assert outcome.status == 0, f"refused after {size} bytes: {outcome.reason}"
        if row.sent[:size].strip(b"\r\n"):
            assert not any(one.whole for one in outcome.requests), f"whole after {size} bytes"


def test_idempotent_is_what_rfc_9110_9_2_2_says() -> None:
    methods = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "POST", "PATCH", "get", "Get", "M-SEARCH"]
    found = {m for m in methods if read([wire.line(m.encode() + b" / HTTP/1.1")]).requests[0].head.idempotent}
    assert found == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"}


def test_a_reader_reads_one_request_at_a_time() -> None:
    reader = Reader(PREFIX)
    assert reader.idle()
    assert reader.next() is None
    reader.feed(NEXT * 2)
    assert not reader.idle()
    first = reader.next()
    assert reader.buffered() == len(NEXT)
    assert reader.next() is True
    assert not reader.started
    assert not reader.idle()
    second = reader.next()
    assert first is not second
    assert reader.next() is True
    assert reader.next() is None
    assert reader.idle()
    assert reader.buffered() == 0


def test_started_tells_a_head_that_has_begun_from_a_connection_between_two_requests() -> None:
    reader = Reader(PREFIX)
    seen = []
    for byte in bytewise(b"\r\n" + NEXT):
        reader.feed(byte)
        piece = reader.next()
        assert piece is None or byte == b"\n"
        seen.append((reader.started, reader.idle()))
        if piece is not None:
            break
    assert seen[:3] == [(False, False), (False, True), (True, False)]
    assert set(seen[2:-1]) == {(True, False)}
    assert seen[-1] == (True, False)


def test_bytes_of_a_body_come_as_they_arrive_and_not_only_when_all_are_there() -> None:
    reader = Reader(PREFIX)
    reader.feed(wire.post(b"Content-Length: 10"))
    reader.next()
    assert reader.next() is None
    reader.feed(b"hello")
    assert reader.next() == b"hello"
    assert reader.next() is None
    reader.feed(b"world" + NEXT)
    assert reader.next() == b"world"
    assert reader.next() is True
    assert reader.buffered() == len(NEXT)


# Cutting never changes what is read

SPECIAL = {
    *(
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "expect",
        "proxy",
        "te",
        "trailer",
        "upgrade",
    ),
    *("keep-alive", "proxy-connection", "content-type", "cookie"),
}
tokens = st.text("abcXYZ019-", min_size=1, max_size=12).filter(lambda name: name.lower() not in SPECIAL)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(str.encode)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A valid request, and its body as the app must see it."""
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE"]))
    target = b"/" + draw(st.text("abc/%41?&=", max_size=20)).encode().replace(b"%", b"%2")
    lines = [b"Host: a.example"]
    lines += [
        name.encode() + b":" + text for name, text in draw(st.lists(st.tuples(tokens, values), max_size=6))
    ]
    body = draw(st.binary(max_size=60))
    sent = body
    match draw(st.sampled_from(["none", "length", "chunks"])):
        case "none":
            body = sent = b""
        case "length":
            lines.append(b"Content-Length: %d" % len(body))
        case "chunks":
            lines.append(b"Transfer-Encoding: chunked")
            pieces = cut(body, draw(st.lists(st.integers(1, 60), max_size=4))) if body else []
            extension = draw(st.sampled_from([b"", b";a", b';a="b c"']))
            sent = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
            sent += b"0\r\n" + draw(st.sampled_from([b"", b"X-Sum: 1\r\n"])) + b"\r\n"
    lines = draw(st.permutations(lines))
    return method + b" " + target + b" HTTP/1.1\r\n" + b"".join(
        one + b"\r\n" for one in lines
    ) + b"\r\n" + sent, body


@settings(max_examples=120, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(1, 900), max_size=12))
def test_any_cutting_of_valid_requests_gives_the_same_requests(
    sent: list[tuple[bytes, bytes]], places: list[int]
) -> None:
    raw = b"".join(one for one, _ in sent)
    whole = read([raw])
    assert whole.status == 0
    assert [one.body for one in whole.requests] == [body for _, body in sent]
    assert all(one.whole for one in whole.requests)
    assert read(cut(raw, places)).seen() == whole.seen()
    assert read(bytewise(raw)).seen() == whole.seen()


# Hostile bytes, made from valid ones by small changes

FRAGMENTS = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"5", b"a", b"\x7f", b"\xff", b"_", b"-"),
    *(b"\r\n\r\n", b"0\r\n\r\n", b"\r\n ", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n"),
    *(b"chunked", b"Content-Length", b"Transfer-Encoding", b"HTTP/1.0", b"HTTP/1.1", b"http://b.example"),
    *(b"Connection: close\r\n", b"Expect: 100-continue\r\n"),
]  # fmt: skip

CORPUS = [row.sent for row in (*wire.REFUSED, *wire.TAKEN) if len(row.sent) < 600]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A row of the corpus or a valid request, a little changed."""
    raw = draw(st.one_of(st.sampled_from(CORPUS), requests().map(lambda pair: pair[0])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        match draw(st.sampled_from(["insert", "drop", "replace", "double"])):
            case "insert":
                raw = raw[:at] + draw(st.sampled_from(FRAGMENTS)) + raw[at:]
            case "drop":
                raw = raw[:at] + raw[at + draw(st.integers(1, 4)) :]
            case "replace":
                raw = raw[:at] + draw(st.sampled_from(FRAGMENTS)) + raw[at + 1 :]
            case "double":
                size = draw(st.integers(1, 40))
                raw = raw[:at] + raw[at : at + size] + raw[at:]
    return raw


@settings(max_examples=300, deadline=None)
@given(changed(), st.lists(st.integers(1, 300), max_size=6))
def test_any_cutting_of_hostile_bytes_gives_the_same_verdict(raw: bytes, places: list[int]) -> None:
    whole = read([raw])
    assert read(cut(raw, places)).seen() == whole.seen()
    assert read(bytewise(raw)).seen() == whole.seen()


# Against h11, an independent reader of the same grammar


def h11_read(raw: bytes) -> tuple[str, h11.Request | None, bytes, int]:
    """``("whole" | "partial" | reason of the refusal, request, body, bytes left)`` of the first request."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * wire.HEAD_LIMIT)
    request: h11.Request | None = None
    body = b""
    connection.receive_data(raw)
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            return str(error), request, body, 0
        match event:
            case h11.Request():
                request = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return "whole", request, body, len(connection.trailing_data[0])
            case h11.NEED_DATA:
                return "partial", request, body, 0
            case _:
                return f"ended by {event!r}", request, body, 0


def first_of(raw: bytes) -> tuple[Outcome, int]:
    """The first request alone, as a connection reads it that answers before it goes on; and the bytes behind it."""
    reader = Reader(PREFIX)
    out = Outcome()
    reader.feed(raw)
    try:
        while (piece := reader.next()) is not None:
            if piece is True:
                out.requests[-1].whole = True
                break
            if isinstance(piece, bytes):
                out.requests[-1].body += piece
            else:
                out.requests.append(Read(piece))
    except HttpError as error:
        out.status, out.reason = error.status, str(error)
    return out, reader.buffered()


JUSTIFIED = {
    # What h11 refuses and we take; each with the reason why no two readers frame the rest in different ways.
    "no request line received",  # RFC 9112, 2.2: a server SHOULD ignore an empty line before the request line
}


def policy(request: h11.Request) -> dict[str, str]:
    """The variables that the headers of ``request`` must become, written down apart from the code under test."""
    out: dict[str, list[str]] = {}
    dropped = {"PROXY", "CONNECTION", "KEEP-ALIVE", "PROXY-CONNECTION", "TE", "TRAILER", "UPGRADE", "EXPECT"}
    kept = {"HOST", "CONTENT-TYPE", "CONTENT-LENGTH", "TRANSFER-ENCODING"}
    for raw_name, raw_value in request.headers:
        if raw_name == b"connection":
            dropped |= {one.strip(" \t") for one in raw_value.decode("latin-1").upper().split(",")} - kept
    for raw_name, raw_value in request.headers:
        name = raw_name.decode().upper()
        if name in dropped or not all(letter.isalnum() or letter == "-" for letter in name):
            continue
        variable = name.replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = "HTTP_" + variable
        out.setdefault(variable, []).append(raw_value.decode("latin-1"))
    return {key: ("; " if key == "HTTP_COOKIE" else ", ").join(values) for key, values in out.items()}


def is_chunked(raw: bytes) -> bool:
    """The first head says so."""
    return b"\r\ntransfer-encoding:" in raw.lstrip(b"\r\n").partition(b"\r\n\r\n")[0].lower()


def compare(raw: bytes) -> str:
    """Both readers over the same bytes; the kind of agreement. Fails where they frame the bytes in different ways."""
    theirs, request, body, left = h11_read(raw)
    ours, our_left = first_of(raw)
    if ours.status:
        return "we refuse" if theirs in ("whole", "partial") else "both refuse"
    our_request = ours.requests[0] if ours.requests else None
    if theirs not in ("whole", "partial"):
        if theirs in JUSTIFIED:
            return "justified"
        if theirs == "bad Content-Length" and is_chunked(raw):
            # Of a trailer, as both in a head are refused here: h11 minds it, and for no reader does it frame anything.
            return "justified"
        if our_request is None or not our_request.whole:
            # h11 looks at a line before its end is there. Whatever comes now, it must not become a request.
            for end in (b"\r\n\r\n", b"\r\n0\r\n\r\n"):
                late, _ = first_of(raw + end)
                assert late.status or not late.requests[-1].whole, (
                    f"h11 refuses ({theirs}) what we take: {raw!r}"
                )
            return "h11 refuses sooner"
        raise AssertionError(f"h11 refuses ({theirs}) what we take: {raw!r}")
    if theirs == "partial":
        assert our_request is None or not our_request.whole, f"whole for us, partial for h11: {raw!r}"
        if request is None or our_request is None:
            assert request is None and our_request is None, f"only one of both has seen a head: {raw!r}"
            return "both wait"
    assert request is not None and our_request is not None, f"partial for us, whole for h11: {raw!r}"
    assert our_request.whole == (theirs == "whole"), f"partial for us, whole for h11: {raw!r}"
    environ = our_request.environ
    assert environ["REQUEST_METHOD"].encode() == request.method
    target = request.target
    wanted = policy(request)
    if target[:1] != b"/" and target != b"*":
        authority, slash, path = target.partition(b"://")[2].partition(b"/")
        authority, mark, query = authority.partition(b"?")
        if not (mark or slash) and request.method == b"OPTIONS":
            slash = b"*"
        target = mark + query + slash + path
        target = target if target.startswith((b"/", b"*")) else b"/" + target
        wanted["HTTP_HOST"] = authority.decode()
    assert environ["REQUEST_URI"].encode("latin-1") == target
    headers = {k: v for k, v in environ.items() if k.startswith(("HTTP_", "CONTENT_"))}
    if "HTTP_TRANSFER_ENCODING" in headers:  # which h11 lower-cases
        headers["HTTP_TRANSFER_ENCODING"] = headers["HTTP_TRANSFER_ENCODING"].lower()
    assert headers == wanted
    assert our_request.body == body
    if theirs == "whole":
        assert our_left == left, f"{our_left} bytes behind the request for us, {left} for h11: {raw!r}"
    return "both take" if theirs == "whole" else "both wait"


def test_both_readers_agree_on_the_corpus() -> None:
    kinds = {row.name: compare(row.sent) for row in (*wire.REFUSED, *wire.TAKEN)}
    assert {kinds[row.name] for row in wire.REFUSED} == {"we refuse", "both refuse"}


@settings(max_examples=500, deadline=None)
@given(changed().filter(bool))  # to h11 no bytes are the end of the connection
def test_both_readers_agree_on_changed_bytes(raw: bytes) -> None:
    compare(raw)


# Bounds: what never ends must be refused before it is much, however it is cut

ENDLESS = {
    "a request line": (b"GET /", b"a", wire.LINE_LIMIT),
    "a method": (b"", b"G", wire.LINE_LIMIT),
    "a header line": (b"GET / HTTP/1.1\r\nA: ", b"b", wire.HEAD_LIMIT),
    "a header name": (b"GET / HTTP/1.1\r\n", b"A", wire.HEAD_LIMIT),
    "header lines": (b"GET / HTTP/1.1\r\n", b"A: b\r\n", wire.HEAD_LIMIT),
    "empty lines": (b"", b"\r\n", 16),
    "a chunk's size": (wire.chunked(b""), b"0", wire.CHUNK_LINE_LIMIT),
    "a chunk's extension": (wire.chunked(b"5;"), b"a", wire.CHUNK_LINE_LIMIT),
    "a trailer": (wire.chunked(b"0\r\nA: "), b"b", wire.TRAILERS_LIMIT),
    "trailers": (wire.chunked(b"0\r\n"), b"A: b\r\n", wire.TRAILERS_LIMIT),
}


@pytest.mark.parametrize("step", [1, 7, 4096, 65536])
@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_refused_before_it_is_much(name: str, step: int) -> None:
    first, again, limit = ENDLESS[name]
    unit = again * max(1, step // len(again))
    ends_at = len(first) + limit + 4 * len(unit)
    outcome = read(itertools.chain([first], itertools.repeat(unit, ends_at // len(unit) + 1)))
    assert outcome.status in (400, 414, 431)
    assert outcome.fed <= ends_at
    assert outcome.most_buffered <= limit + len(first) + len(unit)
    assert not any(one.whole for one in outcome.requests)


def test_a_body_passes_through_without_being_kept() -> None:
    size = 1 << 20
    parts = [wire.post(b"Content-Length: %d" % size), *[b"x" * 4096] * (size // 4096)]
    assert read(parts).most_buffered == 0
    parts = [wire.chunked(b""), *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 100, b"0\r\n\r\n"]
    outcome = read(parts)
    assert outcome.most_buffered == 0
    assert outcome.requests[0].whole
    assert len(outcome.requests[0].body) == 409600


def test_many_requests_in_one_read_cost_linear_time() -> None:
    def seconds(count: int) -> float:
        raw = NEXT * count
        start = time.process_time()
        assert len(read([raw]).requests) == count
        return time.process_time() - start

    seconds(100)
    few = min(seconds(500) for _ in range(3))
    many = min(seconds(5000) for _ in range(3))
    assert many < few * 40  # quadratic would be 100 times


def test_repeated_headers_are_joined_in_linear_time() -> None:
    line = b"X-Long: " + b"a" * 600
    [one] = read([wire.fields(*[line] * 99)]).requests
    assert one.environ["HTTP_X_LONG"] == ", ".join(["a" * 600] * 99)


def test_a_head_may_use_all_of_the_limit_and_no_more() -> None:
    # Names that are dropped, so that the packet is not what limits it.
    lines = [b"A_%d: " % n + b"b" * 6000 for n in range(10)]
    room = wire.HEAD_LIMIT - len(wire.fields(*lines, b"X_: "))
    full = wire.fields(*lines, b"X_: " + b"y" * room)
    over = wire.fields(*lines, b"X_: " + b"y" * (room + 2))
    assert len(full) == wire.HEAD_LIMIT
    for raw, status in ((full, 0), (over, 431)):
        assert read([raw]).status == status
        assert read(bytewise(raw)).status == status


def test_random_bytes_never_do_more_than_raise_an_http_error() -> None:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=80), max_size=8))
    @example([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)])
    def check(parts: list[bytes]) -> None:
        assert read(parts).status in (0, 400, 414, 417, 431, 501, 505)

    check()


def test_limits_are_checked_when_they_are_set() -> None:
    for name in ("line", "head", "fields", "trailers", "chunk_line", "extensions"):
        with pytest.raises(ValueError, match="limit"):
            http1.Limits(**{name: 0})
    with pytest.raises(ValueError, match="65537"):
        http1.Limits(head=65537)
    with pytest.raises(ValueError, match="1001"):
        http1.Limits(fields=1001)


def test_the_most_header_lines_that_can_be_asked_for() -> None:
    reader = Reader(PREFIX, limits=http1.Limits(fields=http1.FIELDS_MOST))
    reader.feed(wire.fields(*[b"A%d: b" % n for n in range(999)]))
    assert isinstance(reader.next(), RequestHead)
    reader = Reader(PREFIX, limits=http1.Limits(fields=http1.FIELDS_MOST))
    reader.feed(wire.fields(*[b"A%d: b" % n for n in range(1000)]))
    with pytest.raises(HttpError) as refused:
        reader.next()
    assert (refused.value.status, refused.value.limit) == (431, "fields-limit")


def test_who_takes_trailers_says_so() -> None:
    def takes(raw: bytes) -> bool:
        return read([raw]).requests[0].head.takes_trailers

    assert takes(wire.fields(b"TE: trailers"))
    assert takes(wire.fields(b"Connection: TE", b"te: gzip;q=0.5, Trailers"))
    assert not takes(wire.fields(b"TE: gzip"))
    assert not takes(b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n")


def test_an_https_url_is_taken_from_a_proxy_that_is_believed() -> None:
    reader = Reader(PREFIX, True)
    reader.feed(wire.line(b"GET https://b.example/c HTTP/1.1"))
    head = reader.next()
    assert isinstance(head, RequestHead)
    assert (head.host, head.path) == (b"b.example", b"/c")


def test_a_reader_tells_that_trailers_came() -> None:
    for trailer, came in ((b"", False), (b"X-Sum: 1\r\n", True)):
        reader = Reader(PREFIX)
        reader.feed(wire.chunked(b"0\r\n" + trailer + b"\r\n"))
        while reader.next() is not True:
            pass
        assert reader.trailed is came
        reader.feed(NEXT)
        reader.next()
        assert not reader.trailed


@pytest.mark.parametrize("kind", ["repeated", "named by Connection", "different"])
def test_a_head_of_any_kind_costs_little(kind: str) -> None:
    """As many lines as there can be, as alike as they can be: no step is repeated for each pair of bytes."""
    many = {
        "repeated": [b"A: b"] * 999,
        "named by Connection": [b"Connection: " + b",".join([b"aa"] * 900), *[b"ab: b"] * 990],
        "different": [b"A%d: b" % n for n in range(999)],
    }[kind]
    raw = wire.fields(*many)
    reader = Reader(PREFIX, limits=http1.Limits(fields=http1.FIELDS_MOST))
    start = time.process_time()
    reader.feed(raw)
    assert isinstance(reader.next(), RequestHead)
    # It takes a few milliseconds; what repeats a step per pair of bytes takes seconds.
    assert time.process_time() - start < 0.5


def test_what_is_altered_is_the_same_request_in_all_else() -> None:
    """Whatever a head is found to know: none of it is lost on the way through a proxy's words or a mount."""
    raw = b"HEAD /a/b HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    head = read([raw]).requests[0].head
    made = altered(head, {b"SCRIPT_NAME": b"/a"})
    known = [name for name in dir(head) if not name.startswith("_") and name != "packet"]
    assert {"takes_trailers", "is_head", "expect_continue", "content_length"} <= set(known)
    assert {name: getattr(made, name) for name in known} == {name: getattr(head, name) for name in known}


def test_bytes_of_a_body_that_go_another_way() -> None:
    reader = Reader(PREFIX)
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")
    assert reader.owed() == 0, "the head is not taken yet"
    reader.next()
    assert reader.owed() == 0, "two bytes wait here"
    assert reader.next() == b"ab"
    assert reader.owed() == 8
    for count in (-1, 9):
        with pytest.raises(ValueError, match=f"{count} bytes of 8"):
            reader.skip(count)
    reader.skip(7)
    assert (reader.next(), reader.owed()) == (None, 1)
    reader.skip(1)
    assert reader.next() is True
    assert (reader.owed(), reader.idle()) == (0, True)


def test_nothing_is_owed_of_a_body_of_unknown_length() -> None:
    reader = Reader(PREFIX)
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\nab")
    reader.next()
    assert reader.next() == b"ab"
    assert reader.owed() == 0


@pytest.mark.parametrize(
    ("request_line", "fields", "asks"),
    [
        (b"GET / HTTP/1.1", (b"Upgrade: websocket", b"Connection: Upgrade"), True),
        (b"GET / HTTP/1.1", (b"upgrade: WebSocket", b"connection: keep-alive, upgrade"), True),
        (b"GET / HTTP/1.1", (b"Upgrade: h2c, websocket", b"Connection: x", b"Connection: upgrade"), True),
        (b"GET / HTTP/1.1", (b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: 0"), True),
        (b"GET / HTTP/1.1", (b"Upgrade: websocket",), False),
        (b"GET / HTTP/1.1", (b"Connection: Upgrade",), False),
        (b"GET / HTTP/1.1", (b"Upgrade: websocket2", b"Connection: Upgrade"), False),
        (b"GET / HTTP/1.1", (b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: 1"), False),
        (
            b"GET / HTTP/1.1",
            (b"Upgrade: websocket", b"Connection: Upgrade", b"Transfer-Encoding: chunked"),
            False,
        ),
        (b"GET / HTTP/1.0", (b"Upgrade: websocket", b"Connection: Upgrade"), False),
        (b"POST / HTTP/1.1", (b"Upgrade: websocket", b"Connection: Upgrade"), False),
    ],
)
def test_what_asks_for_a_websocket(request_line: bytes, fields: tuple[bytes, ...], asks: bool) -> None:
    reader = Reader(PREFIX)
    reader.feed(b"\r\n".join((request_line, b"Host: a", *fields, b"", b"")) + b"behind")
    head = reader.next()
    assert isinstance(head, RequestHead) and head.websocket is asks
    # No app sees the fields: they are between two hops.
    assert b"UPGRADE" not in head.packet and b"HTTP_CONNECTION" not in head.packet
    if asks:
        assert reader.next() is True
        assert (reader.rest(), reader.buffered(), reader.idle()) == (b"behind", 0, True)
