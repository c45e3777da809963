"""nginx in front, `uwsgi_pass` with its stock `uwsgi_params`: GET, HEAD and POST of any size, buffered and
not."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Connection, Fleet, fetch, free_port
from .harness.fleet import APPS
from .harness.nginx import nginx


@pytest.fixture(params=["unix", "tcp"])
def front(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[tuple[Fleet, int]]:
    """A fleet and the port of an nginx before it: `/on/` buffers requests, `/off/` does not."""
    fleet.vassal("echo", wsgi_file=APPS / "echo.py", processes=2)
    fleet.vassal("other", wsgi_file=APPS / "hello.py")
    uwsgi_port = free_port()
    fleet.start("--uwsgi", f"127.0.0.1:{uwsgi_port}")
    upstream = f"unix:{fleet.run_dir}/uwsgi.sock" if request.param == "unix" else f"127.0.0.1:{uwsgi_port}"
    with nginx(fleet, upstream) as port:
        yield fleet, port


@pytest.mark.parametrize("place", ["/on/", "/off/"])
def test_get_and_head(front: tuple[Fleet, int], place: str) -> None:
    _, port = front
    answer = fetch(port, "echo.localhost", f"{place}a%20b?x=1&y=%2F", fields={"X-One": "two"})
    said = json.loads(answer.body)
    assert said["PATH_INFO"] == f"{place}a b"
    assert said["QUERY_STRING"] == "x=1&y=%2F"
    assert said["HTTP_X_ONE"] == "two"
    assert (said["host"], said["scheme"]) == ("echo.localhost", "http")
    head = fetch(port, "echo.localhost", place, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.fields["content-length"]) > 0
    assert fetch(port, "other.localhost", place).text == "hello"


@pytest.mark.parametrize("place", ["/on/", "/off/"])
def test_post_of_any_size(front: tuple[Fleet, int], place: str) -> None:
    _, port = front
    with Connection(port) as connection:
        for size in (0, 1, 65_535, 65_536, 65_537, 1_000_000, 20_000_000, 1, 0):
            body = os.urandom(size)
            said = json.loads(connection.request("echo.localhost", place, "POST", body).body)
            assert (said["size"], said["sha256"]) == (size, hashlib.sha256(body).hexdigest())


def test_a_chunked_post_through_nginx(front: tuple[Fleet, int]) -> None:
    _, port = front
    pieces = [os.urandom(100_000) for _ in range(20)]
    said = json.loads(fetch(port, "echo.localhost", "/on/", "POST", pieces).body)
    assert said["sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_many_on_one_connection_of_nginx(front: tuple[Fleet, int]) -> None:
    _, port = front
    with Connection(port) as connection:
        for number in range(200):
            assert connection.request("echo.localhost", f"/on/{number}").status == 200


def test_the_uwsgi_socket_is_for_owner_and_group_only(front: tuple[Fleet, int]) -> None:
    fleet, _ = front
    assert Path(fleet.run_dir / "uwsgi.sock").stat().st_mode & 0o777 == 0o660
