"""ASGI as an app sees it, on an exchange of memory. Coroutines are driven by hand: no loop, no time."""

import contextlib
import io
import sys
from collections import UserDict
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from emperor.protocol import packet
from vassals.adapters import asgi
from vassals.adapters.asgi import Asgi, AsgiError, ClientGone

GET = {
    "REQUEST_METHOD": "GET",
    "REQUEST_URI": "/a?b=c",
    "PATH_INFO": "/a",
    "QUERY_STRING": "b=c",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
}


class Pause:
    """What `changed` awaits."""

    def __await__(self) -> Any:
        yield


class Kept:
    """An exchange of memory. ``credit`` bytes may be sent until the test gives more; ``pieces`` are what comes of the body
    after what the payload has."""

    def __init__(self, payload: bytes, credit: int = 1 << 20) -> None:
        self.payload = payload
        self.upgrade = False
        self.gone = ""
        self.credit = credit
        self.events: list[str] = []
        self.head = b""
        self.sent = b""
        self.reason = ""
        self.pieces: list[tuple[bytes, bool]] = []

    def finish_now(self, head: bytes, body: bytes) -> bool:
        if len(body) > self.credit:
            return False
        self._record("finish", head, body)
        return True

    def start_now(self, head: bytes, body: bytes) -> int:
        return self._part("start", head, body, 0)

    def send_now(self, body: bytes, offset: int) -> int:
        return self._part("send", b"", body, offset) if self.credit else 0

    def _part(self, event: str, head: bytes, body: bytes, offset: int) -> int:
        piece = body[offset : offset + self.credit]
        self.credit -= len(piece)
        self._record(event, head, piece)
        return len(piece)

    def interim(self, head: bytes) -> None:
        self._record("interim " + head.decode().strip().replace("\r\n", " | "))

    def trailers(self, lines: bytes) -> None:
        self._record("trailers " + lines.decode().strip())

    def end(self) -> None:
        self._record("end")

    def abort(self, reason: str) -> None:
        self._record("abort")
        self.reason = reason

    def _record(self, event: str, head: bytes = b"", body: bytes = b"") -> None:
        assert not self.events or self.events[-1] not in ("finish", "end", "abort"), "called after the end"
        self.events.append(event)
        self.head += head
        self.sent += body

    def read_from(self, offset: int) -> None:
        self.pieces.insert(0, (self.payload[offset:], False))

    def take(self) -> tuple[bytes, bool] | None:
        return self.pieces.pop(0) if self.pieces else None

    async def read_file(self, file: Any, most: int) -> bytes:
        return bytes(file.read(most))

    async def changed(self) -> None:
        await Pause()

    def wake(self) -> None:
        pass  # the test lets everybody try again

    @property
    def status(self) -> str:
        return self.head.partition(b"\r\n")[0].decode()


class Call:
    """An app answering one request. `go` lets it run until it waits for news; True: it has returned."""

    def __init__(
        self, app: Any, variables: dict[str, str] | None = None, body: bytes = b"", **options: Any
    ) -> None:
        pairs = GET | (variables or {})
        encoded = packet.encode((k.encode("latin-1"), v.encode("latin-1")) for k, v in pairs.items())
        self.exchange = Kept(encoded + body, options.pop("credit", 1 << 20))
        self.log = io.StringIO()
        self.adapter = Asgi(app, self.log, **options)
        self.request = self.adapter.open(self.exchange)
        self.running: Coroutine[Any, Any, None] | None = None

    def go(self) -> bool:
        self.running = self.running or self.adapter.run(self.request)
        try:
            self.running.send(None)
        except StopIteration:
            return True
        return False


def answer(app: Any, variables: dict[str, str] | None = None, **options: Any) -> Call:
    call = Call(app, variables, **options)
    assert call.go(), "the app waits"
    return call


def scope_of(variables: dict[str, str]) -> dict[str, Any]:
    return Call(lambda *_: None, variables).request.scope


def start(status: int = 200, headers: Any = (), **keys: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers, **keys}


