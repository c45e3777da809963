"""nginx in front of ASGI apps with `uwsgi_pass`: bodies that stream both ways, events, clients that go."""

import hashlib
import json
import os
from collections.abc import Iterator

import pytest

from .harness import Connection, Fleet, fetch, free_port, wait_for
from .harness.fleet import APPS
from .harness.nginx import nginx
from .test_asgi import asgi, request, seen


@pytest.fixture(params=["unix", "tcp"])
def front(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[tuple[Fleet, int, str]]:
    """A fleet, the port of an nginx before it, and what the two talk by: `/off/` does not buffer."""
    asgi(fleet)
    uwsgi_port = free_port()
    fleet.start("--uwsgi", f"127.0.0.1:{uwsgi_port}")
    upstream = f"unix:{fleet.run_dir}/uwsgi.sock" if request.param == "unix" else f"127.0.0.1:{uwsgi_port}"
    with nginx(fleet, upstream, path="/hello") as port:
        yield fleet, port, request.param


@pytest.mark.parametrize("place", ["", "/off"])
def test_bodies_of_any_size(front: tuple[Fleet, int, str], place: str) -> None:
    _, port, _ = front
    for size in (0, 1, 70_000, 5_000_000):
        content = os.urandom(size)
        answer = fetch(port, "a.localhost", f"{place}/digest", "POST", content)
        assert json.loads(answer.body) == [size, hashlib.sha256(content).hexdigest()]
        # An echo of more than buffers hold would wait for this client, which reads once it has sent all.
        if size < 100_000:
            assert fetch(port, "a.localhost", f"{place}/echo", "POST", content).body == content
        else:
            assert len(fetch(port, "a.localhost", f"{place}/flood?{size}").body) == size


def test_pieces_go_through_both_ways_as_they_come(front: tuple[Fleet, int, str]) -> None:
    _, port, _ = front
    with Connection(port, 20) as client:
        client.send(request("/off/echo", "POST", "Content-Length: 11") + b"first")
        assert client.read_head()[0] == 200
        received = b""
        while b"first" not in received:
            received += client.read_some()
        client.send(b"second")
        while b"second" not in received:
            received += client.read_some()


def test_events_arrive_as_they_are_made_and_end_with_their_client(front: tuple[Fleet, int, str]) -> None:
    fleet, port, _ = front
    client = Connection(port, 20)
    client.send(request("/off/events?0.05"))
    assert client.read_head()[0] == 200
    received = b""
    while b"data: 5" not in received:
        received += client.read_some()
    client.close()
    wait_for(lambda: seen(fleet)["disconnects"] == 1, 10)


def test_a_long_poll_is_answered_and_one_that_is_given_up_is_told(front: tuple[Fleet, int, str]) -> None:
    fleet, port, _ = front
    for gives_up in (True, False):
        client = Connection(port, 20)
        client.send(request("/poll"))
        wait_for(lambda: "Task GET /poll" in fleet.cli("trace", "a", "--run-dir", fleet.run_dir).stdout, 10)
        if gives_up:
            client.close()
            wait_for(lambda: seen(fleet)["disconnects"] == 1, 10)
    assert fetch(port, "a.localhost", "/publish?news").body == b"published"
    assert client.read_response().body == b"news"
    client.close()


def test_fastapi_behind_nginx(front: tuple[Fleet, int, str]) -> None:
    pytest.importorskip("fastapi")
    fleet, port, _ = front
    fleet.vassal("b", asgi="fast_app:app", pythonpath=APPS)
    fleet.wait_ready("b")
    found = json.loads(fetch(port, "b.localhost", "/items/3?q=x").body)
    assert found == {"item": 3, "q": "x", "ready": True}
    assert fetch(port, "b.localhost", "/off/none").status == 404
    assert fetch(port, "b.localhost", "/stream").body == b"".join(b"line %d\n" % n for n in range(50))
    answer = fetch(
        port, "b.localhost", "/items", "POST", b'{"name": "n"}', {"Content-Type": "application/json"}
    )
    assert json.loads(answer.body) == {"name": "n"}
