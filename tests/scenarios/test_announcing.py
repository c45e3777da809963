"""A vassal that is announced to routers of a real uWSGI, signed and unsigned: requests come by way of them, through reloads, an
upgrade and a pause, and no one is sent to a door that is closed."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from emperor.protocol import subscription
from emperor.protocol.subscription import SUBSCRIBE, UNSUBSCRIBE, Subscription

from .harness import Fleet, Orphans, accepts, fetch, free_port, wait_for
from .harness.fleet import APPS

UWSGI = Path(sys.executable).with_name("uwsgi")


@dataclass
class Stage:
    fleet: Fleet
    signed_port: int  # of a uWSGI that wants signatures
    plain_port: int  # of one that takes what comes
    seen: socket.socket  # a subscription server of ours, which only reads
    heard: list[Subscription] = field(default_factory=list)

    def through(self, port: int) -> str:
        """What the app says of a request by way of this uWSGI; empty when it closed the connection without a word."""
        try:
            return fetch(port, "shop.test", "/x?y=1").body.decode()
        except (OSError, ValueError, AssertionError):
            return ""

    def next(self, command: int) -> Subscription:
        """The next datagram of this command."""
        self.seen.settimeout(20)
        while True:
            said = subscription.parse(self.seen.recv(65536))
            self.heard.append(said)
            if said.command == command:
                return said


def uwsgi_router(orphans: Orphans, root: Path, *arguments: str) -> tuple["subprocess.Popen[bytes]", int]:
    port = free_port()
    with (root / "uwsgi.log").open("ab") as log:
        router = orphans.popen(
            [UWSGI, "--master", "--http", f"127.0.0.1:{port}", "--die-on-term", *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_for(lambda: accepts(port), 10)
    return router, port


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    orphans = Orphans()
    orphans.start()
    fleet = Fleet(orphans)
    keys = fleet.root / "keys"
    keys.mkdir()
    key = rsa.generate_private_key(65537, 2048)
    (fleet.root / "shop.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (keys / "shop.test.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    signed, plain = free_port(), free_port()
    signing = ("--subscriptions-sign-check", f"SHA256:{keys}")
    one, signed_port = uwsgi_router(
        orphans, fleet.root, "--http-subscription-server", f"127.0.0.1:{signed}", *signing
    )
    two, plain_port = uwsgi_router(orphans, fleet.root, "--http-subscription-server", f"127.0.0.1:{plain}")
    seen = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = fleet.root / "seen.sock"
    seen.bind(str(path))
    path.chmod(0o666)
    fleet.vassal(
        "shop",
        module="echo",
        callable="application",
        pythonpath=APPS,
        env="WHO=shop",
        domain="shop.test",
        subscribe_to=[f"127.0.0.1:{signed}:shop.test,0,SHA256:{fleet.root}/shop.pem", f"{path}:shop.test"],
        subscribe2=f"server=127.0.0.1:{plain},key=shop.test,weight=3",
        subscribe_freq=1,
    )
    fleet.start()
    yield Stage(fleet, signed_port, plain_port, seen)
    seen.close()
    for each in (one, two):
        os.killpg(each.pid, signal.SIGKILL)
        each.wait(10)
    fleet.close()
    orphans.close()


def test_requests_come_by_way_of_a_uwsgi_that_checks_signatures_and_of_one_that_does_not(
    stage: Stage,
) -> None:
    for port in (stage.signed_port, stage.plain_port):
        wait_for(lambda port=port: "shop" in stage.through(port), 20, lambda: stage.fleet.log())  # type: ignore[misc]
    while not (said := stage.next(SUBSCRIBE)).cores:
        pass  # it is announced when it is ready; the worker's link may be a moment later
    (listener,) = stage.fleet.vassal_status("shop")["listeners"]
    assert (said.key, said.address, said.cores) == ("shop.test", listener["bound"], 1)
    assert listener["address"] == "127.0.0.1:0"
    (router,) = stage.fleet.status()["routers"]
    announced = router["apps"]["shop"]["announced"]
    assert [(each["key"], each["signed"], each["error"]) for each in announced] == [
        ("shop.test", 1, ""),
        ("shop.test", 0, ""),
        ("shop.test", 0, ""),
    ]


def test_no_request_is_lost_while_the_app_is_reloaded_and_the_router_replaced(stage: Stage) -> None:
    fleet = stage.fleet
    wait_for(lambda: "shop" in stage.through(stage.plain_port), 20)
    lost: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            if "shop" not in stage.through(stage.plain_port):
                lost.append("one")

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        reload = fleet.cli("reload", "--run-dir", fleet.run_dir, "shop")
        assert reload.returncode == 0, reload.stderr
        replaced = fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--router-only")
        assert replaced.returncode == 0, replaced.stderr
        for _ in range(2):
            stage.next(SUBSCRIBE)
    finally:
        done.set()
        asker.join(20)
    assert lost == []
    assert UNSUBSCRIBE not in [each.command for each in stage.heard]


def test_a_paused_app_is_taken_back_and_announced_again(stage: Stage) -> None:
    fleet = stage.fleet
    assert fleet.cli("pause", "--run-dir", fleet.run_dir, "shop").returncode == 0
    left = stage.next(UNSUBSCRIBE)
    assert left.key == "shop.test" and left.address
    wait_for(lambda: stage.through(stage.signed_port) == "", 20)
    assert fleet.cli("resume", "--run-dir", fleet.run_dir, "shop").returncode == 0
    stage.next(SUBSCRIBE)
    for port in (stage.signed_port, stage.plain_port):
        wait_for(lambda port=port: "shop" in stage.through(port), 20)  # type: ignore[misc]


def test_an_edit_that_ends_an_announcement_takes_it_back_and_a_stop_takes_back_the_rest(stage: Stage) -> None:
    fleet = stage.fleet
    text = (fleet.directory / "shop.ini").read_text()
    fleet.write("shop.ini", "\n".join(line for line in text.splitlines() if "subscribe2" not in line))
    wait_for(lambda: stage.through(stage.plain_port) == "", 20, lambda: fleet.log())
    assert "shop" in stage.through(stage.signed_port)
    stage.heard.clear()
    assert fleet.stop() == 0
    assert stage.next(UNSUBSCRIBE).key == "shop.test"
    assert stage.through(stage.signed_port) == ""