def body(content: Any = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def trailers(headers: Any, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


def saying(*messages: Any) -> Callable[..., Coroutine[Any, Any, None]]:
    """An app that sends these."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


# The scope.


def test_the_scope_of_a_plain_request() -> None:
    scope = scope_of(
        {"REMOTE_ADDR": "::1", "REMOTE_PORT": "99", "HTTP_HOST": "x", "HTTP_X_LONG_NAME": "gr\xfcn"}
    )
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"b=c",
        "root_path": "",
        "headers": [(b"host", b"x"), (b"x-long-name", b"gr\xfcn")],
        "client": ("::1", 99),
        "server": ("localhost", 80),
        "state": {},
        "extensions": {
            "http.response.early_hint": {},
            "http.response.pathsend": {},
            "http.response.trailers": {},
        },
    }


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HTTPS": "on"}, {"scheme": "https"}),
        ({"HTTPS": "off"}, {"scheme": "http"}),
        ({"REQUEST_SCHEME": "https"}, {"scheme": "https"}),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, {"http_version": "1.0"}),
        ({"SERVER_PROTOCOL": "HTTP/2.0"}, {"http_version": "2"}),
        ({"PATH_INFO": "/\xc3\xa4", "REQUEST_URI": "/%C3%A4"}, {"path": "/ä", "raw_path": b"/%C3%A4"}),
        ({"PATH_INFO": "/\xff", "REQUEST_URI": "/%FF?"}, {"path": "/\ufffd", "raw_path": b"/%FF"}),
        ({"SCRIPT_NAME": "/api", "REQUEST_URI": "/api/a"}, {"root_path": "/api", "path": "/api/a"}),
        ({"REQUEST_URI": "http://h/x", "PATH_INFO": "/x"}, {"raw_path": b"/x", "path": "/x"}),
        ({"REQUEST_URI": "*", "PATH_INFO": "", "REQUEST_METHOD": "OPTIONS"}, {"raw_path": b"*", "path": ""}),
        ({"REMOTE_ADDR": ""}, {"client": None}),
        ({"REMOTE_ADDR": "10.0.0.1", "REMOTE_PORT": "x"}, {"client": ("10.0.0.1", 0)}),
        ({"SERVER_PORT": "", "SERVER_NAME": "/run/a.sock"}, {"server": ("/run/a.sock", None)}),
        (
            {"CONTENT_TYPE": "t", "CONTENT_LENGTH": "", "HTTP_CONTENT_TYPE": "u", "HTTP_CONTENT_LENGTH": "3"},
            {"headers": [(b"content-type", b"t")]},
        ),
        ({"HTTP_" + "X" * 80: "1"}, {"headers": [(b"x" * 80, b"1")]}),
    ],
)
def test_what_a_packet_says(variables: dict[str, str], expected: dict[str, Any]) -> None:
    scope = scope_of(variables)
    assert {key: scope[key] for key in expected} == expected


def test_each_request_has_the_lifespans_state_as_a_copy_of_its_own() -> None:
    shared: list[int] = []
    kept = {"shared": shared}
    first, second = (Call(saying(), state=kept).request.scope["state"] for _ in range(2))
    first["own"] = 1
    first["shared"].append(1)
    assert second == {"shared": [1]} and kept == {"shared": [1]}


# Answers.


def test_a_whole_response_is_one_record_with_its_length() -> None:
    call = answer(saying(start(200, [(b"a", b"b")]), body(b"hello")))
    assert call.exchange.events == ["finish"]
    assert call.exchange.head == b"200 OK\r\na: b\r\ncontent-length: 5\r\n"
    assert (call.exchange.sent, call.log.getvalue()) == (b"hello", "")


def test_pieces_of_tasks_that_send_beside_each_other_stay_whole_and_in_order() -> None:
    """The app has several coroutines in its `send` at once; the test lets each try again, the last first."""
    call = Call(lambda *_: None, credit=4)
    send = call.request.send

    def go(*senders: Coroutine[Any, Any, None]) -> None:
        for sender in senders:
            with contextlib.suppress(StopIteration):
                sender.send(None)

    go(send(start()))
    first, second, third = send(body(b"a" * 10, True)), send(body(b"b" * 3, True)), send(body(b"c"))
    go(first, second, third)
    assert call.exchange.sent == b"aaaa"
    second.close()  # cancelled while it waits: the one behind it is next
    for _ in range(6):
        call.exchange.credit = 4
        with contextlib.suppress(RuntimeError):  # it has ended
            go(third)
        with contextlib.suppress(RuntimeError):
            go(first)
    assert call.exchange.sent == b"a" * 10 + b"c" and call.exchange.events[-1] == "end"


def test_a_scope_is_the_apps_to_spoil() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope.clear()
        raise ValueError("on purpose")

    call = answer(app, {"REQUEST_METHOD": "HEAD"})
    assert call.exchange.status.startswith("500") and call.exchange.sent == b""
    assert call.log.getvalue().startswith("? ?: ") and "on purpose" in call.log.getvalue()


class Odd(dict[str, Any]):
    """A message of a framework's own kind."""


@pytest.mark.parametrize("kind", [Odd, MappingProxyType, UserDict])
def test_a_message_that_is_no_plain_dict_is_one_all_the_same(kind: Any) -> None:
    messages = start(200, [(b"a", b"b")]), body(b"hel", True), body(memoryview(b"lo"))
    call = answer(saying(*(kind(message) for message in messages)))
    assert (call.exchange.sent, call.exchange.head) == (b"hello", b"200 OK\r\na: b\r\n")
    call = answer(saying(kind(start()), kind(body(b"x"))), {"REQUEST_METHOD": "HEAD"})
    assert call.exchange.events == ["finish"] and call.exchange.sent == b""


def test_what_goes_at_once_obeys_the_same_table() -> None:
    assert asgi.STEPS[asgi.FRESH, asgi.START] == asgi.HEADED
    assert asgi.STEPS[asgi.HEADED, asgi.LAST] == asgi.DONE


def test_pieces_go_as_they_come_and_the_head_with_the_first() -> None:
    call = answer(saying(start(), body(b"a", True), body(b"", True), body(b"b", True), body()))
    assert call.exchange.events == ["start", "send", "end"]
    assert (call.exchange.head, call.exchange.sent) == (b"200 OK\r\n", b"ab")


def test_send_returns_when_all_of_it_has_gone() -> None:
    call = Call(saying(start(), body(b"x" * 10, True), body(b"y" * 3)), credit=4)
    assert not call.go()
    for expected in (8, 12):
        call.exchange.credit = 4
        assert not call.go()
        assert len(call.exchange.sent) == expected
    call.exchange.credit = 4
    assert call.go()
    assert call.exchange.sent == b"x" * 10 + b"y" * 3 and call.exchange.events[-1] == "end"


def test_a_whole_response_that_is_too_large_goes_in_pieces() -> None:
    call = Call(saying(start(), body(b"x" * 10)), credit=6)
    assert not call.go()
    call.exchange.credit = 6
    assert call.go()
    assert call.exchange.head == b"200 OK\r\ncontent-length: 10\r\n"
    assert (call.exchange.sent, call.exchange.events) == (b"x" * 10, ["start", "send", "end"])


@pytest.mark.parametrize(
    ("variables", "status", "expected"),
    [({"REQUEST_METHOD": "HEAD"}, 200, b"content-length: 5"), ({}, 204, b""), ({}, 304, b"")],
)
def test_what_has_no_body_is_sent_none(variables: dict[str, str], status: int, expected: bytes) -> None:
    headers = [(b"content-length", b"5")] if expected else []
    whole = answer(saying(start(status, headers), body(b"hello")), variables)
    assert (
        whole.exchange.sent == b"" and whole.exchange.events == ["finish"] and expected in whole.exchange.head
    )
    pieces = answer(saying(start(status, headers), body(b"he", True), body(b"llo")), variables)
    assert pieces.exchange.sent == b"" and pieces.exchange.events == ["start", "end"]
    assert not whole.log.getvalue() and not pieces.log.getvalue()


def test_more_than_the_declared_length_is_cut_and_told() -> None:
    declared = start(200, [(b"Content-Length", b"3")])
    for messages in ((body(b"abcde"),), (body(b"ab", True), body(b"cde"))):
        call = answer(saying(declared, *messages))
        assert call.exchange.sent == b"abc" and call.exchange.events[-1] in ("finish", "end")
        assert "2 bytes of body beyond its content-length of 3" in call.log.getvalue()


def test_less_than_the_declared_length_is_aborted_and_told() -> None:
    declared = start(200, [(b"content-length", b"9")])
    for messages, events in (
        ((body(b"abc"),), ["abort"]),
        ((body(b"ab", True), body(b"c")), ["start", "send", "abort"]),
    ):
        call = answer(saying(declared, *messages))
        assert call.exchange.events == events
        assert "sent 3 bytes of body, but declared a content-length of 9" in call.log.getvalue()


def test_fields_between_two_hops_are_left_out() -> None:
    headers = [
        [b"Connection", b"keep-alive"],
        [b"transfer-encoding", b"chunked"],
        [b"x-te", b"1"],
        (b"upgrade", b"h2c"),
    ]
    assert (
        answer(saying(start(200, headers), body())).exchange.head
        == b"200 OK\r\nx-te: 1\r\ncontent-length: 0\r\n"
    )


def test_a_status_without_a_name_of_its_own() -> None:
    assert answer(saying(start(299), body())).exchange.status == "299 "


def test_early_hints_come_before_the_response() -> None:
    hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b>; rel=x"]}
    call = answer(saying(hint, start(), body(b"x")))
    assert call.exchange.events == [
        "interim 103 Early Hints | link: </a.css>; rel=preload | link: </b>; rel=x",
        "finish",
    ]


def test_trailers_end_the_response() -> None:
    call = answer(
        saying(start(trailers=True), body(b"x"), trailers([(b"a", b"1")], True), trailers([(b"b", b"2")]))
    )
    assert call.exchange.events == ["start", "trailers a: 1\r\nb: 2"]


def test_trailers_that_were_announced_and_do_not_come_are_told() -> None:
    call = answer(saying(start(trailers=True), body(b"x")))
    assert call.exchange.events == ["start", "end"] and "without the trailers" in call.log.getvalue()


def test_pathsend_sends_a_file_with_its_length(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000
    (tmp_path / "file").write_bytes(content)
    message = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    call = answer(saying(start(), message))
    assert b"content-length: 512000\r\n" in call.exchange.head and call.exchange.sent == content
    call = answer(saying(start(200, [(b"content-length", b"3")]), message))
    assert call.exchange.sent == content[:3]
    call = answer(saying(start(), message), {"REQUEST_METHOD": "HEAD"})
    assert b"content-length: 512000\r\n" in call.exchange.head and call.exchange.sent == b""


def test_pathsend_of_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    call = answer(saying(start(), {"type": "http.response.pathsend", "path": str(tmp_path / "none")}))
    assert call.exchange.status == "500 Internal Server Error" and "FileNotFoundError" in call.log.getvalue()


def test_pathsend_of_a_file_that_is_shorter_than_declared_is_aborted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    message = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    call = answer(saying(start(200, [(b"content-length", b"9")]), message))
    assert call.exchange.events == ["start", "send", "abort"]


# The body of a request.


def test_a_body_comes_in_pieces_as_they_come() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            got.append(await receive())

    call = Call(app, body=b"first")
    call.exchange.pieces[0] = (b"first", True)
    assert not call.go()
    call.exchange.pieces.append((b"second", False))
    assert not call.go()
    assert got == [
        {"type": "http.request", "body": b"first", "more_body": True},
        {"type": "http.request", "body": b"second", "more_body": False},
    ]
    call.exchange.gone = "the client has gone"
    assert call.go()
    assert got[2] == {"type": "http.disconnect"}


def test_a_client_that_goes_is_told_at_once_even_in_the_middle_of_its_body() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            got.append(message)
        got.append(await receive())

    call = Call(app, body=b"first")
    call.exchange.pieces[0] = (b"first", True)
    assert not call.go()
    call.exchange.gone = "the client has gone"
    assert call.go()
    # Whoever asks again does not hang.
    assert [message["type"] for message in got] == ["http.request", "http.disconnect"]
    assert call.exchange.events == ["abort"] and not call.log.getvalue()


def test_after_the_response_receive_says_disconnect() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"x"))
        got.append(await receive())

    answer(app)
    assert got == [{"type": "http.disconnect"}]


def test_send_to_a_client_that_has_gone_is_an_oserror_and_no_error_of_the_apps() -> None:
    caught: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        try:
            await send(body(b"x" * 10, True))
        except OSError as error:
            caught.append(error)
            raise

    raised: list[BaseException] = []
    call = Call(app, credit=4, raised=raised.append)
    assert not call.go()
    call.exchange.gone = "the client has gone"
    assert call.go()
    assert isinstance(caught[0], ClientGone) and str(caught[0]) == "the client has gone"
    assert (call.exchange.events, call.log.getvalue(), raised) == (["start", "abort"], "", [])


def test_a_client_that_goes_during_the_last_piece_leaves_nothing_open() -> None:
    call = Call(saying(start(), body(b"x" * 10)), credit=4)
    assert not call.go()
    call.exchange.gone = "the client has gone"
    assert call.go()
    assert call.exchange.events == ["start", "abort"] and not call.log.getvalue()


# What apps do wrong.

FIRST = (start(), body(b"x"))
WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "nothing": ((), "the app returned before http.response.start"),
    "no body": ((start(),), "the app returned after http.response.start"),
    "body first": ((body(b"x"),), "http.response.body with more_body false came before http.response.start"),
    "start twice": ((start(), start()), "http.response.start came after http.response.start"),
    "hint late": ((start(), {"type": "http.response.early_hint", "links": []}), "early_hint came after"),
    "no type": (({"status": 200},), "wants a dict with a 'type'"),
    "no dict": ((None,), "wants a dict with a 'type', not None"),
    "other type": (
        ({"type": "websocket.accept"},),
        "'websocket.accept', which is no message of an http scope",
    ),
    "no status": (({"type": "http.response.start"},), "the status must be an int, not None"),
    "status text": ((start("200"),), "the status must be an int, not '200'"),  # type: ignore[arg-type]
    "status 100": ((start(100),), "200 to 999 expected"),
    "header text": ((start(200, [("a", "b")]),), "must be bytes, not ('a', 'b')"),
    "header alone": ((start(200, [b"abc"]),), "must be a [name, value] pair"),
    "header split": ((start(200, [(b"a", b"b\r\nc: d")]),), "holds a control character"),
    "header name": ((start(200, [(b"a b", b"c")]),), "a name that is none"),
    "header empty": ((start(200, [(b"", b"c")]),), "has no name"),
    "length": ((start(200, [(b"content-length", b"x")]),), "content-length is b'x'"),
    "lengths": (
        (start(200, [(b"content-length", b"1"), (b"content-length", b"2")]),),
        "given twice, as 1 and as 2",
    ),
    "head size": ((start(200, [(b"a", b"x" * 66000)]),), "the response head is 66013 bytes"),
    "body text": ((start(), body("x")), "must be bytes, not str"),
    "links": (({"type": "http.response.early_hint", "links": b"x"},), "must be a list of bytes, not bytes"),
    "path": ((start(), {"type": "http.response.pathsend"}), "must be str, not None"),
}


