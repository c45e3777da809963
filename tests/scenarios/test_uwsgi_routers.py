"""Vassals behind real routers of uWSGI's: a fastrouter and an http router, which know of them by what they announce, and by
nothing else. Both keep a node that is silent for ten minutes, so whoever is not there any more has said so."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.router import client
from tests.router.client import CutShort

from .harness import Fleet, Orphans, accepts, fetch, free_port, reaped, wait_for
from .harness.fleet import APPS

UWSGI = Path(sys.executable).with_name("uwsgi")
KINDS = ("fastrouter", "http")


class Front:
    """One real router with its subscription server and its statistics."""

    def __init__(self, orphans: Orphans, root: Path, kind: str, *arguments: str) -> None:
        self.kind = kind
        self.port, self.server, self._stats = free_port(), free_port(), free_port()
        self._orphans, self._root, self._arguments = orphans, root, arguments
        self.start()

    def start(self) -> None:
        argv: list[object] = [UWSGI, "--master", "--die-on-term", f"--{self.kind}", f"127.0.0.1:{self.port}"]
        argv += [f"--{self.kind}-subscription-server", f"127.0.0.1:{self.server}"]
        argv += [f"--{self.kind}-stats", f"127.0.0.1:{self._stats}", "--subscription-tolerance", "600"]
        with (self._root / "uwsgi.log").open("ab") as log:
            self._process = self._orphans.popen(
                [*argv, *self._arguments], stdout=log, stderr=log, start_new_session=True
            )
        wait_for(lambda: accepts(self.port) and accepts(self._stats), 20)

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        wait_for(lambda: not accepts(self.port), 10)

    def ask(self, host: str, path: str = "/", body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of an answer by way of it; (0, b"") where it closes the connection without one."""
        try:
            if self.kind == "http":
                answer = fetch(self.port, host, path, "POST" if body else "GET", body or None)
                return answer.status, answer.body
            plain, _, query = path.partition("?")
            with client.Connection(("127.0.0.1", self.port)) as connection:
                connection.send(client.uwsgi(host, plain, body, QUERY_STRING=query, SERVER_NAME=host))
                found = connection.response()
            return found.status, found.body
        except (OSError, ValueError, CutShort):
            return 0, b""

    def who(self, host: str) -> str:
        """Who answers; empty: nobody."""
        status, body = self.ask(host)
        return body.decode().split()[0] if status == 200 else ""

    def nodes(self, key: str) -> dict[str, dict[str, Any]]:
        """What it knows of a key's nodes, by address."""
        with socket.create_connection(("127.0.0.1", self._stats), 10) as sock, sock.makefile("rb") as stream:
            found = json.loads(stream.read())
        for each in found.get("subscriptions", []):
            if each["key"] == key:
                return {node["name"]: node for node in each["nodes"]}
        return {}


