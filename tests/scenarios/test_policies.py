"""`balance` and `sticky` with workers: who serves whom under load, and what becomes of it when one of them dies, is replaced
by a reload, or is one of more."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .harness import Caller, Fleet, Holding, Orphans, Served, at_once, fetch, reaped, wait_for
from .harness.fleet import APPS

WORKERS, THREADS = 3, 8
USERS = [f"user-{number}" for number in range(24)]
VASSALS: dict[str, dict[str, object]] = {
    "turns": {"balance": "round-robin"},
    "least": {"balance": "least", "sticky": "worker"},
    "drawn": {"balance": "p2c", "sticky": "worker"},
    "header": {"balance": "hash", "hash-by": "header X-User"},
    "cookie": {"balance": "hash", "hash-by": "cookie user"},
    "address": {"balance": "hash"},
    "stuck": {"sticky": "worker"},
}


class Stage:
    """A fleet with a vassal for each policy, of `WORKERS` workers with `THREADS` threads each."""

    def __init__(self, orphans: Orphans) -> None:
        self.fleet = Fleet(orphans)
        for name in VASSALS:
            self.marks(name).mkdir()
            self.write(name)
        self.fleet.start()

    def marks(self, name: str) -> Path:
        """Where a vassal's app looks for what it is to do."""
        return self.fleet.root / f"marks-{name}"

    def write(self, name: str, **keys: object) -> None:
        self.fleet.vassal(
            name,
            **{
                "wsgi-file": APPS / "who.py",
                "env": f"MARKS={self.marks(name)}",
                "processes": WORKERS,
                "threads": THREADS,
                "slow-start": 0,
                "retries": "false",
                **VASSALS[name],
                **keys,
            },
        )

    def rewrite(self, name: str, workers: int = WORKERS, **keys: object) -> None:
        """Change its file, and wait until the generation of it serves, with so many workers."""
        before = self.fleet.vassal_status(name)["generation"]
        self.write(name, processes=workers, **keys)
        wait_for(lambda: self.fleet.vassal_status(name)["generation"] > before, 20, self.fleet.log)
        self.wait_links(name, workers)

    def caller(self, name: str, user: str = "", **keys: Any) -> Caller:
        """A client that says who it is in the way that `hash-by` of the vassal looks for."""
        if name == "header":
            return Caller(self.fleet, name, {"X-User": user}, **keys)
        if name == "cookie":
            return Caller(self.fleet, name, cookie=f"a=b; user={user}", **keys)
        return Caller(self.fleet, name, **keys)

    def homes(self, name: str) -> dict[str, Served]:
        """Who serves each user."""
        return {user: self.caller(name, user).ask() for user in USERS}

    def app(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.fleet.status()["routers"][0]["apps"][name]
        return found

    def holding(self, name: str) -> Holding:
        return Holding(self.marks(name), lambda: int(self.app(name)["running"]))

    def reload(self, name: str) -> None:
        done = self.fleet.cli("reload", name, "--wait", "--run-dir", self.fleet.run_dir, deadline_s=60)
        assert done.returncode == 0, done.stderr

    def kill(self, name: str, worker: int) -> None:
        """kill -9 of a worker. Its successor does not begin before `resurrect`."""
        (self.marks(name) / "NOT_YET").touch()
        pid = self.fleet.pid("worker", name, worker - 1)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pid not in [each["pid"] for each in self.app(name)["links"]], 20, self.fleet.log)

    def resurrect(self, name: str) -> None:
        (self.marks(name) / "NOT_YET").unlink()
        self.wait_links(name, WORKERS)

    def wait_links(self, name: str, count: int) -> None:
        """Until this vassal is READY, and so many workers serve and nobody else."""

        def so_many() -> bool:
            links = self.app(name)["links"]
            serving = [each for each in links if each["ready"] and each["accepting"]]
            return len(serving) == len(links) == count

        self.fleet.wait_state(name, "READY")
        wait_for(so_many, 40, lambda: (self.app(name)["links"], self.fleet.log()[-2000:]))

    def close(self) -> None:
        self.fleet.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with reaped(Stage) as made:
        yield made


def only_moved(before: dict[str, Served], after: dict[str, Served]) -> set[str]:
    """Those whose worker is another."""
    return {user for user in USERS if before[user].worker != after[user].worker}


