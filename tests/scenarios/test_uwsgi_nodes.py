"""Real uWSGIs that subscribe to our router, as they are: what they say of themselves counts, and one that ends costs nobody a
request, whether it has said so or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Caller, Fleet, Orphans, Served, at_once, free_port, wait_for
from .harness.fleet import APPS

UWSGI = Path(sys.executable).with_name("uwsgi")
TOLERANCE_S = 17.0
"""The one of uWSGI, and ours without a word."""


class Stage:
    """An emperor with a subscription server, and uWSGIs that know it."""

    def __init__(self, orphans: Orphans, *arguments: str) -> None:
        self.fleet = Fleet(orphans)
        self.server = free_port()
        self.marks = self.fleet.root / "marks"
        self.marks.mkdir()
        self.nodes: dict[
            str, tuple[subprocess.Popen[bytes], str]
        ] = {}  # by name: the process and its address
        for name in ("weights", "cores"):
            self.fleet.vassal(name, balance="round-robin", subscriptions="true")
        self.fleet.start("--subscription-server", f"127.0.0.1:{self.server}", *arguments)
        # They are READY at once, and so before the router has told of itself.
        wait_for(lambda: "apps" in self.fleet.status()["routers"][0], 20)

    def node(self, name: str, key: str, *arguments: str, said: str = "") -> str:
        """Start a uWSGI that subscribes for KEY.localhost. `said`: the rest of its `subscribe2`. Returns once it is known, with
        its address."""
        address = f"127.0.0.1:{free_port()}"
        argv: list[object] = [UWSGI, "--master", "--die-on-term", "--socket", address, "--need-app"]
        argv += ["--wsgi-file", APPS / "who.py", "--env", f"WHO={name}", "--env", f"MARKS={self.marks}"]
        argv += ["--subscribe-freq", "1", *arguments]
        argv += ["--subscribe2", f"server=127.0.0.1:{self.server},key={key}.localhost{said}"]
        with (self.fleet.root / "uwsgi.log").open("ab") as log:
            process = self.fleet.orphans.popen(argv, stdout=log, stderr=log, start_new_session=True)
        self.nodes[name] = process, address
        wait_for(lambda: address in self.known(key), 20, self.fleet.log)
        return address

    def known(self, key: str) -> dict[str, dict[str, Any]]:
        """The nodes of KEY.localhost, by address, as the router knows them."""
        (router,) = self.fleet.status()["routers"]
        nodes = router["subscriptions"]["nodes"]
        return {each["address"]: each for each in nodes if each["host"] == f"{key}.localhost"}

    def close(self) -> None:
        for process, _ in self.nodes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        self.fleet.close()


@pytest.fixture(scope="module")
def orphans_of_all() -> Iterator[Orphans]:
    orphans = Orphans()
    orphans.start()
    yield orphans
    orphans.close()


@pytest.fixture(scope="module")
def stage(orphans_of_all: Orphans) -> Iterator[Stage]:
    """Its nodes may be silent for ten minutes: who is not there any more has said so."""
    made = Stage(orphans_of_all, "--subscription-tolerance", "600s")
    try:
        made.node("light", "weights", said=",weight=2")
        made.node("heavy", "weights", "--weight", "6")
        made.node("four", "cores", "--threads", "4")
        made.node("two", "cores", "--processes", "2")
        yield made
    finally:
        made.close()


class Asking:
    """Clients of one host who ask on and on; each answer has to be 200."""

    def __init__(self, stage: Stage, key: str, clients: int = 3, every_s: float = 0.0) -> None:
        self._every_s = every_s
        self._caller = Caller(stage.fleet, key)
        self.served: list[Served] = []
        self.wrong: list[BaseException] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                self.served.append(self._caller.ask())
            except (AssertionError, OSError) as error:
                self.wrong.append(error)

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(40)

    def more(self, count: int) -> set[str]:
        """Wait for so many more answers. Returns who has given them."""
        before = len(self.served)
        wait_for(lambda: len(self.served) + len(self.wrong) >= before + count, 40)
        return {each.who for each in self.served[before:]}


def test_a_nodes_modifiers_stand_in_its_requests(stage: Stage) -> None:
    """Where 9 is its plugin for Python, and 0 no plugin at all. Its log says what it has got."""
    stage.node(
        "other",
        "modified",
        *("--remap-modifier", "0:9", "--log-format", "got %(modifier1) %(modifier2) for %(host)"),
        said=",modifier1=9,modifier2=3",
    )
    (node,) = stage.known("modified").values()
    assert (node["modifier1"], node["modifier2"]) == (9, 3)
    assert Caller(stage.fleet, "modified").ask().who == "other"
    log = stage.fleet.root / "uwsgi.log"
    wait_for(lambda: "got 9 3 for modified.localhost" in log.read_text(errors="replace"), 20, log.read_text)


def test_one_that_stops_gracefully_leaves_and_no_request_is_lost(stage: Stage) -> None:
    stage.node("goes", "pair")
    stays = stage.node("stays", "pair")
    with Asking(stage, "pair") as asking:
        wait_for(lambda: asking.more(20) == {"goes", "stays"}, 20)
        process, _ = stage.nodes["goes"]
        process.terminate()
        process.wait(20)
        wait_for(lambda: {*stage.known("pair")} == {stays}, 20, stage.fleet.log)
        asking.more(20)
        assert asking.more(20) == {"stays"}
    assert asking.wrong == []


def test_one_that_reloads_stays_and_no_request_is_lost(stage: Stage) -> None:
    """The only node of its host: uWSGI keeps its socket while it begins anew, and says nothing."""
    address = stage.node("reloads", "lone", "--lazy-apps", "--processes", "2")
    process, _ = stage.nodes["reloads"]
    with Asking(stage, "lone") as asking:
        asking.more(20)
        pids = {each.pid for each in asking.served}
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: asking.more(5) and asking.served[-1].pid not in pids, 40)
    assert asking.wrong == []
    assert f"lone.localhost: {address} has unsubscribed" not in stage.fleet.log()


def test_nodes_get_what_their_weights_say(stage: Stage) -> None:
    """One has it from `subscribe2`, the other from `weight`."""
    light, heavy = (stage.nodes[name][1] for name in ("light", "heavy"))
    assert {address: each["weight"] for address, each in stage.known("weights").items()} == {
        light: 2,
        heavy: 6,
    }
    _all_warm(stage, "weights")
    served = at_once(3, 16, lambda _: Caller(stage.fleet, "weights").ask())
    assert Counter(each.who for each in served) == {"heavy": 36, "light": 12}


def test_nodes_without_a_weight_get_what_their_cores_say(stage: Stage) -> None:
    assert sorted(each["cores"] for each in stage.known("cores").values()) == [2, 4]
    _all_warm(stage, "cores")
    served = at_once(3, 12, lambda _: Caller(stage.fleet, "cores").ask())
    assert Counter(each.who for each in served) == {"four": 24, "two": 12}


def _upstreams(stage: Stage, vassal: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.fleet.status()["routers"][0]["apps"][vassal]["upstreams"]
    return found


def _all_warm(stage: Stage, vassal: str) -> None:
    """Both are there, and the one that has come later has had its slow start."""
    wait_for(lambda: [each["state"] for each in _upstreams(stage, vassal)] == ["in"] * 2, 40)


@pytest.mark.slow
def test_one_that_is_killed_is_forgotten_after_its_tolerance_and_costs_no_request(
    orphans_of_all: Orphans,
) -> None:
    """It says nothing at its end. Requests that it does not take, another one gets, for as long as it is still known."""
    stage = Stage(orphans_of_all)
    try:
        dead, alive = stage.node("dead", "pair"), stage.node("alive", "pair")
        with Asking(stage, "pair", 1, 0.02) as asking:
            wait_for(lambda: asking.more(20) == {"dead", "alive"}, 20)
            process, _ = stage.nodes["dead"]
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            killed = time.monotonic()
            # What it had sent may be read a moment later.
            assert {*stage.known("pair")} == {dead, alive}
            wait_for(lambda: {*stage.known("pair")} == {alive}, 60, stage.fleet.log, every_s=0.2)
            known_s = time.monotonic() - killed
            assert asking.more(20) == {"alive"}
        assert asking.wrong == []
        assert known_s > TOLERANCE_S / 2
        assert f"pair.localhost: {dead} has been silent for 17 s" in stage.fleet.log()
    finally:
        stage.close()
