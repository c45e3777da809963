"""The router's own answers as clients get them."""

import json
import re

import pytest

from tests.router.client import get, post, request, uwsgi
from tests.router.stage import TIMEOUT_S, Stage, Vassal, said_of
from tests.scenarios.harness.waiting import wait_for


@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_json_for_who_likes_it_better(stage: Stage, front: str) -> None:
    for accept, kind in {
        "application/json": "application/json",
        "application/problem+json": "application/problem+json",
        "text/html,*/*;q=0.8": "text/html; charset=utf-8",
    }.items():
        client = (
            stage.http(get("nobody.test", "/", f"Accept: {accept}"))
            if front == "http"
            else stage.uwsgi(uwsgi("nobody.test", HTTP_ACCEPT=accept))
        )
        response = client.response()
        assert (response.status, response.headers["content-type"]) == (404, kind)
        if "json" in kind:
            assert json.loads(response.body)["status"] == 404


def test_a_page_of_one_request_is_not_in_the_form_of_the_one_before(stage: Stage) -> None:
    client = stage.http(
        get("nobody.test", "/", "Accept: application/json") + get("nobody.test") + b"bad\r\n\r\n"
    )
    kinds = [client.response().headers["content-type"] for _ in range(3)]
    assert kinds == ["application/json", "text/html; charset=utf-8", "text/html; charset=utf-8"]


REFUSED_WITH = {
    400: ("GET", ("X : y",)),
    411: ("POST", ()),
    417: ("GET", ("Expect: what",)),
    431: ("GET", tuple(f"X-{n}: y" for n in range(101))),
    501: ("CONNECT", ()),
    505: ("GET", ()),
}


@pytest.mark.parametrize("status", REFUSED_WITH)
def test_a_refused_head_says_in_which_form_it_wants_to_know(stage: Stage, status: int) -> None:
    method, fields = REFUSED_WITH[status]
    version = {411: "1.0", 505: "2.0"}.get(status, "1.1")
    client = stage.http(
        request("nobody.test", "/", *fields, "accept:  application/json", method=method, version=version)
    )
    response = client.response()
    assert (response.status, response.headers["content-type"]) == (status, "application/json")
    assert json.loads(response.body)["status"] == status


def test_a_refused_body_is_told_in_the_form_that_its_head_wants(blog: Vassal) -> None:
    head = request(
        "blog.localhost", "/", "Transfer-Encoding: chunked", "Accept: application/json", method="POST"
    )
    client = blog.stage.http(head + b"x\r\n")
    response = client.response()
    assert (response.status, response.closes) == (400, True)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "fields", [("Expect: what",), ("X : y",), ("Content-Length: 1", "Transfer-Encoding: chunked")]
)
def test_a_refused_head_gets_no_body(stage: Stage, fields: tuple[str, ...]) -> None:
    """RFC 9110, 9.3.2."""
    client = stage.http(request("nobody.test", "/", *fields, method="HEAD"))
    head, _, body = client.everything_to_the_end().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4")
    assert b"Content-Length: " in head and not body


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        ({"queue": 0}, "queue-full"),
        ({"queue_timeout_s": 0.1}, "queue-timeout"),
        ({"available": False, "reason": "its app raised KeyError: 'SECRET'"}, "not-ready"),
    ],
)
def test_a_503_says_why_in_one_word(stage: Stage, entry: dict[str, object], cause: str) -> None:
    stage.vassal("crowded", **entry)
    response = stage.http(get("crowded.localhost")).response()
    assert (response.status, response.headers["unavailable-reason"]) == (503, cause)
    assert 0 < int(response.headers["retry-after"]) < 60
    assert b"SECRET" not in response.body


def test_who_is_in_the_queue_of_a_vassal_that_goes_is_told_to_come_back(stage: Stage) -> None:
    blog = stage.vassal("leaving")
    client = stage.http(get("leaving.localhost"))
    blog.wait_stat("queued", 1)
    stage.tell("remove", name="leaving")
    stage.vassals.pop("leaving")
    response = client.response()
    assert (response.status, response.headers["unavailable-reason"]) == (503, "gone")


def test_no_page_says_anything_of_the_inside(stage: Stage, blog: Vassal) -> None:
    """Its name, worker, pid, reason: nothing but the status, its phrase and a sentence."""
    worker = blog.active().worker()
    blog.tell(body_limit=10)
    sent = {
        400: b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        404: get("nobody.test", "/secret-path"),
        411: request(method="POST", version="1.0"),
        413: post(b"x" * 11),
        414: get(path="/" + "a" * 17000),
        417: get("blog.localhost", "/", "Expect: secret"),
        421: request(path="https://blog.localhost/"),
        431: get("blog.localhost", "/", *(f"X-{n}: secret" for n in range(101))),
        501: request(method="CONNECT", path="blog.localhost:443"),
        505: request(version="2.0"),
    }
    for accept in ("", "Accept: application/json\r\n"):
        for status, raw in sent.items():
            client = stage.http(raw.replace(b"\r\nHost", b"\r\n" + accept.encode() + b"Host", 1))
            response = client.response()
            assert response.status == status
            assert_innocent(response.body, response.headers)
        client = stage.http(get())
        worker.abort(worker.take(), "KeyError: 'secret'")
        response = client.response()
        assert response.status == 502
        assert_innocent(response.body, response.headers)


def assert_innocent(body: bytes, headers: dict[str, str]) -> None:
    text = body.decode() + " ".join(headers.values())
    assert not re.search(
        r"secret|blog|nobody|worker|pid|emperor|uwsgi|python|cython|zmq|/tmp", text, re.IGNORECASE
    )
    assert set(headers) <= {
        *("content-type", "content-length", "cache-control", "date", "connection", "retry-after"),
        *("unavailable-reason", "x-request-id"),
    }


def test_the_log_has_one_line_a_second_of_what_a_client_repeats(stage: Stage) -> None:
    for _ in range(200):
        stage.http(b"bad\r\n\r\n").response()
    # The last lines of the test before may come in this one.
    what = "400: a request line without a method"
    wait_for(lambda: said_of(stage.logged(), what) >= 200, TIMEOUT_S, stage.logged, every_s=0.005)
    lines = [line for line in stage.logged() if what in line]
    assert len(lines) <= 20, "it is repeated for each"
