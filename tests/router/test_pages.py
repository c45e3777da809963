"""The router's own answers."""

import json
from email.message import Message
from email.parser import BytesParser
from http import HTTPStatus

import pytest

from emperor.protocol import packet
from emperor.router.pages import CAUSES, HTML, JSON, PROBLEM, accepted, chosen, page

DATE = b"Date: Sun, 22 Nov 2026 14:00:00 GMT\r\n"
OWN = [400, 404, 408, 411, 413, 414, 417, 421, 429, 431, 500, 501, 502, 503, 504, 505, 507]


def taken_apart(raw: bytes) -> tuple[str, Message, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    return line.decode(), BytesParser().parsebytes(fields + b"\r\n\r\n"), body


@pytest.mark.parametrize("accept", [b"", b"application/json"])
@pytest.mark.parametrize("status", OWN)
def test_a_page_is_a_whole_response(status: int, accept: bytes) -> None:
    line, message, body = taken_apart(page(status, keep=True, head_only=False, date=DATE, accept=accept))
    phrase = HTTPStatus(status).phrase
    assert line == f"HTTP/1.1 {status} {phrase}"
    assert message["Content-Length"] == str(len(body))
    assert message["Cache-Control"] == "no-store"
    assert message["Date"]
    assert message["Connection"] is None
    assert (message["Retry-After"] is not None) == (status in (429, 503))
    assert message["Unavailable-Reason"] is None
    if accept:
        assert message["Content-Type"] == JSON
        said = json.loads(body)
        assert (said["type"], said["title"], said["status"]) == ("about:blank", phrase, status)
        assert said["detail"].endswith(".") and said["detail"] != phrase
    else:
        assert message["Content-Type"] == HTML
        assert f"<title>{status} {phrase}</title>".encode() in body


def test_what_closes_the_connection_says_so() -> None:
    assert b"\r\nConnection: close\r\n" in page(400, keep=False, head_only=False, date=DATE)


def test_what_keeps_a_connection_of_http_1_0_says_so() -> None:
    kept = page(404, keep=True, head_only=False, date=DATE, http11=False)
    assert b"\r\nConnection: keep-alive\r\n" in kept


@pytest.mark.parametrize("accept", [b"", b"application/json"])
def test_the_answer_to_head_has_the_length_and_no_body(accept: bytes) -> None:
    whole = page(404, keep=True, head_only=False, date=DATE, accept=accept)
    bare = page(404, keep=True, head_only=True, date=DATE, accept=accept)
    assert bare.endswith(b"\r\n\r\n")
    assert whole.startswith(bare)


def test_a_page_for_a_front_server_says_nothing_of_the_connection() -> None:
    for keep in (True, False):
        assert b"Connection" not in page(404, keep=keep, head_only=False, date=DATE, uwsgi=True, http11=False)


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("status", [429, 503])
def test_a_cause_is_told_with_its_time(status: int, cause: str) -> None:
    _, message, _ = taken_apart(page(status, keep=True, head_only=False, date=DATE, cause=cause))
    assert message["Unavailable-Reason"] == cause
    assert int(message["Retry-After"]) == CAUSES[cause]


def test_a_cause_is_told_of_nothing_else() -> None:
    assert b"Unavailable-Reason" not in page(502, keep=True, head_only=False, date=DATE, cause="gone")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", HTML),
        ("*/*", HTML),
        ("application/json", JSON),
        ("APPLICATION/JSON", JSON),
        ("application/problem+json", PROBLEM),
        ("application/json, application/problem+json", PROBLEM),
        ("application/problem+json;q=0.5, application/json", JSON),
        ("application/json, */*", JSON),
        ("application/json, */*;q=0.1", JSON),
        ("application/json, text/plain, */*;q=0.8", JSON),
        ("text/html, application/json", HTML),
        ("text/html;q=0.9, application/json", JSON),
        ("application/json;q=0.9, text/html;q=0.8", JSON),
        ("text/html;level=1, application/json;q=0.1", HTML),
        ("application/json;q=0", HTML),
        ("application/json;q=0, application/*", PROBLEM),
        ("application/json ; q = 0.5 , text/*;q=0.4", JSON),
        ("application/json;q=many", HTML),
        ("application/json;q=-1", HTML),
        ("application/json;q=nan, text/html;q=0.5", HTML),
        ("image/png", HTML),
        ("application/vnd.x+json", HTML),
        (",;q=,json,/,\xff", HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", HTML),
    ],
)
def test_what_is_chosen(accept: str, kind: str) -> None:
    assert chosen(accept.encode("latin-1")) == kind


def test_what_a_request_accepts() -> None:
    def head(*pairs: tuple[bytes, bytes]) -> bytes:
        return accepted(packet.admit(packet.encode([(b"REQUEST_METHOD", b"GET"), *pairs])))

    assert head((b"HTTP_ACCEPT", b"application/json")) == b"application/json"
    assert head((b"HTTP_ACCEPT_ENCODING", b"application/json")) == b""
    assert head() == accepted(None) == b""
