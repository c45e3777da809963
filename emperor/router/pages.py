"""The router's own answers. Pure. They never say anything about the inside: the reason goes to the log.

A cause of the fixed vocabulary ``CAUSES`` may be told, in a header: it says what a client can do about it (come back, and
when), and nothing of how the app is run.
"""

import json
from http import HTTPStatus
from typing import Final

from emperor.protocol import packet
from emperor.protocol.packet import RequestHead

_TEXT: Final[dict[int, str]] = {
    400: "The request could not be understood.",
    404: "No app here answers to this name.",
    408: "The request took too long to arrive.",
    411: "The request needs a Content-Length.",
    413: "The request body is larger than this app accepts.",
    414: "The request target is too long.",
    417: "The expectation cannot be met.",
    421: "This address does not answer for that URL.",
    429: "Too many requests. Try again in a moment.",
    431: "The request head is too large.",
    500: "Something went wrong here.",
    501: "This is not supported.",
    502: "The app failed while it was working on the request.",
    503: "The app cannot take the request now. Try again in a moment.",
    504: "The app took too long to answer.",
    505: "This version of HTTP is not supported.",
    507: "There is no room for the request body now.",
    508: "The request was sent round in a circle.",
}

QUEUE_FULL: Final = "queue-full"
QUEUE_TIMEOUT: Final = "queue-timeout"
NOT_READY: Final = "not-ready"
GONE: Final = "gone"
CONNECTIONS: Final = "connections"
BODIES: Final = "bodies"
PAUSED: Final = "paused"
OVERLOAD: Final = "overload"
RATE: Final = "rate"
CONCURRENCY: Final = "concurrency"
UPSTREAMS: Final = "upstreams"

CAUSES: Final[dict[str, int]] = {
    QUEUE_FULL: 1,
    QUEUE_TIMEOUT: 1,
    NOT_READY: 5,
    GONE: 5,
    CONNECTIONS: 1,
    BODIES: 1,
    PAUSED: 30,
    OVERLOAD: 1,
    RATE: 1,
    CONCURRENCY: 1,
    UPSTREAMS: 5,
}
"""Why a 503 or 429, as told in ``Unavailable-Reason``, and the seconds of its ``Retry-After`` where nobody knows better."""

RETRY_AFTER_S: Final = 1
"""Where no cause is told. A second: what fills a queue passes quickly, and clients add jitter of their own."""

HTML: Final = "text/html; charset=utf-8"
PROBLEM: Final = "application/problem+json"
JSON: Final = "application/json"

_OFFERS: Final = (HTML, PROBLEM, JSON)


def accepted(head: RequestHead | None) -> bytes:
    """The Accept header of a request; nothing when there is no request, or none in it."""
    if head is None or b"HTTP_ACCEPT" not in head.packet:
        return b""
    return next((value for key, value in packet.decode(head.packet)[2] if key == b"HTTP_ACCEPT"), b"")


def chosen(accept: bytes) -> str:
    """The Content-Type for this Accept header (RFC 9110, 12.5.1): HTML unless JSON is liked better, or as well and by name.

    What accepts neither gets HTML all the same: an answer that is not liked tells more than none (RFC 9110, 15.5.7).
    """
    if b"json" not in accept.lower():
        return HTML
    ranges = [_media_range(each) for each in accept.decode("latin-1").split(",")]
    best = max(_OFFERS, key=lambda offer: _liked(offer, ranges))  # the first of equals
    return best if _liked(best, ranges)[0] > 0 else HTML


def _media_range(text: str) -> tuple[str, float]:
    """``text/html;level=1;q=0.5`` → ``("text/html", 0.5)``. What is malformed is not wanted."""
    media, *parameters = (part.strip(" \t").lower() for part in text.split(";"))
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip(" \t") == "q":
            try:
                return media, min(1.0, max(0.0, float(value)))
            except ValueError:
                return media, 0.0
    return media, 1.0


def _liked(offer: str, ranges: list[tuple[str, float]]) -> tuple[float, int]:
    """The weight of the most specific range that the offer falls under, and how specific that is."""
    media = offer.partition(";")[0]
    for specific, wanted in ((2, media), (1, media.partition("/")[0] + "/*"), (0, "*/*")):
        weights = [quality for name, quality in ranges if name == wanted]
        if weights:
            return max(weights), specific
    return 0.0, 0


def page(
    status: int,
    *,
    keep: bool,
    head_only: bool,
    date: bytes,
    uwsgi: bool = False,
    http11: bool = True,
    accept: bytes = b"",
    cause: str = "",
    retry_s: int = 0,
) -> bytes:
    """A whole response: status line, head and a small body (left out for HEAD), in the form that ``accept`` asks for:
    HTML, or JSON with the members of RFC 9457. ``date`` is a Date line with CRLF; ``cause`` a key of ``CAUSES`` or empty;
    ``retry_s`` 0: as the cause has it."""
    phrase = HTTPStatus(status).phrase
    text = _TEXT.get(status, phrase)
    kind = chosen(accept)
    if kind == HTML:
        body = f"<!doctype html><title>{status} {phrase}</title><h1>{status} {phrase}</h1><p>{text}</p>\n"
    else:
        body = json.dumps({"type": "about:blank", "title": phrase, "status": status, "detail": text}) + "\n"
    # An error page of ours is of this moment: some of these statuses would be cached otherwise (RFC 9110, 15.1).
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    if status in (429, 503):
        lines.append(f"Retry-After: {retry_s or CAUSES.get(cause, RETRY_AFTER_S)}")
        if cause:
            lines.append(f"Unavailable-Reason: {cause}")
    if not uwsgi:
        if not keep:
            lines.append("Connection: close")
        elif not http11:
            lines.append("Connection: keep-alive")
    head = "\r\n".join(lines).encode() + b"\r\n" + date + b"\r\n"
    return head if head_only else head + body.encode()
