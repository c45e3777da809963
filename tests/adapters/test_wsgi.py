"""PEP 3333 as an app sees it, on an exchange that keeps what it is given."""

import gzip
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from emperor.protocol import packet
from vassals.adapters.answer import Answer
from vassals.adapters.wsgi import FileWrapper, Wsgi

GET = {
    "REQUEST_METHOD": "GET",
    "REQUEST_URI": "/a?b=c",
    "PATH_INFO": "/a",
    "QUERY_STRING": "b=c",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
}


class Kept(Answer):
    """An exchange of memory. `events` are the calls in order; `gone_after` pieces, or `gone_after_looks`, the client goes."""

    def __init__(
        self,
        payload: bytes,
        *,
        content: io.BytesIO | None = None,
        gone: str = "",
        gone_after: int = -1,
        gone_after_looks: int = -1,
    ) -> None:
        super().__init__(payload)
        self.content = content or io.BytesIO()
        self.gone = gone
        self.gone_after = gone_after
        self.looks_left = gone_after_looks
        self.events: list[str] = []
        self.head = b""
        self.sent = b""
        self.reason = ""

    def body(self, offset: int) -> io.BytesIO:
        self.content.write(self.payload[offset:])
        self.content.seek(0)
        return self.content

    def finish(self, head: bytes, body: bytes) -> None:
        self._record("finish", body, head)

    def start(self, head: bytes, body: bytes) -> None:
        self._record("start", body, head)

    def send(self, body: bytes) -> None:
        self._record("send", body)

    def look(self) -> None:
        self.looks_left -= 1
        if self.looks_left == 0:
            self.gone = "the client has gone"

    def end(self) -> None:
        self._record("end", b"")

    def abort(self, reason: str) -> None:
        self._record("abort", b"")
        self.reason = reason

    def _record(self, event: str, body: bytes, head: bytes = b"") -> None:
        assert not self.events or self.events[-1] not in ("finish", "end", "abort"), "called after the end"
        self.events.append(event)
        self.head += head
        self.sent += body
        if self.gone_after == len(self.events):
            self.gone = "the client has gone"

    @property
    def status(self) -> str:
        return self.head.partition(b"\r\n")[0].decode()


def exchange(variables: dict[str, str] | None = None, body: bytes = b"", **options: Any) -> Kept:
    pairs = {**GET, **(variables or {})}
    encoded = packet.encode((k.encode("latin-1"), v.encode("latin-1")) for k, v in pairs.items())
    return Kept(encoded + body, **options)


@dataclass
class Ran:
    exchange: Kept
    errors: str
    leave: str


def run(
    app: Any,
    variables: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    multiprocess: bool = False,
    **options: Any,
) -> Ran:
    kept = exchange(variables, body, **options)
    errors = io.StringIO()
    leave = Wsgi(app, errors, multiprocess=multiprocess).run(kept)
    assert kept.events[-1] in ("finish", "end", "abort"), "the exchange was not ended"
    return Ran(kept, errors.getvalue(), leave)


def answers(
    result: Any, headers: list[tuple[str, str]] | None = None, status: str = "200 OK"
) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, headers or [])
        return result

    return app


def environ_of(variables: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.update(environ)
        start_response("204 No Content", [])
        return []

    run(app, variables, **options)
    return seen


class Closing:
    """An iterable of pieces that counts its close() calls; an exception among the pieces is raised."""

    def __init__(self, *pieces: Any, on_close: BaseException | None = None) -> None:
        self._pieces = iter(pieces)
        self._on_close = on_close
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        for piece in self._pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1
        if self._on_close is not None:
            raise self._on_close


# The environ.


def test_environ_has_what_pep_3333_wants() -> None:
    environ = environ_of()
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["SCRIPT_NAME"] == ""
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"], environ["wsgi.run_once"]) == (
        False,
    ) * 3
    assert environ["wsgi.input_terminated"] is True
    assert environ["QUERY_STRING"] == "b=c"
    assert environ_of(multiprocess=True)["wsgi.multiprocess"] is True


@pytest.mark.parametrize(
    ("variables", "scheme"),
    [
        ({}, "http"),
        ({"HTTPS": ""}, "http"),
        ({"HTTPS": "off"}, "http"),
        ({"HTTPS": "on"}, "https"),
        ({"HTTPS": "ON"}, "https"),
        ({"HTTPS": "1"}, "https"),
        ({"REQUEST_SCHEME": "https"}, "https"),
        ({"REQUEST_SCHEME": "http", "HTTPS": "on"}, "https"),
        ({"REQUEST_SCHEME": ""}, "http"),
    ],
)
def test_scheme(variables: dict[str, str], scheme: str) -> None:
    assert environ_of(variables)["wsgi.url_scheme"] == scheme


