"""The router's own answers. Pure. They never say anything about the inside: the reason goes to the log."""

from http import HTTPStatus
from typing import Final

_TEXT: Final[dict[int, str]] = {
    400: "The request could not be understood.",
    404: "No app here answers to this name.",
    408: "The request took too long to arrive.",
    413: "The request body is larger than this app accepts.",
    414: "The request target is too long.",
    417: "The expectation cannot be met.",
    431: "The request head is too large.",
    501: "This is not supported.",
    502: "The app failed while it was working on the request.",
    503: "The app cannot take the request now. Try again in a moment.",
    504: "The app took too long to answer.",
    505: "This version of HTTP is not supported.",
}

RETRY_AFTER_S: Final = 1


def page(status: int, *, keep: bool, head_only: bool, date: bytes, uwsgi: bool = False) -> bytes:
    """A whole response: status line, head and a small HTML body (left out for HEAD). ``date`` is a Date line with CRLF."""
    phrase = HTTPStatus(status).phrase
    body = (
        f"<!doctype html><title>{status} {phrase}</title><h1>{status} {phrase}</h1><p>{_TEXT.get(status, phrase)}</p>\n"
    ).encode()
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
    ]
    if status == 503:
        lines.append(f"Retry-After: {RETRY_AFTER_S}")
    if not keep and not uwsgi:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode() + b"\r\n" + date + b"\r\n"
    return head if head_only else head + body
