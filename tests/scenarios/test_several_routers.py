"""Two routers take the clients of one emperor (`routers = 2`), as equals: over deaths, an upgrade and a reload."""

import contextlib
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from emperor.protocol import subscription
from emperor.protocol.subscription import Subscription

from .harness import Fleet, Flood, Orphans, Target, free_port, wait_for
from .harness.http import Connection

UPGRADE_S = 60.0
SERVER = free_port()
ARGUMENTS = ("--routers", "2", "--subscription-server", f"127.0.0.1:{SERVER}")
QUESTION = b"GET /?n=kept HTTP/1.1\r\nHost: blog.localhost\r\n\r\n"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """`blog` has two workers, `threads` one with two threads; all tests share it, so each leaves two routers that run."""
    reaper = Orphans()
    reaper.start()
    fleet = Fleet(reaper)
    fleet.nonce_vassal("blog", processes=2)
    fleet.nonce_vassal("threads", threads=2)
    fleet.start(*ARGUMENTS)
    wait_for_two(fleet)
    yield fleet
    fleet.close()
    reaper.close()


def routers(fleet: Fleet) -> list[dict[str, Any]]:
    return list(fleet.status()["routers"])


def serving(fleet: Fleet) -> list[dict[str, Any]]:
    return [each for each in routers(fleet) if each["serves"]]


def wait_for_two(fleet: Fleet, deadline_s: float = 30.0) -> None:
    """Until there are two, which both let clients in."""

    def there() -> bool:
        status = fleet.status_or_none()
        return status is not None and [each["state"] for each in status["routers"]] == ["running"] * 2

    wait_for(there, deadline_s, lambda: f"{fleet.status_or_none()}\n{fleet.log()[-4000:]}")


def flood(fleet: Fleet) -> Flood:
    targets = [
        Target(name, query, closes=closes)
        for name in ("blog", "threads")
        for closes in (True, False)
        for query in ("", "", "&sleep=20")
    ]
    return Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers", 150).start()


def ask(connection: Connection) -> bool:
    """A request on a connection that is kept; False: it has been closed."""
    try:
        connection.send(QUESTION)
        return connection.sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def accepted(fleet: Fleet) -> dict[int, int]:
    """How many clients each has let in, by its pid; one that did not answer in time is asked again."""
    found: list[dict[str, Any]] = []

    def said() -> bool:
        found[:] = serving(fleet)
        return not any(each["silent"] for each in found)

    wait_for(said, 20, lambda: found)
    return {each["pid"]: each["accepted"] for each in found}


def one_at_each(fleet: Fleet, stack: contextlib.ExitStack) -> dict[int, Connection]:
    """A kept connection to each router, by its pid."""
    found: dict[int, Connection] = {}

    def another() -> bool:
        before = accepted(fleet)
        connection = stack.enter_context(Connection(fleet.http_port, 20))
        assert ask(connection)
        after = accepted(fleet)
        (pid,) = [pid for pid, count in after.items() if count > before[pid]]
        found[pid] = connection
        return len(found) == 2

    wait_for(another, 20, lambda: fleet.status()["routers"])
    return found


def test_both_serve_and_what_they_count_is_summed(fleet: Fleet) -> None:
    with contextlib.ExitStack() as stack:
        for connection in one_at_each(fleet, stack).values():
            for _ in range(5):
                assert ask(connection)
        status = fleet.status()
    counted = [each["apps"]["blog"]["requests"] for each in status["routers"]]
    blog = next(each for each in status["vassals"] if each["name"] == "blog")
    assert min(counted) >= 5 and blog["traffic"]["requests"] == sum(counted)
    assert blog["traffic"]["responses"] == {"2xx": sum(counted)}
    assert [(each["serves"], each["state"]) for each in status["routers"]] == [(1, "running")] * 2
    assert {each["apps"]["blog"]["queue_limit"] for each in status["routers"]} == {512}, "each has its part"
    shown = fleet.cli("status", "--run-dir", fleet.run_dir).stdout
    lines = [line for line in shown.splitlines() if line.startswith("router ")]
    assert len(lines) == 2 and all(f"http 127.0.0.1:{fleet.http_port}" in line for line in lines), shown


