"""What an app has asked for, by either of two routers (`routers = 2`): sockets of its own and TLS, WebSockets, copies, slots
for a path, limits, workers that are recycled, and what an operator asks for meanwhile."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from .harness import Connection, Fleet, Flood, Orphans, Response, Target, begun_requests, free_port, wait_for
from .harness.fleet import APPS
from .harness.records import begun_twice
from .test_own_listeners import exchanged, secured
from .test_several_routers import accepted, serving, wait_for_two
from .test_websocket import opened

MOST = 16
"""`max-connections`, of both together."""

NAPS = """
    import time

    def application(environ, start_response):
        time.sleep(float(environ["QUERY_STRING"] or 0))
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
"""
HTTPS = free_port()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """All tests share it, so each leaves two routers that run."""
    reaper = Orphans()
    reaper.start()
    fleet = Fleet(reaper)
    certify(fleet, "one.test")
    fleet.nonce_vassal(
        "blog",
        processes=2,
        mirror="next",
        master_fifo=fleet.root / "fifo",
        http_socket=fleet.root / "own.sock",
        https_socket=f"127.0.0.1:{HTTPS},{fleet.root}/app.crt,{fleet.root}/app.key",
    )
    fleet.nonce_vassal("next")
    fleet.nonce_vassal("worn", processes=2, max_requests=20, min_worker_lifetime=0)
    fleet.app("part", NAPS, processes=4, bulkhead="/slow 2")
    fleet.app("few", NAPS, threads=4, limit_concurrency=3)
    fleet.app("meter", NAPS, limit_requests="1/m 4")
    fleet.vassal("ws", asgi="ws_apps:app", pythonpath=APPS)
    fleet.start("--routers", "2", "--max-connections", str(MOST), "--max-connections-per-address", str(MOST))
    wait_for_two(fleet)
    yield fleet
    fleet.close()
    reaper.close()


def certify(fleet: Fleet, name: str) -> None:
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} "
        f"-addext subjectAltName=DNS:{name} -keyout {fleet.root}/app.key -out {fleet.root}/app.crt".split(),
        check=True,
        capture_output=True,
    )


def ask(connection: Connection, name: str, path: str = "/", query: str = "") -> Response:
    return connection.request(f"{name}.localhost", f"{path}?{query}")


def send(connection: Connection, name: str, path: str, query: str) -> None:
    connection.send(f"GET {path}?{query} HTTP/1.1\r\nHost: {name}.localhost\r\n\r\n".encode())


def connections(fleet: Fleet, stack: contextlib.ExitStack, count: int) -> list[list[Connection]]:
    """So many at each router, in the order of `serving`, and perhaps more at one of them, which are closed."""
    before = accepted(fleet)
    found: dict[int, list[Connection]] = {each["pid"]: [] for each in serving(fleet)}

    def another() -> bool:
        connection = stack.enter_context(Connection(fleet.http_port, 20))
        status = ask(connection, "next", query="n=found").status
        after = accepted(fleet)
        if status != 200:
            before.update(after)
            return False
        (pid,) = [pid for pid, was in after.items() if was > before[pid]]
        before.update(after)
        if len(found[pid]) < count:
            found[pid].append(connection)
        else:
            connection.close()
        return all(len(each) == count for each in found.values())

    wait_for(another, 30, lambda: fleet.status()["routers"])
    return list(found.values())


def until_both(fleet: Fleet, act: Callable[[], bool]) -> None:
    """Until it has been so at both routers, and not otherwise in between."""
    before = accepted(fleet)

    def both() -> bool:
        nonlocal before
        if not act():
            before = accepted(fleet)
        return all(count > before[pid] for pid, count in accepted(fleet).items())

    wait_for(both, 20, lambda: f"{before} {accepted(fleet)} {fleet.log()[-3000:]}")


def app_of(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    """What each router says of it."""
    return [each["apps"][name] for each in serving(fleet)]


def test_a_renewed_certificate_is_that_of_both(fleet: Fleet) -> None:
    question = b"GET /?n=tls HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n"

    def served(name: str) -> bool:
        try:
            return b"200 OK" in secured(fleet.root, HTTPS, name, question)
        except ssl.SSLError:
            return False

    until_both(fleet, lambda: served("one.test"))
    certify(fleet, "two.test")
    done = fleet.cli("reload", "--run-dir", fleet.run_dir, "blog")
    assert done.returncode == 0, done.stderr
    until_both(fleet, lambda: served("two.test"))
    until_both(fleet, lambda: b"200 OK" in exchanged(str(fleet.root / "own.sock"), question))


def test_a_master_fifo_pauses_both(fleet: Fleet) -> None:
    fifo = fleet.root / "fifo"
    with contextlib.ExitStack() as stack:
        pair = [each for (each,) in connections(fleet, stack, 1)]
        fifo.write_text("p")
        wait_for(lambda: fleet.vassal_status("blog")["paused"] == "hold", 20, fleet.summary)
        for connection in pair:
            send(connection, "blog", "/", "n=held")
        wait_for(lambda: [each["queued"] for each in app_of(fleet, "blog")] == [1, 1], 20)
        fifo.write_text("p")
        assert [connection.read_response().status for connection in pair] == [200, 200]


def test_each_makes_copies_for_a_mirror(fleet: Fleet) -> None:
    """Also the one that has no slot of it yet."""
    with contextlib.ExitStack() as stack:
        for number, (connection,) in enumerate(connections(fleet, stack, 1)):
            before = app_of(fleet, "blog")[number]["mirrors"][0]["answered"]

            def copied(
                number: int = number, connection: Connection = connection, before: int = before
            ) -> bool:
                assert ask(connection, "blog", query="n=copied").status == 200
                return bool(app_of(fleet, "blog")[number]["mirrors"][0]["answered"] > before)

            wait_for(copied, 10, lambda: app_of(fleet, "blog"))


def test_a_bulkhead_holds_and_a_trace_shows_what_both_run(fleet: Fleet) -> None:
    with contextlib.ExitStack() as stack:
        found = connections(fleet, stack, 3)
        slow = [connection for each in found for connection in each[:2]]
        for connection in slow:
            send(connection, "part", "/slow", "4")

        def one_each() -> bool:
            parts = [each["balancing"]["parts"][0] for each in app_of(fleet, "part")]
            return [(each["now"], each["queued"]) for each in parts] == [(1, 1)] * 2

        wait_for(one_each, 20, lambda: app_of(fleet, "part"))
        done = fleet.cli("trace", "part", "--run-dir", fleet.run_dir, "--json")
        shown = json.loads(done.stdout)
        running = [one["request"] for each in shown["workers"] for one in each["requests"]]
        assert running == ["GET part.localhost/slow?4"] * 2 and shown["missing"] == []
        assert [ask(each[2], "part").status for each in found] == [200, 200]
        assert [connection.read_response().status for connection in slow] == [200] * 4


def test_a_limit_of_requests_at_once_is_that_of_both_together(fleet: Fleet) -> None:
    """However uneven they are: none is refused while there are fewer."""
    with contextlib.ExitStack() as stack:
        first, second = connections(fleet, stack, 3)
        for connection in first:
            send(connection, "few", "/", "1")
        wait_for(lambda: app_of(fleet, "few")[0]["limits"]["limit-concurrency"]["now"] == 3, 20)
        refused = ask(second[0], "few")
        assert (refused.status, refused.fields["unavailable-reason"]) == (429, "concurrency")
        assert [connection.read_response().status for connection in first] == [200] * 3
        assert ask(second[0], "few").status == 200


def test_a_limit_of_requests_a_second_as_well(fleet: Fleet) -> None:
    with contextlib.ExitStack() as stack:
        (first,), (second,) = connections(fleet, stack, 1)
        said = [ask(each, "meter").status for each in (first, first, first, second, second, first)]
    assert said == [200, 200, 200, 200, 429, 429]


def test_nobody_is_turned_away_while_one_of_them_has_room(fleet: Fleet) -> None:
    """Or hardly anybody, where that one does not come to run for a fifth of a second."""
    half = MOST // 2

    def wait_open(*counts: int) -> None:
        def there() -> list[int]:
            return [each["connections"] for each in serving(fleet)]

        wait_for(lambda: there() == [*counts], 20, there)

    wait_open(0, 0)
    said = []
    with contextlib.ExitStack() as stack:
        first, _ = connections(fleet, stack, half)
        for _ in range(3):
            wait_open(half, half)
            for connection in first[:4]:
                connection.close()
            wait_open(half - 4, half)
            count = 0
            while count < 4:
                connection = stack.enter_context(Connection(fleet.http_port, 20))
                said.append(ask(connection, "next", query="n=in").status)
                if said[-1] == 200:
                    first[count] = connection
                    count += 1
        assert said.count(503) <= 2, said
        assert fleet.get("next", "/?n=out").status == 503
    wait_open(0, 0)


def test_workers_are_recycled_and_no_request_of_either_is_lost(fleet: Fleet) -> None:
    targets = [Target("worn", closes=closes) for closes in (True, False)]
    load = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers", 150).start()
    wait_for(
        lambda: sum(each["recycled"] for each in fleet.vassal_status("worn").get("workers", [])) >= 3,
        40,
        lambda: f"{fleet.vassal_status('worn')}\n{fleet.log()[-3000:]}",
    )
    assert [each for each in load.stop() if not each.ok] == []
    assert begun_twice(begun_requests(fleet.nonce_log("worn"))) == {}
    assert min(each["requests"] for each in app_of(fleet, "worn")) > 0


def test_a_router_that_is_killed_takes_nothing_of_the_others_with_it(fleet: Fleet) -> None:
    """WebSockets and requests that run: its own are lost, and those at the other go on in the same workers."""
    workers = [each["pid"] for each in fleet.vassal_status("part")["workers"]]
    with contextlib.ExitStack() as stack:
        (lost,), (kept,) = connections(fleet, stack, 1)
        victim, other = (each["pid"] for each in serving(fleet))
        sockets: dict[int, Any] = {}

        def another() -> bool:
            before = accepted(fleet)
            client = stack.enter_context(opened(fleet, "/echo", name="ws"))
            (pid,) = [pid for pid, was in accepted(fleet).items() if was > before[pid]]
            if sockets.setdefault(pid, client) is not client:
                client.close()  # it has a slot, of which there are few
            return len(sockets) == 2

        wait_for(another, 20)
        for connection in (lost, kept):
            send(connection, "part", "/", "1")
        wait_for(lambda: [each["running"] for each in app_of(fleet, "part")] == [1, 1], 20)
        os.kill(victim, signal.SIGKILL)
        assert kept.read_response().status == 200
        sockets[other].send("still here")
        assert sockets[other].recv(20) == "still here"
        with pytest.raises(ConnectionClosed):
            sockets[victim].recv(20)
        with pytest.raises(ConnectionError):
            lost.read_response()
    wait_for_two(fleet)
    assert [each["pid"] for each in fleet.vassal_status("part")["workers"]] == workers
    # The slot in which the lost one ran is whoever's asks.
    with contextlib.ExitStack() as stack:
        pair = [each for (each,) in connections(fleet, stack, 1)]
        for connection in pair:
            send(connection, "part", "/", "0.1")
        assert [connection.read_response().status for connection in pair] == [200, 200]
