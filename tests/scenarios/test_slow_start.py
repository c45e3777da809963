"""Who is fresh, or comes back after it has failed, gets little at first: a worker beside others, an upstream, and a host whose
workers serve from afar."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import zmq

from emperor.config.keys import HOST, KeyStore, Pair

from .harness import Caller, Fleet, Holding, accepts, fetch, free_port, wait_for
from .harness.callers import serve_who
from .harness.fleet import APPS
from .harness.relay import Relay

WORKERS, THREADS = 4, 4
WINDOW_S = 6
UP_S = 60.0
"""A safety net, and no promise."""


def app_of(fleet: Fleet, name: str) -> dict[str, Any]:
    found: dict[str, Any] = fleet.status()["routers"][0]["apps"][name]
    return found


def crowd_vassal(fleet: Fleet, **keys: object) -> Path:
    """A vassal `crowd` of several workers with several threads each."""
    marks = fleet.root / "marks"
    marks.mkdir(exist_ok=True)
    return fleet.vassal(
        "crowd",
        **{
            "wsgi-file": APPS / "who.py",
            "env": f"MARKS={marks}",
            "processes": WORKERS,
            "threads": THREADS,
            "slow-start": f"{WINDOW_S}s",
            "retries": "false",
            **keys,
        },
    )


def links(fleet: Fleet) -> list[dict[str, Any]]:
    return [each for each in app_of(fleet, "crowd")["links"] if each["ready"] and each["accepting"]]


def settle(fleet: Fleet) -> None:
    """Until nobody is fresh, nor would be called so."""
    wait_for(lambda: len(links(fleet)) == WORKERS, UP_S, fleet.summary)
    since = time.monotonic()
    wait_for(lambda: time.monotonic() - since > WINDOW_S + 0.5, UP_S)
    assert [each["fresh"] for each in links(fleet)] == [0] * WORKERS


@pytest.mark.slow
def test_a_worker_that_is_started_again_is_chosen_last_and_has_one_slot_more_at_a_time(fleet: Fleet) -> None:
    """More requests than the others have slots: one goes to the fresh one, and only that. Then each of its slots comes once,
    and while it is fresh it has none of those that others can have."""
    crowd_vassal(fleet)
    fleet.start()
    # At the start of the app there is nobody to spare anybody.
    assert [(each["fresh"], each["slots"]) for each in links(fleet)] == [(0, THREADS)] * WORKERS
    settle(fleet)
    killed = fleet.pid("worker", "crowd", 0)
    since = time.monotonic()
    os.kill(killed, signal.SIGKILL)

    def anew() -> dict[str, Any]:
        return next((each for each in links(fleet) if each["seat"] == 0 and each["pid"] != killed), {})

    link = wait_for(anew, UP_S, fleet.log)
    assert (link["fresh"], link["offered"]) == (1, THREADS) and link["slots"] < THREADS
    with Holding(fleet.root / "marks", lambda: int(app_of(fleet, "crowd")["running"])) as holding:
        holding.hold_all([Caller(fleet, "crowd") for _ in range((WORKERS - 1) * THREADS + 1)])
        in_time = anew()["fresh"]
        held = Counter(each.pid for each in holding.let_go())
    assert not in_time or held[link["pid"]] == 1, held
    seen = [link["slots"]]
    while (before := anew())["fresh"]:
        met = {Caller(fleet, "crowd").ask().pid for _ in range(5)}
        after = anew()
        seen.append(after["slots"])
        # It is not older than the death of the one before.
        assert not after["fresh"] or after["slots"] <= ceil(THREADS * (time.monotonic() - since) / WINDOW_S)
        assert not after["fresh"] or before["pid"] not in met
    assert seen == sorted(seen) and seen[-1] == anew()["slots"] == THREADS
    # It is one like any other.
    with Holding(fleet.root / "marks", lambda: int(app_of(fleet, "crowd")["running"])) as holding:
        holding.hold_all([Caller(fleet, "crowd") for _ in range(WORKERS * THREADS)])
        assert Counter(each.pid for each in holding.let_go())[link["pid"]] == THREADS


@pytest.mark.slow
@pytest.mark.parametrize("style", ["overlap", "rolling"])
def test_a_reload_spares_who_is_fresh_only_beside_others(fleet: Fleet, style: str) -> None:
    """Worker by worker, each new one is fresh beside those that are there. All at once, nobody is, or nobody would serve."""
    crowd_vassal(fleet, **{"reload-style": style})
    fleet.start()
    settle(fleet)
    old = {each["pid"] for each in links(fleet)}
    first, second = (each["seat"] for each in links(fleet)[:2])
    gate = fleet.root / "marks" / f"NOT_YET-{second + 1}"
    gate.touch()
    assert fleet.cli("reload", "crowd", "--run-dir", fleet.run_dir).returncode == 0

    def newcomer() -> dict[str, Any]:
        found = app_of(fleet, "crowd")["links"]
        return next(
            (each for each in found if each["generation"] == 2 and each["seat"] == first and each["ready"]),
            {},
        )

    found = wait_for(newcomer, UP_S, fleet.log)
    if style == "rolling":
        assert (found["accepting"], found["fresh"], found["offered"]) == (1, 1, THREADS)
        assert Caller(fleet, "crowd").ask().pid in old
    else:
        assert not found["accepting"]
    gate.unlink()
    wait_for(lambda: len(links(fleet)) == WORKERS and not old & {each["pid"] for each in links(fleet)}, UP_S)
    wait_for(
        lambda: [(each["fresh"], each["slots"]) for each in links(fleet)] == [(0, THREADS)] * WORKERS, UP_S
    )


class Afar:
    """A front with two real uWSGIs as upstreams of `old`, and two hosts, `near` and `wide`, whose workers serve `shop` there.
    Who fails, and who does not, is said by a file."""

    def __init__(self, make: Callable[[], Fleet]) -> None:
        self.front = make()
        self.marks = self.front.root / "marks"
        self.marks.mkdir()
        self.hosts = {name: make() for name in ("near", "wide")}
        self.addresses = {"near": "127.0.0.2", "wide": "127.0.0.3"}
        self.port = free_port()
        self.relays = {name: Relay(self.port, source=self.addresses[name]) for name in self.hosts}
        self.ports = {name: free_port() for name in ("one", "two")}
        self.servers = [self._serve(name) for name in self.ports]
        try:
            for port in self.ports.values():
                wait_for(lambda port=port: accepts(port), 20)  # type: ignore[misc]
            self._start()
        except BaseException:
            self.close()
            raise

    def _serve(self, name: str) -> subprocess.Popen[bytes]:
        return serve_who(self.front.orphans, self.front.root, self.ports[name], name, self.marks)

    def _start(self) -> None:
        fleets = {"front": self.front, **self.hosts}
        keys = {name: fleet.root / "keys" for name, fleet in fleets.items()}
        pairs = {name: Pair(*(half.decode() for half in zmq.curve_keypair())) for name in fleets}
        rings = {name: KeyStore(str(directory)) for name, directory in keys.items()}
        for name, pair in pairs.items():
            rings[name].add(HOST, pair)
        for name, relay in self.relays.items():
            rings["front"].allow(pairs[name].public, ["shop"])
            rings[name].allow(pairs["front"].public, [f"tcp://127.0.0.1:{relay.port}"])
        self.front.vassal("shop", remote="true", retries="false")
        upstreams = [f"uwsgi://127.0.0.1:{port}" for port in self.ports.values()]
        self.front.vassal("old", upstream=upstreams, balance="round-robin", retries="false")
        self.front.start("--backplane", f"tcp://127.0.0.1:{self.port}", "--keys-dir", str(keys["front"]))
        for name, fleet in self.hosts.items():
            fleet.vassal(
                "shop",
                **{
                    "wsgi-file": APPS / "who.py",
                    "env": [f"WHO={name}", f"MARKS={self.marks}"],
                    "threads": THREADS,
                    "retries": "false",
                },
            )
            fleet.start(
                "--router", f"tcp://127.0.0.1:{self.relays[name].port}", "--keys-dir", str(keys[name])
            )
        wait_for(lambda: "apps" in self.front.status()["routers"][0], UP_S)
        wait_for(lambda: {*self.links()} == {*self.hosts}, UP_S, self.front.log)

    def fails(self, *names: str) -> None:
        for name in names:
            (self.marks / f"FAIL-{name}").touch()

    def is_well(self, *names: str) -> None:
        for name in names:
            (self.marks / f"FAIL-{name}").unlink()

    def links(self) -> dict[str, dict[str, Any]]:
        """The links of the workers afar, by their host."""
        names = {address: name for name, address in self.addresses.items()}
        found = app_of(self.front, "shop")["links"]
        return {names[each["host"]]: each for each in found if each["host"] and each["ready"]}

    def upstream(self, name: str) -> dict[str, Any]:
        address = f"uwsgi://127.0.0.1:{self.ports[name]}"
        return next(each for each in app_of(self.front, "old")["upstreams"] if each["address"] == address)

    def ask(self, vassal: str) -> tuple[int, str]:
        """The status of an answer, and whose it is."""
        answer = fetch(self.front.http_port, f"{vassal}.localhost", timeout_s=UP_S)
        return answer.status, answer.text.partition(" ")[0]

    def close(self) -> None:
        for fleet in (self.front, *self.hosts.values()):
            fleet.close()
        for relay in self.relays.values():
            relay.close()
        for server in self.servers:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


@pytest.mark.slow
def test_who_has_failed_five_times_in_a_row_is_out_for_a_while_and_comes_back_slowly(
    make_fleet: Callable[..., Fleet],
) -> None:
    """An upstream that answers 503, and a host whose worker does, at once, since each takes half a minute."""
    afar = Afar(make_fleet)
    try:
        afar.fails("one", "near")
        running = lambda: int(app_of(afar.front, "shop")["running"])  # noqa: E731
        # What has failed is asked last: only who is asked for more than the other has room for is asked five times.
        for count, of_near in ((2 * THREADS, THREADS), (THREADS + 1, 1)):
            with Holding(afar.marks, running) as holding:
                holding.hold_all([Caller(afar.front, "shop", right=(200, 503)) for _ in range(count)])
                assert Counter(each.who for each in holding.let_go())["near"] == of_near
        failed: Counter[str] = Counter()
        while afar.upstream("one")["state"] == "in":
            status, who = afar.ask("old")
            failed[who] += status == 503
        assert failed["one"] == 5

        def is_out(vassal: str) -> bool:
            if vassal == "old":
                return bool(afar.upstream("one")["state"] == "ejected")
            return bool(afar.links()["near"]["left_alone_s"])

        assert 20 < afar.upstream("one")["out_for_s"] <= 30
        assert 20 < afar.links()["near"]["left_alone_s"] <= 30
        assert (afar.upstream("one")["ejections"], afar.upstream("two")["state"]) == (1, "in")
        afar.is_well("one", "near")
        # Nobody finds out that they are well before their time is over.
        asked = 0
        while is_out("old") and is_out("shop"):
            got = [afar.ask(vassal) for vassal in ("old", "shop") for _ in range(3)]
            if is_out("old") and is_out("shop"):
                assert set(got) == {(200, "two"), (200, "wide")}
                asked += 1
        assert asked
        wait_for(lambda: not is_out("shop"), UP_S)
        # The host has to prove itself by one request at a time, so the other is filled up first.
        with Holding(afar.marks, running) as holding:
            for _ in range(THREADS + 1):
                holding.hold(Caller(afar.front, "shop"))
            held = Counter(each.who for each in holding.let_go())
        assert held == {"near": 1, "wide": THREADS}
        # The upstream has a share that grows from a tenth: in the first 3 s it is less than 0.4 to the other's 1.
        wait_for(lambda: not is_out("old"), UP_S)
        early: Counter[str] = Counter()
        while (before := afar.upstream("one"))["state"] == "warming":
            got = [afar.ask("old") for _ in range(4)]
            after = afar.upstream("one")
            if after["state"] == "warming" and before["since_s"] <= after["since_s"] < 3:
                early.update(who for _, who in got)
        assert early["one"] <= 0.4 * early["two"] + 2, early
        # And then all of it.
        assert afar.upstream("one")["state"] == "in"
        assert Counter(afar.ask("old") for _ in range(20)) == {(200, "one"): 10, (200, "two"): 10}

        # The host has shown by eight answers that it is well.
        def both_filled() -> bool:
            with Holding(afar.marks, running) as holding:
                holding.hold_all([Caller(afar.front, "shop") for _ in range(THREADS + 1)])
                return Counter(each.who for each in holding.let_go())["near"] > 1

        wait_for(both_filled, UP_S, afar.front.log)
    finally:
        afar.close()