class Stage:
    """Both fronts, and an emperor whose vassals announce themselves there."""

    def __init__(self, orphans: Orphans) -> None:
        self.fleet = Fleet(orphans)
        self.fronts: dict[str, Front] = {}
        self.marks = self.fleet.root / "marks"
        self.marks.mkdir()
        try:
            for kind in KINDS:
                self.fronts[kind] = Front(orphans, self.fleet.root, kind)
            self.vassal("shop", processes=2)
            self.fleet.vassal(
                "echo", **{"wsgi-file": APPS / "echo.py", "env": "WHO=echo", **self.announced("echo.test")}
            )
            self.fleet.start()
        except BaseException:
            self.close()
            raise

    def announced(self, key: str, more: str = "") -> dict[str, object]:
        """To each front in one of both ways of writing it."""
        fast, http = (self.fronts[kind].server for kind in KINDS)
        return {
            "subscribe-to": [] if more else [f"127.0.0.1:{fast}:{key}"],
            "subscribe2": [
                f"server=127.0.0.1:{port},key={key}{more}" for port in ((fast, http) if more else (http,))
            ],
            "subscribe-freq": 1,
        }

    def vassal(self, name: str, key: str = "", more: str = "", **keys: object) -> Path:
        return self.fleet.vassal(
            name,
            **{
                "wsgi-file": APPS / "who.py",
                "env": [f"WHO={name}", f"MARKS={self.marks}"],
                **self.announced(key or f"{name}.test", more),
                **keys,
            },
        )

    def bound(self, name: str) -> str:
        """Where our router listens for this vassal."""
        (listener,) = self.fleet.vassal_status(name)["listeners"]
        return str(listener["bound"])

    def wait_known(self, key: str, *names: str) -> None:
        """Until these vassals are the nodes of a key, for both fronts."""
        for front in self.fronts.values():
            wait_for(
                lambda front=front: {*front.nodes(key)} == {self.bound(name) for name in names},  # type: ignore[misc]
                20,
                lambda front=front: (front.kind, front.nodes(key), self.fleet.log()[-2000:]),  # type: ignore[misc]
            )

    def close(self) -> None:
        self.fleet.close()
        for front in self.fronts.values():
            front.kill()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with reaped(Stage) as made:
        yield made


class Asking:
    """Clients who ask on and on, `before` and `after`: what they got that was not 200, and whom they met."""

    def __init__(self, asks: list[Callable[[], tuple[int, bytes]]]) -> None:
        self.wrong: list[tuple[int, bytes]] = []
        self.met: list[bytes] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(ask,)) for ask in asks]

    def _ask(self, ask: Callable[[], tuple[int, bytes]]) -> None:
        while not self._done.is_set():
            status, body = ask()
            self.met.append(body)
            if status != 200:
                self.wrong.append((status, body[:200]))

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(40)

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        before = len(self.met)
        wait_for(lambda: len(self.met) >= before + count, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_requests_and_bodies_come_by_way_of_it(stage: Stage, kind: str) -> None:
    front = stage.fronts[kind]
    wait_for(lambda: front.ask("echo.test")[0] == 200, 20, stage.fleet.log)
    status, body = front.ask("echo.test", "/a/b?x=1&x=2")
    said = json.loads(body)
    assert (status, said["PATH_INFO"], said["QUERY_STRING"], said["host"]) == (
        200,
        "/a/b",
        "x=1&x=2",
        "echo.test",
    )
    status, body = front.ask("echo.test", "/", bytes(range(256)) * 2000)
    assert (status, json.loads(body)["size"]) == (200, 512_000)
    assert front.ask("echo.test", "/missing")[0] == 404


def test_it_is_told_where_and_how_much_there_is(stage: Stage) -> None:
    """The address of the listener that our router opened for it, and how many requests the workers run at once."""
    stage.wait_known("shop.test", "shop")
    for front in stage.fronts.values():
        wait_for(lambda front=front: front.nodes("shop.test")[stage.bound("shop")]["cores"] == 2, 20)  # type: ignore[misc]
        (node,) = front.nodes("shop.test").values()
        assert (node["modifier1"], node["modifier2"], node["weight"], node["death_mark"]) == (0, 0, 1, 0)
        assert front.who("shop.test") == "shop"
    listener = stage.bound("shop")
    assert listener.startswith("127.0.0.1:") and accepts(int(listener.rpartition(":")[2]))


def test_a_reload_loses_no_request_of_either(stage: Stage) -> None:
    stage.wait_known("shop.test", "shop")
    asks = [lambda front=front: front.ask("shop.test") for front in stage.fronts.values() for _ in range(2)]  # type: ignore[misc]
    bound = stage.bound("shop")
    with Asking(asks) as asking:
        asking.more(20)
        for _ in range(2):
            done = stage.fleet.cli(
                "reload", "shop", "--wait", "--run-dir", stage.fleet.run_dir, deadline_s=60
            )
            assert done.returncode == 0, done.stderr
        asking.more(20)
    assert asking.wrong == []
    # Of each of three generations.
    assert len({body.split()[2] for body in asking.met}) >= 3
    assert stage.bound("shop") == bound


def test_a_worker_that_is_killed_loses_no_get(stage: Stage) -> None:
    """Both workers have one, which came by way of each front; what the dead one had begun, another begins anew."""
    stage.wait_known("shop.test", "shop")
    hold = stage.marks / "HOLD"
    hold.touch()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda front=front: answers.append(front.ask("shop.test", "/hold")[0]))  # type: ignore[misc]
        for front in stage.fronts.values()
    ]
    try:
        for thread in threads:
            thread.start()
        wait_for(lambda: stage.fleet.status()["routers"][0]["apps"]["shop"]["running"] == 2, 20)
        pid = stage.fleet.pid("worker", "shop", 0)
        os.kill(pid, signal.SIGKILL)

        def noticed() -> bool:
            links = stage.fleet.status()["routers"][0]["apps"]["shop"]["links"]
            return pid not in [link["pid"] for link in links]

        wait_for(noticed, 20)
    finally:
        hold.unlink()
        for thread in threads:
            thread.join(40)
    assert answers == [200, 200]
    stage.fleet.wait_ready("shop")