def test_content_names_are_there_only_when_they_say_something() -> None:
    quirks = {"CONTENT_TYPE": "", "CONTENT_LENGTH": "", "HTTP_CONTENT_TYPE": "x", "HTTP_CONTENT_LENGTH": "9"}
    environ = environ_of(quirks)
    assert not environ.keys() & quirks.keys()
    environ = environ_of({"CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "0"})
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/x", "0")


def test_the_wire_cannot_set_a_wsgi_variable() -> None:
    assert environ_of({"wsgi.multithread": "yes"})["wsgi.multithread"] is False


def test_environ_pretends_to_be_nobody() -> None:
    """An app that finds uWSGI's variables imports its module, and fails."""
    assert not [key for key in environ_of() if key.startswith(("uwsgi", "x-wsgiorg"))]


def test_environ_is_the_apps_own() -> None:
    first, second = environ_of({"A": "1"}), environ_of()
    first["wsgi.version"] = None
    assert "A" not in second
    assert second["wsgi.version"] == (1, 0)


def test_the_reference_validator_has_no_complaint() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["wsgi.input"].read(3)
        environ["wsgi.input"].readline()
        environ["wsgi.errors"].write("x")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    ran = run(validator(app), {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "6"}, b"abcdef")
    assert (ran.exchange.status, ran.exchange.sent, ran.errors) == ("200 OK", b"ok", "x")


# Whole responses.


@pytest.mark.parametrize("result", [[b"ab"], (b"ab",), [b"a", b"b"], [b"", b"ab", b""]])
def test_a_list_is_one_record_with_its_length(result: Any) -> None:
    ran = run(answers(result))
    assert ran.exchange.events == ["finish"]
    assert ran.exchange.head == b"200 OK\r\nContent-Length: 2\r\n"
    assert ran.exchange.sent == b"ab"


def test_an_empty_list_is_an_empty_response() -> None:
    ran = run(answers([]))
    assert (ran.exchange.head, ran.exchange.sent) == (b"200 OK\r\nContent-Length: 0\r\n", b"")


@pytest.mark.parametrize("result", [[b"abc"], Closing(b"a", b"b", b"c")])
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_no_body_goes_with_a_status_that_has_none(result: Any, status: str) -> None:
    ran = run(answers(result, status=status))
    assert (ran.exchange.head, ran.exchange.sent) == (f"{status}\r\n".encode(), b"")


@pytest.mark.parametrize("result", [[b"abc"], Closing(b"a", b"b", b"c"), Closing()])
def test_head_gets_the_head_alone(result: Any) -> None:
    ran = run(answers(result, [("Content-Length", "3")]), {"REQUEST_METHOD": "HEAD"})
    assert (ran.exchange.head, ran.exchange.sent) == (b"200 OK\r\nContent-Length: 3\r\n", b"")
    assert ran.exchange.events[-1] in ("finish", "end")
    assert not ran.errors


@pytest.mark.parametrize("result", [[b"abcdef"], Closing(b"ab", b"cd", b"ef"), Closing(b"abcdef")])
def test_a_body_longer_than_its_length_is_cut(result: Any) -> None:
    ran = run(answers(result, [("content-length", "3")]))
    assert ran.exchange.sent == b"abc"
    assert ran.exchange.events[-1] in ("finish", "end")
    assert "beyond its Content-Length of 3" in ran.errors


@pytest.mark.parametrize("result", [[b"ab"], Closing(b"a", b"b"), Closing()])
def test_a_body_shorter_than_its_length_is_aborted(result: Any) -> None:
    ran = run(answers(result, [("Content-Length", "9")]))
    assert ran.exchange.events[-1] == "abort"
    assert "Content-Length of 9" in ran.exchange.reason
    assert "GET /a?b=c: the app sent" in ran.errors


# Streaming responses.


def test_pieces_go_out_as_they_come_and_the_end_after_close() -> None:
    result = Closing(b"a", b"", b"b")
    ran = run(answers(result))
    assert ran.exchange.events == ["start", "send", "end"]
    assert (ran.exchange.sent, result.closed) == (b"ab", 1)


def test_the_last_piece_is_sent_before_close_is_called() -> None:
    kept = exchange()
    result = Closing(b"a")
    result.close = lambda: kept.events.append("close")  # type: ignore[method-assign]
    Wsgi(answers(result), io.StringIO(), multiprocess=False).run(kept)
    assert kept.events == ["start", "close", "end"]


def test_a_generator_may_start_its_response_late() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", [])
        yield b"x"

    assert run(app).exchange.status == "201 Created"


def test_an_infinite_body_ends_with_its_length_or_its_client() -> None:
    def forever() -> Iterator[bytes]:
        while True:
            yield b"xx"

    assert run(answers(forever(), [("Content-Length", "5")])).exchange.sent == b"xxxxx"
    ran = run(answers(forever()), gone_after=4)
    assert (ran.exchange.events[-1], ran.exchange.reason) == ("abort", "the client has gone")
    assert not ran.errors
    assert run(answers(forever()), {"REQUEST_METHOD": "HEAD"}).exchange.sent == b""


@pytest.mark.parametrize("first", [(), (b"x",)])
def test_a_body_of_empty_pieces_ends_with_its_client(first: tuple[bytes, ...]) -> None:
    result = Closing(*first, *[b""] * 9)
    ran = run(answers(result), gone_after_looks=3)
    assert (ran.exchange.events[-1], ran.exchange.reason) == ("abort", "the client has gone")
    assert (len(list(result)), result.closed, ran.errors) == (6, 1, "")


def test_write() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return [b"c"]

    ran = run(app)
    assert ran.exchange.events == ["start", "send", "send", "end"]
    assert ran.exchange.sent == b"abc"


def test_file_wrapper_reads_blocks_and_closes() -> None:
    file = io.BytesIO(b"abcdefg")
    ran = run(answers(FileWrapper(file, 3)))
    assert ran.exchange.events == ["start", "send", "send", "end"]
    assert (ran.exchange.sent, file.closed) == (b"abcdefg", True)


def test_blocks_of_a_regular_file_are_large_whatever_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    ran = run(answers(FileWrapper(path.open("rb"), 10)))
    assert ran.exchange.events == ["start", "send", "end"]
    assert len(ran.exchange.sent) == 100_000


def test_a_file_whose_descriptor_is_anothers_is_read_and_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(bytes(100_000)))
    with gzip.open(path) as file:
        assert len(run(answers(FileWrapper(file))).exchange.sent) == 100_000


def test_without_the_file_wrapper() -> None:
    kept = exchange()
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return []

    Wsgi(app, io.StringIO(), file_wrapper=False).run(kept)
    assert "wsgi.file_wrapper" not in seen


class One(Closing):
    """Says that it has so many pieces."""

    def __init__(self, *pieces: Any, length: Any) -> None:
        super().__init__(*pieces)
        self._length = length

    def __len__(self) -> int:
        if isinstance(self._length, Exception):
            raise self._length
        return int(self._length)


@pytest.mark.parametrize(
    ("length", "head"),
    [(1, b"200 OK\r\nContent-Length: 2\r\n"), (2, b"200 OK\r\n"), (TypeError("no"), b"200 OK\r\n")],
)
def test_a_len_of_one_is_the_length_of_its_piece(length: Any, head: bytes) -> None:
    result = One(b"ab", length=length)
    ran = run(answers(result))
    assert (ran.exchange.head, ran.exchange.sent, result.closed) == (head, b"ab", 1)
    assert ran.exchange.events == ["start", "end"]


def test_a_len_of_one_without_a_piece() -> None:
    ran = run(answers(One(length=1)))
    assert (ran.exchange.events, ran.exchange.head) == (["start", "end"], b"200 OK\r\n")


@pytest.mark.parametrize("piece", [bytearray(b"ab"), memoryview(b"ab")])
def test_bytes_of_other_types_are_taken(piece: Any) -> None:
    assert run(answers([piece])).exchange.sent == b"ab"
    assert run(answers(Closing(piece))).exchange.sent == b"ab"


# start_response.


def test_exc_info_replaces_a_head_that_has_not_gone() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("A", "b")])
        try:
            raise KeyError
        except KeyError:
            start_response("503 Busy", [], sys.exc_info())
        return [b"x"]

    assert run(app).exchange.head == b"503 Busy\r\nContent-Length: 1\r\n"


