"""PEP 3333 through real sockets: small apps, each bare, with bodies that are not read first, under `wsgiref.validate`, in
threads, in greenlets, and in the threads of a worker with an event loop.

What each is to answer is the table CASES; docs/specs/wsgi.md says which clause of PEP 3333 each stands for.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from .harness import Connection, Fleet, Orphans, fetch, wait_for
from .harness.fleet import APPS

SOURCE = APPS / "wsgi_apps.py"
FILE = SOURCE.read_bytes()
SLOTS = 8

VASSALS: dict[str, dict[str, object]] = {
    "bare": {},
    "unbuffered": {"request-buffering": "false"},
    "validated": {"env": "VALIDATE=1"},
    "threads": {"threads": SLOTS, "env": [f"MEETING={SLOTS}"]},
    "gevent": {"gevent": 100, "env": ["MEETING=100"]},
    "on-loop": {
        "threads": SLOTS,
        "wsgi-on-loop": "true",
        "request-buffering": "false",
        "env": [f"MEETING={SLOTS}"],
    },
}

ERROR = b"Internal Server Error\n"


@dataclass(frozen=True)
class Case:
    """A request and its answer. `status` 0: the connection ends in the middle of the answer, after `body`.

    `fields` must be in the answer, `absent` not; `bare_fields` need not under the validator, whose wrapper hides the
    iterable's `len()`. `log` is in the log afterwards. `validated` is the status where the validator fails the app,
    `unbuffered` the body where the app begins before the request's body has ended.
    """

    path: str
    status: int = 200
    body: Any = None
    fields: dict[str, str] = field(default_factory=dict)
    bare_fields: dict[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    log: str = ""
    validated: int | None = None
    unbuffered: Any = None
    method: str = "GET"
    send: Any = None
    sent: dict[str, str] = field(default_factory=dict)


CHUNKED = {"transfer-encoding": "chunked"}
LINES = b"one\ntwo\n\nlast"


def environ(names: str, expected: dict[str, Any], **case: Any) -> Case:
    return Case(f"/environ?{names}", body={**dict.fromkeys(names.split(","), "absent"), **expected}, **case)


def post(path: str, send: Any, body: Any, **case: Any) -> Case:
    return Case(path, method="POST", send=send, body=body, **case)


def fails(path: str, log: str, **case: Any) -> Case:
    return Case(path, 500, ERROR, log=log, absent=("x-secret", "x-first"), **case)


CASES: dict[str, Case] = {
    # The environ
    "cgi": environ(
        "REQUEST_METHOD,SCRIPT_NAME,PATH_INFO,SERVER_PROTOCOL,HTTP_HOST",
        {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/environ", "SERVER_PROTOCOL": "HTTP/1.1",
         "HTTP_HOST": "HOST"},
    ),
    "client": environ("REMOTE_ADDR", {"REMOTE_ADDR": "127.0.0.1"}),
    "wsgi": environ(
        "wsgi.version,wsgi.url_scheme,wsgi.run_once,wsgi.multiprocess,wsgi.input_terminated",
        {"wsgi.version": [1, 0], "wsgi.url_scheme": "http", "wsgi.run_once": False, "wsgi.multiprocess": False,
         "wsgi.input_terminated": True},
    ),
    "no-content": environ("CONTENT_TYPE,CONTENT_LENGTH,HTTP_CONTENT_TYPE,HTTP_CONTENT_LENGTH", {}),
    "asterisk": Case("*", method="OPTIONS", body=["", "", "*"]),
    "content": environ(
        "CONTENT_TYPE,CONTENT_LENGTH,HTTP_CONTENT_TYPE,HTTP_CONTENT_LENGTH",
        {"CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "3"}, method="POST", send=b"abc", sent={"Content-Type": "text/x"},
    ),
    "fields": environ(
        "HTTP_X_PLAIN,HTTP_X_LATIN,HTTP_PROXY,HTTP_X_UNDER",
        {"HTTP_X_PLAIN": "a", "HTTP_X_LATIN": "gr\xfcn"},
        sent={"X-Plain": "a", "X-Latin": "gr\xfcn", "Proxy": "evil", "X_Under": "evil"},
    ),
    "own-environ": Case("/own", body="nothing"),
    "own-environ-again": Case("/own", body="nothing"),
    "path-slash": Case("/path/a%2Fb", body=["", "/path/a/b", ""]),
    "path-utf8": Case("/path/%C3%A4", body=["", "/path/\xc3\xa4", ""]),
    "path-no-utf8": Case("/path/%FF%FE", body=["", "/path/\xff\xfe", ""]),
    "path-once": Case("/path/%2541", body=["", "/path/%41", ""]),
    "path-plus": Case("/path/a+b%20c", body=["", "/path/a+b c", ""]),
    "query-raw": Case("/path?a=%20b%2F&c", body=["", "/path", "a=%20b%2F&c"]),
    # wsgi.input
    "read": post("/read", LINES, hashlib.sha256(LINES).hexdigest()),
    "read-chunked": post("/read", [LINES, LINES], hashlib.sha256(LINES * 2).hexdigest()),
    "read-large": post("/read", bytes(3_000_000), hashlib.sha256(bytes(3_000_000)).hexdigest()),
    "read-large-chunked": post("/read", [bytes(100_000)] * 30, hashlib.sha256(bytes(3_000_000)).hexdigest()),
    "read-empty": post("/read", b"", hashlib.sha256(b"").hexdigest()),
    "read-get": Case("/read", body=hashlib.sha256(b"").hexdigest()),
    "read-sizes": post("/read_sizes", b"abcdefg", ["", "abc", "d", "efg", "", ""]),
    "read-sizes-chunked": post("/read_sizes", [b"ab", b"cdefg"], ["", "abc", "d", "efg", "", ""]),
    "read-no-argument": post("/read_no_argument", b"abc", b"abc", validated=500),
    "readline": post("/readline", LINES, ["one\n", "two\n", "\n", "last"]),
    "readline-chunked": post("/readline", [b"o", b"ne\ntw", b"o\n\nlast"], ["one\n", "two\n", "\n", "last"]),
    "readline-sizes": post("/readline_sizes", LINES, ["on", "e\n", "", "two\n", "\nlast"]),
    "readlines": post("/readlines", LINES, ["one\n", "two\n", "\n", "last"]),
    "readlines-hint": post("/readlines_hint", LINES, [1, LINES.decode()]),
    "iterate": post("/iterate", LINES, ["one\n", "two\n", "\n", "last"]),
    "unread": post("/read_none", LINES, b"unread"),
    "unread-large": post("/read_none", bytes(200_000), b"unread"),
    "terminated": post("/terminated", b"abc", [True, "3", 3]),
    "terminated-chunked": post("/terminated", [b"abc", b"d"], [True, "4", 4], unbuffered=[True, None, 4]),
    "expect": post("/read", LINES, hashlib.sha256(LINES).hexdigest(), sent={"Expect": "100-continue"}),
    # wsgi.errors
    "errors": Case("/errors", body=b"written", log="errors: thrä"),
    "errors-bytes": fails("/errors_bytes", "TypeError", validated=500),
    # start_response
    "twice": fails("/twice", "a second time without exc_info", validated=500),
    "exc-info-before": Case("/exc_info_before", 503, b"busy", absent=("x-first",)),
    "exc-info-after": Case("/exc_info_after", 0, b"piece", log="KeyError: 'too late'"),
    "never": fails("/never", "without calling start_response", validated=500),
    "never-streamed": fails("/never_streamed", "before start_response", validated=500),
    "late": Case("/late", 201, b"late", CHUNKED, validated=500),
    "headers-tuple": Case("/tuple_headers", body=b"tuple", validated=500),
    "header-number": fails("/header_number", "must be str", validated=500),
    "header-bytes": fails("/header_bytes", "must be str", validated=500),
    "header-safe": Case("/header_safe", body=b"body", fields={"x-safe": "yes"}, validated=500),
    "header-split": fails("/header_split", "holds a line end", validated=500),
    "header-control": fails("/header_control", "holds a control character", validated=500),
    "header-name": fails("/header_name", "a name that is none"),
    "header-unicode": fails("/header_unicode", "ISO 8859-1"),
    "header-latin": Case("/header_latin", body=b"body", fields={"x-latin": "gr\xfcn"}),
    "header-connection": fails("/header_connection", "hop-by-hop"),
    "header-transfer": fails("/header_transfer", "hop-by-hop"),
    "header-upgrade": fails("/header_upgrade", "hop-by-hop"),
    "header-repeated": Case("/header_repeated", body=b"body", fields={"set-cookie": "a=1, b=2"}),
    "status-number": fails("/status_number", "str", validated=500),
    "status-short": fails("/status_short", "three digits", validated=500),
    "status-words": fails("/status_words", "three digits", validated=500),
    "status-bare": Case("/status_bare", 299, b"body"),
    "status-split": fails("/status_split", "holds a line end"),
    "status-interim": fails("/status_interim", "three digits from 200"),
    "status-own": Case("/status_own", 299, b"body"),
    "length-word": fails("/length_word", "'ten'"),
    "length-twice": fails("/length_twice", "twice"),
    # write()
    "write": Case("/write", body=b"ab", fields=CHUNKED),
    "write-and-iterate": Case("/write_and_iterate", body=b"abc", fields=CHUNKED),
    "write-text": fails("/write_text", "wants bytes", validated=500),
    # Bodies
    "one": Case("/one", body=b"body", bare_fields={"content-length": "4"}),
    "many": Case("/many", body=b"body", bare_fields={"content-length": "4"}),
    "empty": Case("/empty", body=b"", bare_fields={"content-length": "0"}),
    "generator": Case("/generator", body=b"body", fields=CHUNKED),
    "len-one": Case("/len_one?len-one", body=b"body", bare_fields={"content-length": "4"}),
    "len-two": Case("/len_two?len-two", body=b"body", fields=CHUNKED),
    "none": fails("/nothing", "", validated=500),
    "text": fails("/text", "", validated=500),
    "text-piece": fails("/text_piece", "", validated=0),
    "text-streamed": fails("/text_streamed", ""),
    "number": fails("/number", "", validated=500),
    "bytes-themselves": Case("/just_bytes", body=b"body", fields={"content-length": "4"}, validated=500),
    "bytearray": Case("/bytearray", body=b"body", validated=500),
    "large": Case("/large?large", body=b"x" * 3_000_000, fields=CHUNKED),
    # Content-Length
    "long-list": Case("/long_list", body=b"body", fields={"content-length": "4"}, log="9 bytes of body beyond"),
    "long-stream": Case("/long_stream?l", body=b"body", fields={"content-length": "4"}, log="4 bytes of body beyond"),
    "short-list": Case("/short_list", 502, log="declared a Content-Length of 4", validated=0),
    "short-stream": Case("/short_stream?s", 0, b"bo", log="declared a Content-Length of 4"),
    "exact-stream": Case("/exact_stream?e", body=b"body", fields={"content-length": "4"}),
    # What has no body
    "head": Case("/one", method="HEAD", body=b""),
    "head-length": Case("/exact_stream?h", method="HEAD", body=b"", fields={"content-length": "4"}),
    "head-stream": Case("/generator", method="HEAD", body=b""),
    "head-error": Case("/fails", 500, b"", method="HEAD"),
    "no-content-204": Case("/no_content", 204, b"", absent=("content-length", "transfer-encoding")),
    "not-modified-304": Case("/not_modified", 304, b"", fields={"etag": '"x"'}),
    # close()
    "close": Case("/counted?close", body=b"body"),
    "close-counted": Case("/closed?close", body=1),
    "close-fails": Case("/close_fails?close-fails", body=b"body", log="in close"),
    "close-after-failure": Case("/fails_midway?failed", 0, b"bo", log="midway"),
    "close-after-failure-counted": Case("/closed?failed", body=1),
    "close-after-length": Case("/long_stream?cut", body=b"body"),
    "close-after-length-counted": Case("/closed?cut", body=1),
    # Errors
    "fails": fails("/fails", "oh no, a secret"),
    "fails-at-once": fails("/fails_at_once?f", "at once"),
    "interrupted": fails("/interrupted", "KeyboardInterrupt"),
    "generator-exit": fails("/generator_exit", "GeneratorExit"),
    # wsgi.file_wrapper
    "file": Case("/file", body=FILE, fields={"content-length": str(len(FILE))}),
    "file-rest": Case("/file_rest", body=FILE[100:], fields=CHUNKED),
    "file-part": Case("/file_part", body=FILE[:10], fields={"content-length": "10"}),
    "file-memory": Case("/file_memory", body=b"in memory", fields=CHUNKED),
    "file-least": Case("/file_least", body=b"abc", fields=CHUNKED),
}  # fmt: skip


@pytest.fixture(scope="module")
def wsgi() -> Iterator[Fleet]:
    orphans = Orphans()
    orphans.start()
    fleet = Fleet(orphans)
    for name, keys in VASSALS.items():
        fleet.vassal(name, **{"wsgi-file": SOURCE, **keys})
    fleet.vassal("unwrapped", **{"wsgi-file": SOURCE, "wsgi-disable-file-wrapper": "true"})
    fleet.start()
    yield fleet
    fleet.close()
    orphans.close()


@pytest.mark.parametrize("vassal", VASSALS)
@pytest.mark.parametrize("name", CASES)
def test_app(wsgi: Fleet, vassal: str, name: str) -> None:
    case = CASES[name]
    if vassal in ("unbuffered", "on-loop") and case.unbuffered is not None:
        case = replace(case, body=case.unbuffered)
    validated = vassal == "validated"
    status = case.validated if validated and case.validated is not None else case.status
    host = f"{vassal}.localhost"
    with Connection(wsgi.http_port) as connection:
        if status == 0:
            connection.send(f"{case.method} {case.path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            # The end may overtake what came before it: a reset drops what is unread.
            with pytest.raises(ConnectionError):
                connection.read_response()
        else:
            answer = connection.request(host, case.path, case.method, case.send, case.sent)
            assert answer.status == status, wsgi.log()[-3000:]
            if status == case.status:
                expect_answer(case, answer, host, bare=not validated)
            # The connection is in order, whatever the app did or left unread.
            if answer.fields.get("connection") != "close":
                assert connection.request(host, "/one").body == b"body"
    if case.log and status == case.status:
        wait_for(lambda: case.log in wsgi.log(), 5, lambda: f"{case.log} in {wsgi.log()[-3000:]}")


def expect_answer(case: Case, answer: Any, host: str, *, bare: bool) -> None:
    if isinstance(case.body, bytes):
        assert answer.body == case.body
    elif case.body is not None:
        expected = json.loads(json.dumps(case.body).replace('"HOST"', f'"{host}"'))
        assert json.loads(answer.body) == expected
    for key, value in {**case.fields, **(case.bare_fields if bare else {})}.items():
        assert answer.fields.get(key) == value
    assert not set(case.absent) & set(answer.fields)
    assert case.status < 500 or b"secret" not in answer.body


@pytest.mark.parametrize(
    ("vassal", "multithread"),
    [
        ("bare", False),
        ("unbuffered", False),
        ("validated", False),
        ("threads", True),
        ("gevent", True),
        ("on-loop", True),
    ],
)
def test_multithread_is_the_truth(wsgi: Fleet, vassal: str, multithread: bool) -> None:
    answer = wsgi.get(vassal, "/environ?wsgi.multithread")
    assert json.loads(answer.body) == {"wsgi.multithread": multithread}


def test_the_file_wrapper_can_be_disabled(wsgi: Fleet) -> None:
    assert wsgi.get("unwrapped", "/file_memory").body == b"no wrapper"


@pytest.mark.parametrize("vassal", VASSALS)
def test_pieces_arrive_as_they_come(wsgi: Fleet, vassal: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    signal = tmp_path / "go"
    with Connection(wsgi.http_port) as connection:
        connection.send(f"GET /slowly?{signal} HTTP/1.1\r\nHost: {vassal}.localhost\r\n\r\n".encode())
        assert connection.read_head()[0] == 200
        got = b""
        while b"first" not in got:
            got += connection.read_some()
        assert b"second" not in got
        signal.touch()
        while not got.endswith(b"0\r\n\r\n"):
            got += connection.read_some()
    assert b"second" in got


@pytest.mark.parametrize("vassal", VASSALS)
def test_a_client_that_goes_closes_the_iterable_once(wsgi: Fleet, vassal: str) -> None:
    with Connection(wsgi.http_port) as connection:
        connection.send(f"GET /forever?gone HTTP/1.1\r\nHost: {vassal}.localhost\r\n\r\n".encode())
        connection.read_head()
        connection.reset()
    wait_for(lambda: wsgi.get(vassal, "/closed?gone").body == b"1", 10)


@pytest.mark.parametrize(("vassal", "at_once"), [("threads", SLOTS), ("gevent", 100), ("on-loop", SLOTS)])
def test_as_many_are_in_the_app_at_once_as_there_are_slots(wsgi: Fleet, vassal: str, at_once: int) -> None:
    clients = [Connection(wsgi.http_port, 30) for _ in range(at_once)]
    for _ in range(3):
        for client in clients:
            client.send(f"GET /meet HTTP/1.1\r\nHost: {vassal}.localhost\r\n\r\n".encode())
        assert {client.read_response().body for client in clients} == {b"met"}
    for client in clients:
        client.close()


@pytest.mark.parametrize("vassal", ["threads", "gevent"])
def test_an_upload_that_stalls_holds_up_nobody(wsgi: Fleet, vassal: str) -> None:
    stalled = [Connection(wsgi.http_port, 30) for _ in range(SLOTS - 1)]
    head = f"POST /read HTTP/1.1\r\nHost: {vassal}.localhost\r\nContent-Length: 1000000\r\n\r\n".encode()
    for client in stalled:
        client.send(head + bytes(100_000))
    for _ in range(10):
        assert wsgi.get(vassal, "/one").body == b"body"
    digest = json.dumps(hashlib.sha256(bytes(1_000_000)).hexdigest()).encode()
    for client in stalled:
        client.send(bytes(900_000))
        assert client.read_response().body == digest
        client.close()


@pytest.mark.parametrize("vassal", ["threads", "on-loop"])
def test_a_thread_that_exits_does_not_end_its_worker(wsgi: Fleet, vassal: str) -> None:
    before = wsgi.pid("worker", vassal)
    for _ in range(SLOTS + 1):
        assert fetch(wsgi.http_port, f"{vassal}.localhost", "/leave").status == 500
    assert wsgi.get(vassal, "/one").body == b"body"
    assert wsgi.pid("worker", vassal) == before
