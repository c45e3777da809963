"""`balance` and `sticky` with three real uWSGIs as upstreams: who serves whom under load, and what becomes of it when one of
them dies or leaves the file."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from .harness import Caller, Fleet, Holding, Orphans, Served, accepts, at_once, free_port, reaped, wait_for
from .harness.callers import serve_who

SERVERS = ("one", "two", "three")
USERS = [f"user-{number}" for number in range(24)]
BY_USER = {"balance": "hash", "hash-by": "header X-User"}
VASSALS: dict[str, dict[str, object]] = {
    "turns": {"balance": "round-robin"},
    "least": {"balance": "least", "sticky": "server"},
    "drawn": {"sticky": "server"},
    "header": BY_USER,
    "killed": BY_USER,
    "edited": BY_USER,
    "address": {"balance": "hash"},
    "cookie": {"balance": "hash", "hash-by": "cookie user"},
    "stuck": {"sticky": "server"},
    "loaded": {},
}


class Stage:
    """The uWSGIs, and a vassal for each policy that has all three; of `turns` the first has twice the weight of the others."""

    def __init__(self, orphans: Orphans) -> None:
        self.fleet = Fleet(orphans)
        self.marks = self.fleet.root / "marks"
        self.marks.mkdir()
        self.ports = {name: free_port() for name in SERVERS}
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name in SERVERS:
                self.serve(name)
            for name in SERVERS:
                wait_for(lambda name=name: accepts(self.ports[name]), 20)  # type: ignore[misc]
            for name in VASSALS:
                self.write(name)
            self.fleet.start()
            # They are READY at once, and so before the router has told of itself.
            wait_for(lambda: {*VASSALS} <= {*self.fleet.status()["routers"][0].get("apps", ())}, 20)
        except BaseException:
            self.close()
            raise

    def serve(self, name: str) -> None:
        root = self.fleet.root
        self.servers[name] = serve_who(self.fleet.orphans, root, self.ports[name], name, self.marks)

    def kill(self, name: str) -> None:
        """kill -9, of its master and its worker."""
        server = self.servers.pop(name)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
        wait_for(lambda: not accepts(self.ports[name]), 10)

    def serve_again(self, name: str) -> None:
        self.serve(name)
        wait_for(lambda: accepts(self.ports[name]), 20)

    def write(self, name: str, *without: str) -> None:
        addresses = {each: f"uwsgi://127.0.0.1:{self.ports[each]}" for each in SERVERS if each not in without}
        if name == "turns":
            addresses["one"] += " weight=2"
        self.fleet.vassal(name, upstream=list(addresses.values()), **VASSALS[name])

    def caller(self, name: str, user: str = "", **keys: Any) -> Caller:
        if name == "cookie":
            return Caller(self.fleet, name, cookie=f"a=b; user={user}", **keys)
        return Caller(self.fleet, name, {"X-User": user} if user else {}, **keys)

    def homes(self, name: str, users: list[str] = USERS) -> dict[str, str]:
        """Who serves each of these."""
        return {user: self.caller(name, user).ask().who for user in users}

    def app(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.fleet.status()["routers"][0]["apps"][name]
        return found

    def upstream(self, name: str, server: str) -> dict[str, Any]:
        address = f"uwsgi://127.0.0.1:{self.ports[server]}"
        return next(each for each in self.app(name)["upstreams"] if each["address"] == address)

    def holding(self, name: str) -> Holding:
        return Holding(self.marks, lambda: int(self.app(name)["forwarded"]))

    def close(self) -> None:
        self.fleet.close()
        for name in list(self.servers):
            self.kill(name)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with reaped(Stage) as made:
        yield made


def test_round_robin_goes_by_weight_under_concurrent_load(stage: Stage) -> None:
    served = at_once(4, 30, lambda _: stage.caller("turns").ask())
    assert Counter(each.who for each in served) == {"one": 60, "two": 30, "three": 30}


@pytest.mark.parametrize("name", ["least", "drawn"])
def test_who_has_the_most_gets_nothing_while_others_have_less(stage: Stage, name: str) -> None:
    """Six requests are held at one, where a cookie leads them: it is not the least loaded, nor the better of any two that are
    drawn, which is what is done without a word, too."""
    first = stage.caller(name)
    full = first.ask()
    with stage.holding(name) as holding:
        for _ in range(6):
            holding.hold(stage.caller(name, cookie=first.cookie))
        served = at_once(4, 15, lambda _: stage.caller(name).ask())
        held = holding.let_go()
    assert {each.who for each in held} == {full.who}
    # That of 60 none falls to one of two that are drawn alike: once in 10^17.
    assert {each.who for each in served} == {*SERVERS} - {full.who}


def test_least_fills_all_alike(stage: Stage) -> None:
    with stage.holding("least") as holding:
        for _ in range(6):
            holding.hold(stage.caller("least"))
        held = holding.let_go()
    assert Counter(each.who for each in held) == {"one": 2, "two": 2, "three": 2}


@pytest.mark.parametrize("name", ["header", "cookie"])
def test_a_key_has_its_upstream(stage: Stage, name: str) -> None:
    before = stage.homes(name)
    assert set(before.values()) == {*SERVERS}
    assert stage.homes(name) == before
    # It goes by what is said and where it leads, nothing else: another vassal finds the same.
    assert stage.homes("header") == before


def test_an_address_has_its_upstream(stage: Stage) -> None:
    addresses = [f"127.0.0.{number}" for number in range(2, 26)]
    found = [{each: stage.caller("address", source=each).ask().who for each in addresses} for _ in range(2)]
    assert found[0] == found[1]
    assert set(found[0].values()) == {*SERVERS}


def test_a_key_that_asks_for_too_much_is_shared_and_goes_home_afterwards(stage: Stage) -> None:
    """Of five requests of one user an upstream may have three: a third of them and a quarter more, rounded up."""
    home = stage.caller("header", "greedy").ask()
    with stage.holding("header") as holding:
        for _ in range(5):
            holding.hold(stage.caller("header", "greedy"))
        held = Counter(each.who for each in holding.let_go())
    assert held[home.who] == 3 and held.total() == 5
    assert {stage.caller("header", "greedy").ask() for _ in range(5)} == {home}


def test_of_hashed_keys_only_those_of_a_uwsgi_that_died_move_and_come_back(stage: Stage) -> None:
    """Of its keys three are asked for, or it would be left out for a while."""
    before = stage.homes("killed")
    its = [user for user in USERS if before[user] == "two"][:3]
    asked = its + [user for user in USERS if before[user] != "two"]
    stage.kill("two")
    try:
        meanwhile = stage.homes("killed", asked)
    finally:
        stage.serve_again("two")
    assert {user for user in asked if meanwhile[user] != before[user]} == {*its}
    assert {meanwhile[user] for user in its} <= {"one", "three"}
    assert stage.homes("killed") == before


def test_of_hashed_keys_only_those_of_an_upstream_that_leaves_the_file_move(stage: Stage) -> None:
    before = stage.homes("edited")
    stage.write("edited", "three")
    wait_for(lambda: len(stage.app("edited")["upstreams"]) == 2, 20, stage.fleet.summary)
    after = stage.homes("edited")
    assert {user for user in USERS if after[user] != before[user]} == {
        user for user in USERS if before[user] == "three"
    }


def test_a_cookie_leads_to_its_upstream_until_that_has_gone(stage: Stage) -> None:
    """Five clients at once each have theirs. When it is killed, another serves, says so, and is the one from then on, whoever
    comes back."""
    clients = [stage.caller("stuck") for _ in range(5)]
    homes = [client.ask().who for client in clients]
    served = at_once(5, 10, lambda number: clients[number].ask())
    assert [each.who for each in served] == [home for home in homes for _ in range(10)]
    assert {each.cookies for each in served} == {()}
    client, gone = clients[0], homes[0]
    stage.kill(gone)
    try:
        other = client.ask()
    finally:
        stage.serve_again(gone)
    assert other.who != gone and len(other.cookies) == 1
    wait_for(lambda: stage.upstream("stuck", gone)["failures_in_a_row"] == 0, 20)
    assert {client.ask() for _ in range(5)} == {Served(other.who, other.worker, other.pid)}


def test_no_get_fails_when_a_uwsgi_is_killed_under_load(stage: Stage) -> None:
    """What it had, another one gets once; what it cannot be given, another one gets as well."""
    done = threading.Event()
    begun = threading.Semaphore(0)
    served: list[Served] = []

    def ask() -> None:
        while not done.is_set():
            served.append(stage.caller("loaded").ask())
            begun.release()

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(20):
            assert begun.acquire(timeout=20)
        stage.kill("one")
        before = len(served)
        wait_for(lambda: len(served) >= before + 60, 40)
    finally:
        done.set()
        for asker in askers:
            asker.join(40)
        stage.serve_again("one")
    assert stage.upstream("loaded", "one")["failures"] > 0
    assert {each.who for each in served[-20:]} == {"two", "three"}
    wrong = {status: count for status, count in stage.app("loaded")["errors"].items() if count}
    assert wrong == {}
