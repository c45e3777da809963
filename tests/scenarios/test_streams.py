"""Server-sent events and long polls, many of them and for long, in one worker of an ASGI app."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .harness import Connection, Fleet, wait_for
from .test_asgi import asgi, request, seen
from .test_harakiri import counts
from .test_large_bodies import Growth

MANY = 800


@contextmanager
def clients(fleet: Fleet, count: int, path: str) -> Iterator[list[Connection]]:
    """So many that have asked for it."""
    found: list[Connection] = []
    try:
        for _ in range(count):
            found.append(Connection(fleet.http_port, 40))
            found[-1].send(request(path))
        yield found
    finally:
        for client in found:
            client.close()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_hundreds_of_long_polls_wait_beside_each_other_and_cost_little(fleet: Fleet) -> None:
    asgi(fleet, concurrency="16/1000", harakiri="60s", request_timeout="60s")
    fleet.start()
    with clients(fleet, 10, "/poll") as first:
        wait_for(lambda: counts(fleet)["running"] == len(first), 10)
        assert fleet.get("a", "/publish?warm").body == b"published"
        assert {client.read_response().body for client in first} == {b"warm"}
    worker = fleet.pid("worker", "a")
    open_before = descriptors(worker)
    with Growth([fleet.pid("router"), worker]) as growth, clients(fleet, MANY, "/poll") as polls:
        wait_for(lambda: counts(fleet)["running"] == MANY, 30)
        # Others are served meanwhile, and none of this takes a descriptor in the worker.
        assert {fleet.get("a", "/hello").status for _ in range(50)} == {200}
        assert descriptors(worker) <= open_before + 1
        time.sleep(0.2)
        assert growth.most / MANY < 64 * 1024, growth.most
        assert fleet.get("a", "/publish?news").body == b"published"
        assert {client.read_response().body for client in polls} == {b"news"}
    wait_for(lambda: counts(fleet)["running"] == 0, 10)


def test_clients_that_go_are_told_one_by_one_and_the_others_go_on(fleet: Fleet) -> None:
    asgi(fleet, concurrency="16/1000")
    fleet.start()
    with clients(fleet, 200, "/events?0.5") as streams:
        for client in streams:
            assert client.read_head()[0] == 200
        for client in streams[::2]:
            client.close()
        wait_for(lambda: seen(fleet)["disconnects"] == 100, 10)
        wait_for(lambda: counts(fleet)["running"] == 100, 10)
        for client in streams[1::2]:
            received = b""
            while received.count(b"data: ") < 2:
                received += client.read_some()
    wait_for(lambda: seen(fleet)["disconnects"] == 200, 10)


def test_polls_that_are_given_up_leave_nothing(fleet: Fleet) -> None:
    asgi(fleet, concurrency="16/1000")
    fleet.start()
    for round in range(1, 4):
        with clients(fleet, 100, "/poll"):
            wait_for(lambda: counts(fleet)["running"] == 100, 10)
        wait_for(lambda round=round: seen(fleet)["disconnects"] == 100 * round, 10)
    (worker,) = fleet.vassal_status("a")["workers"]
    assert worker["state"] == "ready" and counts(fleet)["running"] == 0
    trace = fleet.cli("trace", "a", "--run-dir", fleet.run_dir).stdout
    assert "Task " not in trace


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_reload_mercy_lets_streams_go_on_and_ends_them(fleet: Fleet, loop: str) -> None:
    """For longer than stop-timeout; then what goes on is cut, and the lifespan has its time."""
    log = fleet.root / "shutdowns"
    path = asgi(fleet, asgi_loop=loop, stop_timeout="1s", reload_mercy="6s", env=f"SHUTDOWN_LOG={log}")
    fleet.start()
    before = fleet.pid("worker", "a")
    with clients(fleet, 20, "/events?0.2") as streams:
        for client in streams:
            assert client.read_head()[0] == 200
        path.write_text(path.read_text() + "need-app = true\n")
        fleet.wait_another(before, "worker", "a")
        began = time.monotonic()
        for client in streams:
            received = b""
            while b"data: 14\n" not in received:
                received += client.read_some()
        # Fifteen events are three seconds, of which some went by before the reload.
        assert fleet.get("a", "/hello").status == 200
        for client in streams:
            with pytest.raises(ConnectionResetError):
                client.read_to_end()
        assert time.monotonic() - began > 1.5
    wait_for(lambda: log.exists() and log.read_text() == "shutdown\n", 10, fleet.log)
    wait_for(lambda: "cancelled, the worker leaves and its time is over" in fleet.log(), 5, fleet.log)


def test_a_stop_does_not_wait_for_the_mercy_of_a_reload(fleet: Fleet) -> None:
    path = asgi(fleet, stop_timeout="1s", reload_mercy="300s")
    fleet.start()
    before = fleet.pid("worker", "a")
    with clients(fleet, 5, "/events?0.2") as streams:
        for client in streams:
            assert client.read_head()[0] == 200
        path.write_text(path.read_text() + "need-app = true\n")
        fleet.wait_another(before, "worker", "a")
        began = time.monotonic()
        assert fleet.stop() == 0
        assert time.monotonic() - began < 60


def test_a_stream_without_events_is_told_that_its_client_has_gone(fleet: Fleet) -> None:
    asgi(fleet)
    fleet.start()
    with clients(fleet, 10, "/events?600") as streams:
        for client in streams:
            assert client.read_head()[0] == 200
            while b"data: 0" not in client.read_some():
                pass
    wait_for(lambda: seen(fleet)["disconnects"] == 10, 20)


def test_streams_at_the_hard_limit_leave_the_rest_waiting_in_the_queue(fleet: Fleet) -> None:
    asgi(fleet, concurrency="4/8", queue_timeout="20s")
    fleet.start()
    with clients(fleet, 8, "/events?0.2") as streams:
        for client in streams:
            assert client.read_head()[0] == 200
        with Connection(fleet.http_port, 40) as waits:
            waits.send(request("/hello"))
            wait_for(lambda: counts(fleet)["queued"] + counts(fleet)["on_deck"] == 1, 10)
            streams[0].close()
            assert waits.read_response().body == b"Hello, ASGI"
