"""The id of a request: for the app, in the response, in the access log, in the emperor's log."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from emperor.config.accesslog import AccessLog
from tests.router.client import Connection, get, post, uwsgi
from tests.router.stage import TIMEOUT_S, Stage, Vassal
from tests.router.test_listeners import listening
from tests.router.worker import FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for

MADE = r"[0-9a-f]{32}"


def says_its_id(worker: FakeWorker, taken: Request) -> None:
    told = taken.variables.get("HTTP_X_REQUEST_ID", "none")
    worker.respond(taken, f"200 OK\r\nContent-Length: {len(told)}\r\n", told.encode())


@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_the_app_and_the_client_are_told_the_same(stage: Stage, blog: Vassal, front: str) -> None:
    blog.tell(request_id=True)
    blog.active().answering(says_its_id)
    ids = set()
    for _ in range(3):
        client = stage.http(get()) if front == "http" else stage.uwsgi(uwsgi())
        response = client.response()
        assert re.fullmatch(MADE, response.headers["x-request-id"])
        assert response.body.decode() == response.headers["x-request-id"]
        ids.add(response.body)
    assert len(ids) == 3


def test_off_costs_nobody_a_header(stage: Stage, blog: Vassal) -> None:
    blog.active().answering(says_its_id)
    response = stage.http(get()).response()
    assert response.body == b"none" and "x-request-id" not in response.headers


def test_an_id_of_a_trusted_peer_is_kept(stage: Stage, blog: Vassal) -> None:
    blog.tell(request_id=True)
    blog.active().answering(says_its_id)
    asked = get("blog.localhost", "/", "X-Request-ID: from-nginx.1")
    with Connection(listening(stage, "http", forwarded=["127.0.0.1"])) as client:
        response = client.send(asked).response()
    assert response.body == b"from-nginx.1" == response.headers["x-request-id"].encode()
    assert re.fullmatch(MADE, stage.http(asked).response().body.decode())
    response = stage.uwsgi(uwsgi(HTTP_X_REQUEST_ID="from-nginx.2")).response()
    assert response.body == b"from-nginx.2" == response.headers["x-request-id"].encode()


def test_a_page_of_ours_has_one_that_the_log_has_too(stage: Stage) -> None:
    for client in (stage.http(get("nobody.test")), stage.uwsgi(uwsgi("nobody.test"))):
        assert re.fullmatch(MADE, client.response().headers["x-request-id"])
    stage.http(b"bad\r\n\r\n").response()
    line = stage.wait_log("400")
    assert re.search(rf"\(id {MADE}\)", line)


def test_a_failure_is_found_in_the_log_by_the_id_that_the_client_saw(stage: Stage, blog: Vassal) -> None:
    def aborts(worker: FakeWorker, taken: Request) -> None:
        worker.abort(taken, "the app raised")

    blog.tell(request_id=True)
    blog.active().answering(aborts)
    response = stage.http(get("blog.localhost", "/fails-with-id")).response()
    assert response.status == 502
    assert response.headers["x-request-id"] in stage.wait_log("fails-with-id")


def test_two_requests_of_a_connection_have_two(stage: Stage) -> None:
    client = stage.http(get("nobody.test") + get("nobody.test"))
    assert client.response().headers["x-request-id"] != client.response().headers["x-request-id"]


@pytest.mark.parametrize("front", ["http", "uwsgi"])
@pytest.mark.parametrize("status", [200, 413])
def test_the_access_log_has_it(stage: Stage, blog: Vassal, tmp_path: Path, front: str, status: int) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(place=str(path), format="json")
    blog.tell(request_id=True, access=log.to_json(), body_limit=10)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stage.tell("access", [fd], name=blog.entry.name)
    os.close(fd)
    blog.active().answering(says_its_id)
    body = b"" if status == 200 else bytes(11)
    send: Callable[[], bytes] = lambda: (  # noqa: E731
        (post(body) if body else get())
        if front == "http"
        else uwsgi(body=body, CONTENT_LENGTH=str(len(body)))
    )
    response = (stage.http if front == "http" else stage.uwsgi)(send()).response()
    assert response.status == status
    told = json.loads(wait_for(path.read_text, TIMEOUT_S))
    assert (told["id"], told["status"]) == (response.headers["x-request-id"], status)