def test_round_robin_gives_each_worker_the_same_number_under_concurrent_load(stage: Stage) -> None:
    """Six clients at once never fill a worker, so each gets every third request, whichever it is."""
    caller = stage.caller("turns")
    assert [caller.ask().worker for _ in range(6)] in [
        [*turn, *turn] for turn in ([1, 2, 3], [2, 3, 1], [3, 1, 2])
    ]
    served = at_once(6, 30, lambda _: caller.ask())
    assert Counter(each.worker for each in served) == {1: 60, 2: 60, 3: 60}
    assert len({each.pid for each in served}) == 3


def test_round_robin_goes_on_with_those_that_are_left_and_with_a_new_generation(stage: Stage) -> None:
    caller = stage.caller("turns")
    stage.kill("turns", 2)
    try:
        served = at_once(4, 10, lambda _: caller.ask())
        assert Counter(each.worker for each in served) == {1: 20, 3: 20}
    finally:
        stage.resurrect("turns")
    before = {caller.ask().pid for _ in range(WORKERS)}
    stage.reload("turns")
    stage.wait_links("turns", WORKERS)
    served = at_once(4, 15, lambda _: caller.ask())
    assert Counter(each.worker for each in served) == {1: 20, 2: 20, 3: 20}
    assert not before & {each.pid for each in served}


@pytest.mark.parametrize("name", ["least", "drawn"])
def test_who_has_the_most_gets_nothing_while_others_have_less(stage: Stage, name: str) -> None:
    """Six requests are held at one worker, where a cookie leads them, which is more than four clients can give another: for
    `least` it is never the one with the fewest, and of two that `p2c` draws never the better one."""
    first = stage.caller(name)
    full = first.ask()
    with stage.holding(name) as holding:
        for _ in range(6):
            holding.hold(stage.caller(name, cookie=first.cookie))
        served = at_once(4, 15, lambda _: stage.caller(name).ask())
        held = holding.let_go()
    assert {each.pid for each in held} == {full.pid}
    # That of 60 none falls to one of two that are drawn alike: once in 10^17.
    assert {each.pid for each in served} == {each["pid"] for each in stage.app(name)["links"]} - {full.pid}


def test_least_fills_all_workers_alike(stage: Stage) -> None:
    with stage.holding("least") as holding:
        for _ in range(2 * WORKERS):
            holding.hold(stage.caller("least"))
        held = holding.let_go()
    assert Counter(each.worker for each in held) == {1: 2, 2: 2, 3: 2}


def test_p2c_draws_and_has_no_order(stage: Stage) -> None:
    """Idle workers are all alike: each is drawn, not one after another (once in 10^28), nor always the same one."""
    found = [stage.caller("drawn").ask().worker for _ in range(60)]
    assert set(found) == {1, 2, 3}
    assert found != [found[:3][number % 3] for number in range(60)]


@pytest.mark.parametrize("name", ["header", "cookie"])
def test_a_key_has_its_worker(stage: Stage, name: str) -> None:
    """Which seat of the app, whatever process sits there: a reload moves nobody, and both ways of saying who one is lead to
    the same one."""
    before = stage.homes(name)
    assert {each.worker for each in before.values()} == {1, 2, 3}
    assert stage.homes(name) == before
    stage.reload(name)
    stage.wait_links(name, WORKERS)
    after = stage.homes(name)
    assert only_moved(before, after) == set()
    assert not {each.pid for each in before.values()} & {each.pid for each in after.values()}
    # A header whose name is written otherwise is the same one.
    if name == "header":
        user = USERS[0]
        assert Caller(stage.fleet, name, {"x-uSER": user}).ask().worker == before[user].worker


def test_an_address_has_its_worker(stage: Stage) -> None:
    addresses = [f"127.0.0.{number}" for number in range(2, 26)]

    def homes() -> dict[str, int]:
        return {each: stage.caller("address", source=each).ask().worker for each in addresses}

    before = homes()
    assert set(before.values()) == {1, 2, 3}
    assert homes() == before


