"""What of a vassal's requests is counted as the vassal's, and which of its options was the reason."""

import pytest

from emperor.protocol import packet
from tests.router.client import get, request
from tests.router.stage import Stage, Vassal


def hits(blog: Vassal) -> dict[str, int]:
    return {name: limit["hits"] for name, limit in blog.stats()["limits"].items() if limit["hits"]}


@pytest.mark.parametrize("kind", ["http", "uwsgi"])
def test_a_body_that_is_too_large(stage: Stage, blog: Vassal, kind: str) -> None:
    others = stage.stats()["errors"]
    blog.tell(body_limit=10)
    if kind == "http":
        sent = request("blog.localhost", "/", "Content-Length: 99", method="POST")
        assert stage.http(sent).response().status == 413
    else:
        pairs = [(b"REQUEST_METHOD", b"POST"), (b"REQUEST_URI", b"/"), (b"PATH_INFO", b"/")]
        pairs += [(b"HTTP_HOST", b"blog.localhost"), (b"CONTENT_LENGTH", b"99")]
        assert stage.uwsgi(packet.encode(pairs)).response().status == 413
    assert blog.stats()["errors"] == {"413": 1}
    assert hits(blog) == {"body-limit": 1} and blog.stats()["limits"]["body-limit"]["value"] == 10
    assert stage.stats()["errors"] == others, "of answers that belong to no vassal there are no more"


def test_a_body_that_is_none(stage: Stage, blog: Vassal) -> None:
    others = stage.stats()["errors"]
    sent = request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST")
    assert stage.http(sent + b"no size\r\n").response().status == 400
    assert blog.stats()["errors"] == {"400": 1}
    assert stage.stats()["errors"] == others


def test_which_of_several_reasons_a_503_had(stage: Stage, blog: Vassal) -> None:
    blog.tell(available=False)
    assert stage.http(get()).response().status == 503
    assert hits(blog) == {}
    blog.active()
    blog.tell(available=True, queue=0)
    assert stage.http(get()).response().status == 503
    assert hits(blog) == {"queue": 1}
    blog.tell(queue=5, queue_timeout_s=0.1)
    assert stage.http(get()).response().status == 503
    assert hits(blog) == {"queue": 1, "queue-timeout": 1}
    blog.tell(queue_timeout_s=10.0, request_timeout_s=0.1)
    assert stage.http(get()).response().status == 504
    assert hits(blog) == {"queue": 1, "queue-timeout": 1, "request-timeout": 1}
    assert blog.stats()["errors"] == {"503": 3, "504": 1}