@pytest.mark.parametrize("name", WRONG)
def test_before_the_head_has_gone_a_mistake_is_500_and_a_line_in_the_log(name: str) -> None:
    messages, told = WRONG[name]
    call = answer(saying(*messages))
    assert call.exchange.status == "500 Internal Server Error" and call.exchange.events == ["finish"]
    log = call.log.getvalue()
    assert log.startswith("GET /a?b=c: ") and told in log


LATE: dict[str, tuple[tuple[Any, ...], str, list[str]]] = {
    "no end": ((start(), body(b"x", True)), "the app returned in the middle of the body", ["start", "abort"]),
    "start in the middle": (
        (start(), body(b"x", True), start()),
        "start came in the middle",
        ["start", "abort"],
    ),
    "text in the middle": ((start(), body(b"x", True), body("y")), "bytes, not str", ["start", "abort"]),
    "body after": ((*FIRST, body(b"y")), "came after the response was complete", ["finish"]),
    "twice": ((*FIRST, *FIRST), "http.response.start came after the response was complete", ["finish"]),
    "trailers unannounced": (
        (*FIRST, trailers([])),
        "trailers came after the response was complete",
        ["finish"],
    ),
    "trailers early": (
        (start(trailers=True), body(b"x", True), trailers([])),
        "in the middle",
        ["start", "abort"],
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_after_it_the_response_is_aborted_or_stays_whole(name: str) -> None:
    messages, told, events = LATE[name]
    call = answer(saying(*messages))
    assert call.exchange.events == events and told in call.log.getvalue()


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), OSError("disk")]
)
def test_an_error_before_the_start_is_500_and_one_after_it_aborts(error: BaseException) -> None:
    raised: list[BaseException] = []
    left: list[str] = []

    def app(*first: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            for message in first:
                await send(message)
            raise error

        return app

    for messages, events in (
        ((), ["finish"]),
        ((start(),), ["finish"]),
        ((start(), body(b"x", True)), ["start", "abort"]),
    ):
        call = answer(app(*messages), raised=raised.append, leave=left.append)
        assert call.exchange.events == events and type(error).__name__ in call.log.getvalue()
        assert (call.exchange.status == "500 Internal Server Error") is (events == ["finish"])
    assert raised == [error] * 3
    assert left == (["the app raised SystemExit(3)"] * 3 if isinstance(error, SystemExit) else [])


def test_an_error_after_the_response_is_told_and_does_not_touch_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in FIRST:
            await send(message)
        raise ConnectionError("in the background")

    call = answer(app)
    assert call.exchange.events == ["finish"] and "in the background" in call.log.getvalue()


def test_no_byte_of_the_inside_reaches_the_client() -> None:
    call = answer(saying(start(200, [(b"x-secret", b"1")]), {"type": "boom"}))
    assert b"secret" not in call.exchange.head and call.exchange.sent == b"Internal Server Error\n"
    call = answer(saying(), {"REQUEST_METHOD": "HEAD"})
    assert call.exchange.sent == b""


def test_what_is_ended_in_the_apps_place_is_504_and_what_it_sends_then_goes_nowhere() -> None:
    caught: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        try:
            await send(start())
        except OSError as error:
            caught.append(str(error))
        raise ValueError("late")

    call = Call(app)
    assert not call.go()
    call.request.give_up("harakiri", 504)
    assert call.exchange.status == "504 Gateway Timeout"
    assert call.go()
    assert (call.exchange.events, caught, call.log.getvalue()) == (["finish"], ["harakiri"], "")


def test_a_target_is_one_line_of_the_log_whatever_is_in_it() -> None:
    call = answer(saying(), {"REQUEST_URI": "/\x1b[31m\u00e4\n"})
    assert call.log.getvalue().count("\n") == 1 and "\x1b" not in call.log.getvalue()


def test_every_step_of_the_table_leads_to_a_state() -> None:
    states = {asgi.FRESH, asgi.HEADED, asgi.FLOWING, asgi.TRAILING, asgi.DONE}
    assert {state for state, _ in asgi.STEPS} | set(asgi.STEPS.values()) == states
    assert not [state for state, _ in asgi.STEPS if state == asgi.DONE]


def test_an_app_error_is_a_runtimeerror_as_under_other_servers() -> None:
    assert issubclass(AsgiError, RuntimeError) and issubclass(ClientGone, OSError)


def test_the_adapter_needs_no_event_loop() -> None:
    import subprocess

    code = "import sys; import vassals.adapters.asgi, vassals.adapters.lifespan; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