def test_of_hashed_keys_only_those_of_a_worker_that_died_move_and_come_back(stage: Stage) -> None:
    before = stage.homes("header")
    gone = before[USERS[0]].worker
    its = {user for user in USERS if before[user].worker == gone}
    stage.kill("header", gone)
    try:
        meanwhile = stage.homes("header")
    finally:
        stage.resurrect("header")
    assert only_moved(before, meanwhile) == its
    after = stage.homes("header")
    assert only_moved(before, after) == set()
    assert {after[user].pid for user in its}.isdisjoint({before[user].pid for user in its})
    assert {after[user].pid for user in set(USERS) - its} == {before[user].pid for user in set(USERS) - its}


def test_of_hashed_keys_only_those_of_a_worker_that_is_added_move(stage: Stage) -> None:
    before = stage.homes("cookie")
    stage.rewrite("cookie", WORKERS + 1)
    after = stage.homes("cookie")
    moved = only_moved(before, after)
    assert moved and {after[user].worker for user in moved} == {WORKERS + 1}
    stage.rewrite("cookie")
    assert only_moved(before, stage.homes("cookie")) == set()


def test_a_key_that_asks_for_too_much_is_shared_and_goes_home_afterwards(stage: Stage) -> None:
    """Of five requests of one user a worker may have three: a third of them and a quarter more, rounded up."""
    home = stage.caller("header", "greedy").ask()
    with stage.holding("header") as holding:
        for _ in range(5):
            holding.hold(stage.caller("header", "greedy"))
        held = Counter(each.worker for each in holding.let_go())
    assert held[home.worker] == 3 and held.total() == 5
    assert {stage.caller("header", "greedy").ask() for _ in range(5)} == {home}


def test_a_cookie_leads_each_of_many_clients_to_its_worker(stage: Stage) -> None:
    """Each client is told once, and then has the same process as long as that lives, whoever asks beside it."""
    with stage.holding("stuck") as holding:
        clients = [stage.caller("stuck") for _ in range(6)]
        for client in clients:
            holding.hold(client)
        first = [Served(each.who, each.worker, each.pid) for each in holding.let_go()]
    assert {each.worker for each in first} == {1, 2, 3}
    homes = [client.ask().pid for client in clients]
    assert sorted(homes) == sorted(each.pid for each in first)
    served = at_once(6, 15, lambda number: clients[number].ask())
    assert [each.pid for each in served] == [home for home in homes for _ in range(15)]
    assert {each.cookies for each in served} == {()}


def test_a_cookie_outlives_a_reload_but_not_its_worker(stage: Stage) -> None:
    client = stage.caller("stuck")
    home = client.ask()
    stage.reload("stuck")
    stage.wait_links("stuck", WORKERS)
    after = client.ask()
    assert (after.worker, after.cookies) == (home.worker, ()) and after.pid != home.pid
    # It dies: another serves, says so, and is the one from then on.
    stage.kill("stuck", home.worker)
    try:
        other = client.ask()
        assert other.worker != home.worker and len(other.cookies) == 1
    finally:
        stage.resurrect("stuck")
    assert client.ask() == Served(other.who, other.worker, other.pid)
    # It goes for good, with its seat.
    clients = [stage.caller("stuck") for _ in range(WORKERS)]
    with stage.holding("stuck") as holding:
        for each in clients:
            holding.hold(each)
        holding.let_go()
    (last,) = [each for each in clients if each.ask().worker == WORKERS]
    stage.rewrite("stuck", WORKERS - 1)
    found = last.ask()
    assert found.worker < WORKERS and len(found.cookies) == 1
    assert last.ask() == Served(found.who, found.worker, found.pid)
    stage.rewrite("stuck")