def test_weights_of_vassals_that_have_one_key(stage: Stage) -> None:
    stage.vassal("light", "both.test", ",weight=1")
    stage.vassal("heavy", "both.test", ",weight=3")
    stage.fleet.wait_ready("light", "heavy")
    stage.wait_known("both.test", "light", "heavy")
    for front in stage.fronts.values():
        nodes = front.nodes("both.test")
        assert [nodes[stage.bound(name)]["weight"] for name in ("light", "heavy")] == [1, 3]
        assert Counter(front.who("both.test") for _ in range(40)) == {"heavy": 30, "light": 10}


def test_one_key_of_a_uwsgi_and_of_ours(stage: Stage) -> None:
    """An app that moves to us: both serve it, and no request is lost when ours comes; then ours alone. What the old one has
    when it is stopped is between it and its front."""
    port = free_port()
    argv: list[object] = [UWSGI, "--master", "--die-on-term", "--socket", f"127.0.0.1:{port}", "--need-app"]
    argv += ["--wsgi-file", APPS / "who.py", "--env", "WHO=old", "--env", f"MARKS={stage.marks}"]
    argv += ["--subscribe-freq", "1"]
    for front in stage.fronts.values():
        argv += ["--subscribe-to", f"127.0.0.1:{front.server}:moves.test"]
    with (stage.fleet.root / "uwsgi.log").open("ab") as log:
        old: subprocess.Popen[bytes] = stage.fleet.orphans.popen(
            argv, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for front in stage.fronts.values():
            wait_for(lambda front=front: front.who("moves.test") == "old", 20)  # type: ignore[misc]
        with Asking(
            [lambda front=front: front.ask("moves.test") for front in stage.fronts.values()]
        ) as asking:  # type: ignore[misc]
            asking.more(4)
            stage.vassal("moves")
            stage.fleet.wait_ready("moves")
            for front in stage.fronts.values():
                wait_for(lambda front=front: len(front.nodes("moves.test")) == 2, 20)  # type: ignore[misc]
            asking.more(20)
            assert {body.split()[0] for body in asking.met[-20:]} == {b"old", b"moves"}
            assert asking.wrong == []
            old.terminate()
            old.wait(20)
            stage.wait_known("moves.test", "moves")
        fronts = stage.fronts.values()
        assert [front.who("moves.test") for front in fronts for _ in range(10)] == ["moves"] * 20
    finally:
        if old.poll() is None:
            os.killpg(old.pid, signal.SIGKILL)
            old.wait(10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_router_that_is_started_anew_is_told_again(stage: Stage, kind: str) -> None:
    """It knows nobody, and nothing of ours is started or touched."""
    front = stage.fronts[kind]
    wait_for(lambda: front.who("shop.test") == "shop", 20)
    before = stage.fleet.pids()
    front.kill()
    front.start()
    wait_for(lambda: front.who("shop.test") == "shop", 20, stage.fleet.log)
    assert stage.fleet.pids() == before


def test_a_vassal_whose_file_is_removed_is_taken_back(stage: Stage) -> None:
    file = stage.vassal("leaves")
    stage.fleet.wait_ready("leaves")
    stage.wait_known("leaves.test", "leaves")
    file.unlink()
    for front in stage.fronts.values():
        wait_for(lambda front=front: not front.nodes("leaves.test"), 20, stage.fleet.log)  # type: ignore[misc]
        assert front.who("leaves.test") == ""
        assert front.who("shop.test") == "shop"


def test_a_vassal_that_a_removed_one_has_shared_its_key_with_gets_all_from_then_on(stage: Stage) -> None:
    """Whom a front has sent to the one that leaves before it has read the datagram may be told 503, and nobody after that."""
    stage.vassal("stays", "pair.test", ",weight=1")
    file = stage.vassal("goes", "pair.test", ",weight=1")
    stage.fleet.wait_ready("stays", "goes")
    stage.wait_known("pair.test", "stays", "goes")
    fronts = stage.fronts.values()
    with Asking([lambda front=front: front.ask("pair.test") for front in fronts]) as asking:  # type: ignore[misc]
        asking.more(20)
        assert asking.wrong == []
        file.unlink()
        stage.wait_known("pair.test", "stays")
    assert {status for status, _ in asking.wrong} <= {0, 503}
    assert {body.split()[0] for body in asking.met[:20]} == {b"stays", b"goes"}
    assert [front.who("pair.test") for front in fronts for _ in range(20)] == ["stays"] * 40


def test_signed_for_a_fastrouter_that_knows_the_key_and_no_other(stage: Stage) -> None:
    """Of two vassals whose keys it has, one signs with a key that is not the one it has."""
    fleet, keys = stage.fleet, stage.fleet.root / "keys"
    keys.mkdir()
    for name in ("right", "wrong"):
        private = rsa.generate_private_key(65537, 2048)
        (fleet.root / f"{name}.pem").write_bytes(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        public = private.public_key()
        if name == "wrong":
            public = rsa.generate_private_key(65537, 2048).public_key()
        (keys / f"{name}.test.pem").write_bytes(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    front = Front(fleet.orphans, fleet.root, "fastrouter", "--subscriptions-sign-check", f"SHA256:{keys}")
    try:
        for name in ("right", "wrong"):
            stage.vassal(
                name,
                **{
                    "subscribe-to": f"127.0.0.1:{front.server}:{name}.test,0,SHA256:{fleet.root}/{name}.pem",
                    "subscribe2": f"server=127.0.0.1:{front.server},key={name}-unsigned.test",
                },
            )
        fleet.wait_ready("right", "wrong")
        wait_for(lambda: front.who("right.test") == "right", 20, fleet.log)

        def sent() -> int:
            (router,) = fleet.status()["routers"]
            return min(
                each["sent"] for name in ("right", "wrong") for each in router["apps"][name]["announced"]
            )

        wait_for(lambda: sent() >= 2, 20)
        assert [front.who(host) for host in ("wrong.test", "right-unsigned.test")] == ["", ""]
    finally:
        for name in ("right", "wrong"):
            (fleet.directory / f"{name}.ini").unlink(missing_ok=True)
        front.kill()


def test_the_end_of_the_emperor_takes_back_all(stage: Stage) -> None:
    """Which is the last test: nothing is started again."""
    stage.wait_known("shop.test", "shop")
    assert stage.fleet.stop() == 0
    for front in stage.fronts.values():
        for key in ("shop.test", "echo.test"):
            wait_for(lambda front=front, key=key: not front.nodes(key), 20)  # type: ignore[misc]
        assert front.who("shop.test") == ""
