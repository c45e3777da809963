"""Two hosts, each with an emperor of its own: the workers of `app1` serve the router of `front` too, over tcp with CURVE."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .harness import Fleet, Orphans, wait_for
from .harness.http import Response
from .harness.machine import allowed, now
from .harness.ports import free_port
from .harness.relay import Relay

UP_S = 40.0
"""A safety net, and no promise."""

WAY_S = 0.001
"""From one host to the other."""

BACK_S = 5.0
"""The promise: so soon after a partition has healed all is as it was."""

WSGI = """
    import os, time
    WHERE = os.environ["WHERE"].encode()
    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/hold"):
            while not os.path.exists(os.environ["UNTIL"] + path.replace("/", "-")):
                time.sleep(0.01)
        if path == "/body":
            size = len(environ["wsgi.input"].read())
            start_response("200 OK", [])
            return [b"%d " % size, WHERE, b"x" * 300000]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [WHERE]
    """

ASGI = """
    import asyncio, os
    WHERE = os.environ["WHERE"].encode()
    async def application(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"].startswith("/hold"):
            while not os.path.exists(os.environ["UNTIL"] + scope["path"].replace("/", "-")):
                await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": WHERE})
    """

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "shop": (WSGI, {"processes": 1}),
    "pool": (WSGI, {"processes": 1, "threads": 2}),
    "live": (ASGI, {"processes": 1, "concurrency": "1/1"}),
}


LONE = ("crew", "loop")
"""Only `app1` has a worker of these: one, of several slots."""


class Hosts:
    """Both of them. `front` has a router that others' workers may serve; those of `app1` do."""

    def __init__(self, make: Callable[[], Fleet]) -> None:
        self.front, self.app1 = make(), make()
        self.port = free_port()
        self.wire = Relay(self.port, WAY_S)
        self.marks = self.front.root / "until"
        self.keys = {each: each.root / "keys" for each in (self.front, self.app1)}
        self.front_key, self.app1_key = (
            each.cli("keys", "new", "--keys-dir", keys).stdout.strip() for each, keys in self.keys.items()
        )
        self.allow()
        self.said(self.app1, "allow", self.front_key, f"tcp://127.0.0.1:{self.wire.port}")
        for fleet, name in ((self.front, "front"), (self.app1, "app1")):
            for kind, (source, keys) in KINDS.items():
                env = [f"WHERE={name}", f"UNTIL={self.marks}"]
                fleet.app(kind, source, env=env, retries="false", **keys)
                if source is ASGI:
                    fleet.vassal(
                        kind,
                        asgi=f"{kind}:application",
                        pythonpath=fleet.root / "apps",
                        env=env,
                        retries="false",
                        **keys,
                    )

    def said(self, fleet: Fleet, *arguments: object) -> str:
        done = fleet.cli("keys", *arguments, "--keys-dir", self.keys[fleet])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def allow(self) -> None:
        self.said(self.front, "allow", self.app1_key, *KINDS, "away", "ahead", *LONE)

    def start(self) -> None:
        here, there = (f"tcp://127.0.0.1:{port}" for port in (self.port, self.wire.port))
        self.front.vassal("away", remote="true", retries="false")
        env = ["WHERE=app1", f"UNTIL={self.marks}"]
        self.app1.app("away", WSGI, env=env, processes=2)
        self.front.vassal("ahead", remote="true")
        self.app1.app("ahead", WSGI, env=env, processes=2)
        for name in LONE:
            self.front.vassal(name, remote="true", retries="false")
        self.app1.app("crew", WSGI, env=env, processes=1, threads=3)
        self.app1.vassal(
            "loop", asgi="live:application", pythonpath=self.app1.root / "apps", env=env, processes=1
        )
        self.front.start("--backplane", here, "--keys-dir", str(self.keys[self.front]))
        self.app1.start("--router", f"{there} weight=3", "--keys-dir", str(self.keys[self.app1]))
        for name in KINDS:
            self.wait_far(name)

    def far(self, name: str) -> list[dict[str, Any]]:
        """The links of the router in front to workers of the other host."""
        status = self.front.status_or_none()
        apps = {} if status is None else status["routers"][0].get("apps", {})
        return [each for each in apps.get(name, {}).get("links", ()) if each["host"] and each["ready"]]

    def wait_far(self, name: str, count: int = 1) -> float:
        """How long it took until there are so many."""
        began = time.monotonic()
        wait_for(lambda: len(self.far(name)) == count, UP_S, lambda: f"{self.front.log()}\n{self.app1.log()}")
        return time.monotonic() - began


_once = itertools.count()


class Held:
    """A request that lasts until it is released."""

    def __init__(self, hosts: Hosts, fleet: Fleet, name: str, number: int = 0) -> None:
        number += 1000 * next(_once)
        self.mark = Path(f"{hosts.marks}-hold-{name}-{number}")
        self.answer: Response | None = None
        self._thread = threading.Thread(target=self._ask, args=(fleet, name, f"/hold/{name}/{number}"))
        self._thread.start()

    def _ask(self, fleet: Fleet, name: str, path: str) -> None:
        self.answer = fleet.get(name, path, timeout_s=UP_S)

    def release(self) -> Response:
        self.mark.touch()
        self._thread.join(UP_S)
        assert self.answer is not None
        return self.answer


def runs(fleet: Fleet, name: str) -> int:
    return sum(each["apps"][name]["running"] for each in fleet.status()["routers"] if "apps" in each)


def wait_runs(fleet: Fleet, name: str, count: int = 1) -> None:
    wait_for(lambda: runs(fleet, name) == count, UP_S, fleet.summary)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    orphans = Orphans()
    orphans.start()
    made: list[Fleet] = []

    def make() -> Fleet:
        made.append(Fleet(orphans))
        return made[-1]

    hosts = Hosts(make)
    try:
        hosts.start()
        yield hosts
    finally:
        for fleet in made:
            fleet.close()
        hosts.wire.close()
        orphans.close()


@pytest.mark.parametrize("name", list(KINDS))
def test_the_other_host_helps_when_this_one_is_busy(hosts: Hosts, name: str) -> None:
    assert hosts.front.get(name).body == b"front"
    slots = 2 if name == "pool" else 1
    held = [Held(hosts, hosts.front, name, number) for number in range(slots)]
    wait_runs(hosts.front, name, slots)
    assert [hosts.front.get(name).body for _ in range(5)] == [b"app1"] * 5
    # Its own clients have the same worker, whichever router holds its slot.
    assert hosts.app1.get(name).body == b"app1"
    assert hosts.front.get(name).body == b"app1"
    assert {each.release().body for each in held} == {b"front"}
    assert hosts.front.get(name).body == b"front"


def test_an_app_that_has_no_workers_here(hosts: Hosts) -> None:
    hosts.wait_far("away", 2)
    assert {each["weight"] for each in hosts.far("away")} == {3}
    assert (
        "away: workers on 127.0.0.1 have weight 3"
        in hosts.front.cli("status", "--run-dir", hosts.front.run_dir).stdout
    )
    held = Held(hosts, hosts.front, "away")
    wait_runs(hosts.front, "away")
    assert hosts.front.get("away").body == b"app1"
    assert held.release().body == b"app1"
    assert hosts.front.vassal_status("away")["processes"] == 0


def test_quick_requests_that_were_sent_ahead_do_not_wait_for_a_long_one(hosts: Hosts) -> None:
    """Its worker gives them back while it runs, and the other one has them."""
    hosts.wait_far("ahead", 2)
    held = Held(hosts, hosts.front, "ahead")
    wait_runs(hosts.front, "ahead")

    def returned() -> int:
        apps = hosts.front.status()["routers"][0]["apps"]
        return int(apps["ahead"]["balancing"]["retries"]["returned"])

    with ThreadPoolExecutor(16) as clients:

        def crowd() -> bool:
            answers = list(clients.map(lambda _: hosts.front.get("ahead", timeout_s=UP_S).body, range(16)))
            assert answers == [b"app1"] * 16
            return returned() > 0

        wait_for(crowd, UP_S, hosts.front.summary)
    assert held.release().body == b"app1"


def test_large_bodies_go_both_ways(hosts: Hosts) -> None:
    held = Held(hosts, hosts.front, "shop")
    wait_runs(hosts.front, "shop")
    answer = hosts.front.get("shop", "/body", method="POST", body=b"b" * 500_000)
    assert answer.body == b"500000 app1" + b"x" * 300_000
    held.release()


def test_a_key_that_is_revoked_is_cut_off_and_comes_back(hosts: Hosts) -> None:
    hosts.said(hosts.front, "revoke", hosts.app1_key)
    for name in KINDS:
        hosts.wait_far(name, 0)
    assert hosts.app1.get("shop").body == b"app1"
    hosts.allow()
    for name in KINDS:
        hosts.wait_far(name)


def test_a_worker_that_is_killed_costs_what_it_had(hosts: Hosts) -> None:
    near = Held(hosts, hosts.front, "shop")
    wait_runs(hosts.front, "shop")
    far = Held(hosts, hosts.front, "shop", 1)
    wait_runs(hosts.front, "shop", 2)
    os.kill(hosts.app1.pid("worker", "shop"), signal.SIGKILL)
    assert far.release().status == 502
    wait_for(lambda: hosts.far("shop"), UP_S, hosts.app1.log)
    assert hosts.front.get("shop").body == b"app1"
    assert near.release().body == b"front"


def test_a_router_that_is_killed_is_met_again(hosts: Hosts) -> None:
    before = hosts.front.pid("router")
    os.kill(before, signal.SIGKILL)
    wait_for(
        lambda: (hosts.front.status_or_none() or {}).get("routers", [{}])[0].get("pid", 0) not in (0, before),
        UP_S,
    )
    for name in KINDS:
        hosts.wait_far(name)
    held = Held(hosts, hosts.front, "shop")
    wait_runs(hosts.front, "shop")
    assert hosts.front.get("shop").body == b"app1"
    held.release()


def test_another_router_takes_the_place_of_the_one_in_front(hosts: Hosts) -> None:
    done = hosts.front.cli("upgrade", "--run-dir", hosts.front.run_dir, "--router-only", deadline_s=60)
    assert done.returncode == 0, done.stderr
    for name in KINDS:
        hosts.wait_far(name)


def test_it_is_met_though_the_one_before_needs_its_workers_still(hosts: Hosts) -> None:
    """A worker whose requests for a router that leaves last for long serves the next one meanwhile, and the one after that."""
    held: list[Held] = []
    for turn in range(2):
        for name in LONE:
            hosts.wait_far(name)
            held.append(Held(hosts, hosts.front, name))
            wait_runs(hosts.front, name, turn + 1)
        done = hosts.front.cli("upgrade", "--run-dir", hosts.front.run_dir, "--router-only", deadline_s=60)
        assert done.returncode == 0, done.stderr
        for name in LONE:
            hosts.wait_far(name)
            assert hosts.front.get(name, timeout_s=UP_S).body == b"app1"
    assert [(each.release().status, each.release().body) for each in held] == [(200, b"app1")] * 4
    wait_for(lambda: len(hosts.front.status()["routers"]) == 1, UP_S, hosts.front.log)
    for name in (*LONE, "away"):
        assert hosts.front.get(name, timeout_s=UP_S).body == b"app1"


def test_a_partition_ends_on_both_sides_and_heals(hosts: Hosts) -> None:
    near = Held(hosts, hosts.front, "shop")
    wait_runs(hosts.front, "shop")
    far = Held(hosts, hosts.front, "shop", 1)
    wait_runs(hosts.front, "shop", 2)
    hosts.wire.cut()
    gone_s = max(hosts.wait_far(name, 0) for name in KINDS)
    # What it had is lost, and nothing else: the own worker answers, and that host serves its own clients.
    assert hosts.app1.get("live").body == b"app1"
    assert hosts.front.get("live").body == b"front"
    assert far.release().status == 502
    assert near.release().body == b"front"
    assert hosts.app1.get("shop").body == b"app1"
    healed = now()
    hosts.wire.heal()
    for name in KINDS:
        hosts.wait_far(name)
    back_s = time.monotonic() - healed.at_s
    print(f"a cut was found out after {gone_s:.1f} s, workers were back {back_s:.1f} s after it had healed")
    assert back_s < allowed(BACK_S, healed)
    held = Held(hosts, hosts.front, "shop")
    wait_runs(hosts.front, "shop")
    assert hosts.front.get("shop").body == b"app1"
    held.release()