@pytest.mark.parametrize("style", ["overlap", "rolling"])
@pytest.mark.parametrize("name", ["stuck", "header"])
def test_clients_keep_their_seats_while_a_reload_replaces_who_sits_there(
    stage: Stage, name: str, style: str
) -> None:
    """One client of each worker, all the time: no request is lost. Where one worker is replaced after the other, none is served
    by another seat; where all are at once, the first of them serves for the moment until the others have come."""
    if style not in (stage.fleet.directory / f"{name}.ini").read_text():
        stage.rewrite(name, **{"reload-style": style})
    of_seats: dict[int, Caller] = {}
    with stage.holding(name) as holding:
        for user in USERS:
            if len(of_seats) < WORKERS:
                caller = stage.caller(name, user)
                if name == "header":
                    of_seats.setdefault(caller.ask().worker, caller)
                else:
                    holding.hold(caller)
                    of_seats[len(of_seats)] = caller
        holding.let_go()
    callers = list(of_seats.values())
    homes = [caller.ask().worker for caller in callers]
    assert sorted(homes) == [1, 2, 3]
    done = threading.Event()

    def ask(number: int) -> list[Served]:
        served = [callers[number].ask()]
        while not done.is_set():
            served.append(callers[number].ask())
        return [*served, callers[number].ask()]

    with ThreadPoolExecutor(WORKERS) as pool:
        turns = [pool.submit(ask, number) for number in range(WORKERS)]
        try:
            stage.reload(name)
            stage.wait_links(name, WORKERS)
        finally:
            done.set()
        for home, turn in zip(homes, turns, strict=True):
            served = turn.result(40)
            if style == "rolling":
                assert {each.worker for each in served} == {home}
                assert {each.cookies for each in served} == {()}
            assert served[0].pid != served[-1].pid
    if name == "header":
        assert [caller.ask().worker for caller in callers] == homes


@pytest.mark.parametrize(
    "said", ["", "no-such-worker", "x" * 4000, '"', "%00", "\xff\xfe", "=;=", "; worker=x"]
)
def test_a_cookie_that_names_nobody_costs_nothing(stage: Stage, said: str) -> None:
    answer = fetch(stage.fleet.http_port, "least.localhost", fields={"Cookie": f"worker={said}"})
    assert answer.status == 200
    (cookie,) = answer.cookies
    assert cookie.startswith("worker=") and cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")


WRONG = {
    "balance = fair": "'fair' is none of slots, least, round-robin, p2c, hash",
    "balance =": "needs a value, one of slots, least, round-robin, p2c, hash",
    "hash-by = path": "address, header NAME or cookie NAME",
    "hash-by = header X User": "address, header NAME or cookie NAME",
    "sticky = a b": "no name of a cookie (letters, digits, - and _ will do)",
    "slow-start = -1s": "not a duration (write 10s, 500ms, 2m, 1h or a number of seconds)",
    "upstream = uwsgi://127.0.0.1:1 weight=0": "out of range: a number from 1 to 1000",
    "upstream = uwsgi://127.0.0.1:1 weight=many": "out of range: a number from 1 to 1000",
    "upstream = uwsgi://127.0.0.1:1 heavy": "says nothing of an upstream (behind the address stand weight=NUMBER",
}


def test_what_is_wrong_is_refused_with_file_line_key_and_what_may_be(stage: Stage, tmp_path: Path) -> None:
    for number, wrong in enumerate(WRONG):
        app = "" if wrong.startswith("upstream") else "module = a\n"
        (tmp_path / f"v{number}.ini").write_text(f"[uwsgi]\n{app}{wrong}\n")
    checked = stage.fleet.cli("check", tmp_path)
    said = checked.stdout + checked.stderr
    assert checked.returncode != 0
    for number, (wrong, allowed) in enumerate(WRONG.items()):
        line = 2 if wrong.startswith("upstream") else 3
        key = wrong.partition(" ")[0]
        start = f"{tmp_path / f'v{number}.ini'}:{line}: {key}: "
        found = [each for each in said.splitlines() if start in each]
        assert len(found) == 1 and allowed in found[0], (wrong, said)


def test_an_edit_that_is_wrong_changes_nothing_and_is_told(stage: Stage) -> None:
    fleet, caller = stage.fleet, stage.caller("turns")
    before = {caller.ask().pid for _ in range(WORKERS)}
    stage.write("turns", balance="fair")
    path = fleet.directory / "turns.ini"
    line = path.read_text().splitlines().index("balance = fair") + 1
    problem = wait_for(lambda: fleet.vassal_status("turns")["problem"], 20)
    assert f"turns.ini:{line}: balance: 'fair' is none of slots, least, round-robin, p2c, hash" in problem
    assert {caller.ask().pid for _ in range(WORKERS)} == before
    assert stage.app("turns")["balancing"]["policy"] == "round-robin"
    stage.write("turns")
    wait_for(lambda: not fleet.vassal_status("turns")["problem"], 20, fleet.summary)