def test_exc_info_after_the_head_raises_it_again() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"x"
        try:
            raise KeyError("lost")
        except KeyError:
            start_response("500 Oh", [], sys.exc_info())

    ran = run(app)
    assert (ran.exchange.events, ran.exchange.status) == (["start", "abort"], "200 OK")
    assert "KeyError: 'lost'" in ran.errors


@pytest.mark.parametrize(
    ("status", "headers", "named"),
    [
        ("200 OK", [("A", "b\r\nC: d")], "'A'"),
        ("200 OK\n", [], "status"),
        ("200 OK", [("A", 1)], "('A', 1)"),
        ("200 OK", [("A", "\u20ac")], "8859-1"),
        ("200 OK", [("Content-Length", "ten")], "'ten'"),
        ("200 OK", [("Content-Length", "-1")], "'-1'"),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")], "twice"),
        ("200 OK", [("A", "x" * 70000)], "65471"),
        (200, [], "str"),
    ],
)
def test_a_head_that_cannot_be_sent_is_named_and_500(status: Any, headers: Any, named: str) -> None:
    ran = run(answers([b"x"], headers, status))
    assert ran.exchange.status == "500 Internal Server Error"
    assert named in ran.errors


# Errors.


def raises(error: BaseException) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("A", "b")])
        raise error

    return app


