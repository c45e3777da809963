"""The router's own answers."""

from email.parser import BytesParser
from http import HTTPStatus

import pytest

from emperor.router.pages import page

DATE = b"Date: Sun, 22 Nov 2026 14:00:00 GMT\r\n"
OWN = [400, 404, 408, 413, 414, 417, 431, 501, 502, 503, 504, 505]


@pytest.mark.parametrize("status", OWN)
def test_a_page_is_a_whole_response(status: int) -> None:
    head, _, body = page(status, keep=True, head_only=False, date=DATE).partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    assert line == f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
    message = BytesParser().parsebytes(fields + b"\r\n\r\n")
    assert message["Content-Length"] == str(len(body))
    assert message["Content-Type"] == "text/html; charset=utf-8"
    assert message["Date"]
    assert message["Connection"] is None
    assert str(status).encode() in body
    assert (message["Retry-After"] is not None) == (status == 503)


def test_what_closes_the_connection_says_so() -> None:
    assert b"\r\nConnection: close\r\n" in page(400, keep=False, head_only=False, date=DATE)


def test_the_answer_to_head_has_the_length_and_no_body() -> None:
    whole = page(404, keep=True, head_only=False, date=DATE)
    bare = page(404, keep=True, head_only=True, date=DATE)
    assert bare.endswith(b"\r\n\r\n")
    assert whole.startswith(bare)


def test_a_page_for_a_front_server_says_nothing_of_the_connection() -> None:
    assert b"Connection" not in page(404, keep=False, head_only=False, date=DATE, uwsgi=True)