@pytest.mark.parametrize("which", [1, 0], ids=["the second", "the first"])
def test_one_that_is_killed_is_replaced_while_the_other_goes_on(fleet: Fleet, which: int) -> None:
    with contextlib.ExitStack() as stack:
        found = one_at_each(fleet, stack)
        load = flood(fleet)
        before = serving(fleet)
        victim, other = before[which]["pid"], before[1 - which]["pid"]
        os.kill(victim, signal.SIGKILL)
        assert ask(found[other])
        wait_for(
            lambda: (
                serving(fleet)[which]["pid"] not in (0, victim)
                and [each["state"] for each in serving(fleet)] == ["running"] * 2
            ),
            20,
            lambda: f"{serving(fleet)}\n{fleet.log()[-4000:]}",
        )
        after = serving(fleet)
        assert after[1 - which]["pid"] == other and after[which]["seat"] == before[which]["seat"]
        assert "signal 9" in after[which]["last_exit"]
        assert ask(found[other]) and not ask(found[victim])
        answers = load.stop()
    outcomes = Counter("ok" if each.ok else each.outcome for each in answers)
    # What the dead one had in hand is lost, as with one router. Nobody else notices.
    assert outcomes.keys() <= {"ok", "lost"} and outcomes["ok"] > outcomes["lost"], outcomes


def test_one_that_is_stopped_is_replaced(fleet: Fleet) -> None:
    wait_for_two(fleet)
    victim = serving(fleet)[1]["pid"]
    os.kill(victim, signal.SIGSTOP)
    wait_for(lambda: serving(fleet)[1]["pid"] not in (0, victim), 30, fleet.log)
    wait_for_two(fleet)
    fleet.wait_log(f"(pid {victim}) has not answered for")


def test_an_emperor_that_comes_back_takes_over_both(fleet: Fleet) -> None:
    before = {each["seat"]: each["pid"] for each in serving(fleet)}
    load = flood(fleet)
    fleet.kill_emperor()
    fleet.start(*ARGUMENTS)
    wait_for_two(fleet)
    assert {each["seat"]: each["pid"] for each in serving(fleet)} == before
    # It governs them: what is new is known to both, and one that dies is replaced.
    fleet.nonce_vassal("fresh")
    fleet.wait_ready("fresh")
    assert [each for each in load.stop() if not each.ok] == [], fleet.log()[-3000:]
    with contextlib.ExitStack() as stack:
        assert one_at_each(fleet, stack).keys() == set(before.values())
    assert {each["apps"].keys() >= {"blog", "fresh"} for each in serving(fleet)} == {True}
    os.kill(serving(fleet)[1]["pid"], signal.SIGKILL)
    wait_for(lambda: serving(fleet)[1]["pid"] not in (0, *before.values()), 20)
    wait_for_two(fleet)


def test_an_upgrade_and_a_reload_drop_nothing(fleet: Fleet) -> None:
    wait_for_two(fleet)
    before = {each["pid"] for each in serving(fleet)}
    load = flood(fleet)
    done = fleet.cli("upgrade", "--run-dir", fleet.run_dir, deadline_s=UPGRADE_S)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + fleet.log()[-3000:]
    assert done.stdout.count(" lets clients in; router ") == 2
    assert not before & {each["pid"] for each in serving(fleet)}
    # While the old ones still leave, and when there are two again.
    for name in ("blog", "threads"):
        done = fleet.cli("reload", "--run-dir", fleet.run_dir, name, deadline_s=UPGRADE_S)
        assert done.returncode == 0, done.stderr
    wait_for_two(fleet)
    done = fleet.cli("reload", "--run-dir", fleet.run_dir, "blog", deadline_s=UPGRADE_S)
    assert done.returncode == 0, done.stderr
    assert [each for each in load.stop() if not each.ok] == [], fleet.log()[-3000:]
    assert {vassal["generation"] for vassal in fleet.status()["vassals"] if vassal["name"] == "blog"} == {3}


def test_who_subscribes_at_the_first_is_served_by_both(fleet: Fleet) -> None:
    node = f"127.0.0.1:{free_port()}"
    said = Subscription(key="node.test", address=node)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(subscription.build(said), ("127.0.0.1", SERVER))

    def known() -> list[list[str]]:
        found = [each["subscriptions"]["nodes"] for each in serving(fleet)]
        return [[each["address"] for each in nodes] for nodes in found]

    wait_for(lambda: known() == [[node]] * 2, 20, known)
    assert [
        [each["kind"] for each in router["listeners"]].count("subscription") for router in serving(fleet)
    ] == [1, 0]


def test_what_one_process_alone_can_have_is_refused(fleet: Fleet) -> None:
    done = fleet.cli("start", fleet.root, "--routers", "2", "--backplane", "tcp://127.0.0.1:7000")
    assert done.returncode == 1 and "set routers to 1, or remove backplane" in done.stderr
    done = fleet.cli("start", fleet.root / "apps", "--routers", "4")
    assert done.returncode != 0 and "3" in done.stderr


def test_a_stop_ends_both(fleet: Fleet) -> None:
    pids = [each["pid"] for each in serving(fleet)]
    assert fleet.stop() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