@pytest.mark.parametrize(
    "app",
    [
        raises(ValueError("oh no")),
        raises(KeyboardInterrupt("oh no")),
        raises(MemoryError("oh no")),
        raises(GeneratorExit("oh no")),
        answers(Closing(ValueError("oh no"))),
    ],
)
def test_an_error_before_the_head_is_500_with_a_traceback(app: Any) -> None:
    ran = run(app)
    assert ran.exchange.events == ["finish"]
    assert ran.exchange.status == "500 Internal Server Error"
    assert b"A: b" not in ran.exchange.head
    assert re.search(r"GET /a\?b=c: Traceback(.|\n)*oh no\n$", ran.errors)
    assert ran.leave == ""


def test_an_error_in_a_head_request_has_no_body_either() -> None:
    assert run(raises(ValueError()), {"REQUEST_METHOD": "HEAD"}).exchange.sent == b""


def test_an_error_after_the_head_is_an_abort() -> None:
    result = Closing(b"a", ValueError("oh no"))
    ran = run(answers(result))
    assert ran.exchange.events == ["start", "abort"]
    assert (result.closed, "oh no" in ran.errors) == (1, True)


class Late(Kept):
    """One whose whole response takes time, in which a timeout of the app's comes."""

    def finish(self, head: bytes, body: bytes) -> None:
        self.start(head, body)
        raise TimeoutError("oh no")


def test_an_error_while_a_list_is_sent_is_an_abort() -> None:
    kept, errors = Late(exchange().payload), io.StringIO()
    Wsgi(answers([b"x"]), errors).run(kept)
    assert kept.events == ["start", "abort"]
    assert "oh no" in errors.getvalue()


ERRORS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_close_is_told_and_does_not_cut_the_response(error: type[BaseException]) -> None:
    ran = run(answers(Closing(b"a", on_close=error("oh no"))))
    assert ran.exchange.events == ["start", "end"]
    assert "oh no" in ran.errors
    assert ran.leave == ("the app raised SystemExit('oh no')" if error is SystemExit else "")


@pytest.mark.parametrize("error", ERRORS)
def test_a_close_that_cannot_be_had_is_told_and_does_not_cut_the_response(error: type[BaseException]) -> None:
    class Shy:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a"])

        @property
        def close(self) -> None:
            raise error("oh no")

    ran = run(answers(Shy()))
    assert (ran.exchange.events, ran.exchange.sent) == (["start", "end"], b"a")
    assert "oh no" in ran.errors


def test_a_close_that_exits_after_an_error_is_a_wish_to_leave_all_the_same() -> None:
    ran = run(answers(Closing(b"a", ValueError("first"), on_close=SystemExit(3))))
    assert ran.exchange.events == ["start", "abort"]
    assert ran.leave == "the app raised SystemExit(3)"


def test_close_is_called_once_when_both_fail() -> None:
    result = Closing(ValueError("first"), on_close=ValueError("second"))
    ran = run(answers(result))
    assert (result.closed, ran.exchange.status) == (1, "500 Internal Server Error")
    assert "first" in ran.errors
    assert "second" in ran.errors


@pytest.mark.parametrize("error", [SystemExit(3), SystemExit()])
def test_system_exit_is_500_and_a_wish_to_leave(error: SystemExit) -> None:
    ran = run(raises(error))
    assert ran.exchange.status == "500 Internal Server Error"
    assert ran.leave == f"the app raised SystemExit({error.code!r})"


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (lambda environ, start_response: [b"x"], "without calling start_response"),
        (lambda environ, start_response: Closing(b"x"), "before start_response"),
        (lambda environ, start_response: Closing(), "without calling start_response"),
        (answers(None), "returned None"),
        (answers(["text"]), "str"),
        (answers([b"a", "text"]), "str"),
        (answers(Closing("text")), "str; WSGI wants bytes"),
        (answers("text"), "str; WSGI wants bytes"),
        (
            lambda environ, start_response: start_response("200 OK", []) and start_response("200 OK", []),
            "second time",
        ),
    ],
)
def test_a_broken_rule_is_named(app: Any, told: str) -> None:
    ran = run(app)
    assert ran.exchange.status == "500 Internal Server Error"
    assert told in ran.errors


def test_a_client_that_has_gone_costs_one_line_and_no_traceback() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        raise ConnectionError("the client has gone: 3 bytes read")

    ran = run(app, gone="the client has gone")
    assert ran.errors == "GET /a?b=c: ConnectionError: the client has gone: 3 bytes read\n"


def test_errors_that_cannot_be_written_break_nothing() -> None:
    kept = exchange()
    errors = io.StringIO()
    errors.close()
    Wsgi(raises(ValueError()), errors, multiprocess=False).run(kept)
    assert kept.status == "500 Internal Server Error"
