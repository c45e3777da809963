"""Real uWSGIs that subscribe, as they are: requests flow to them, a vassal keeps its own hosts, and nothing that happens to our
processes, or that others send, costs them a request."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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

from emperor.protocol import subscription
from emperor.protocol.subscription import UNSUBSCRIBE, Subscription
from tests.router.authority import Authority
from tests.wire import subscriptions as wire

from .harness import Fleet, Orphans, accepts, fetch, free_port, wait_for
from .harness.fleet import APPS

UWSGI = Path(sys.executable).with_name("uwsgi")


@dataclass
class Stage:
    fleet: Fleet
    server: int  # the port of the subscription server
    uwsgi: "subprocess.Popen[bytes]"
    uwsgi_port: int

    def status(self, host: str, path: str = "/") -> int:
        return fetch(self.fleet.http_port, host, path).status

    def router(self) -> dict[str, Any]:
        return next(each for each in self.fleet.status()["routers"] if each["state"] == "running")

    def nodes(self, host: str) -> list[str]:
        return [each["address"] for each in self.router()["subscriptions"]["nodes"] if each["host"] == host]

    def send(self, *datagrams: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for each in datagrams:
                sock.sendto(each, ("127.0.0.1", self.server))


def a_uwsgi(orphans: Orphans, root: Path, port: int, *arguments: str) -> "subprocess.Popen[bytes]":
    argv: list[object] = [UWSGI, "--master", "--die-on-term", "--socket", f"127.0.0.1:{port}", "--need-app"]
    argv += ["--module", "echo", "--pythonpath", APPS, "--subscribe-freq", "1", *arguments]
    with (root / "uwsgi.log").open("ab") as log:
        return orphans.popen(argv, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture(scope="module")
def orphans_of_all() -> Iterator[Orphans]:
    orphans = Orphans()
    orphans.start()
    yield orphans
    orphans.close()


@pytest.fixture(scope="module")
def stage(orphans_of_all: Orphans) -> Iterator[Stage]:
    fleet = Fleet(orphans_of_all)
    server, port = free_port(), free_port()
    root = fleet.root
    fleet.vassal("shop", module="echo", pythonpath=APPS, domain=["shop.test", "*.shop.test"])
    authority = Authority(root)
    for name in ("own", "two"):
        (root / f"{name}.pem").write_text(authority.certificate(f"{name}.test"))
    (root / "authority.pem").write_text(authority.pem)
    fleet.start("--subscription-server", f"127.0.0.1:{server}")
    uwsgi = a_uwsgi(
        orphans_of_all,
        fleet.root,
        port,
        *("--subscribe-to", f"127.0.0.1:{server}:old.test"),
        *("--subscribe-to", f"127.0.0.1:{server}:shop.test"),
        *(
            "--subscribe2",
            f"server=127.0.0.1:{server},key=Two.test:8080,sni_key={root}/two.pem,sni_crt={root}/two.pem",
        ),
    )
    made = Stage(fleet, server, uwsgi, port)
    wait_for(lambda: made.nodes("old.test") and made.nodes("two.test"), 20, lambda: fleet.log())
    yield made
    if made.uwsgi.poll() is None:
        os.killpg(made.uwsgi.pid, signal.SIGKILL)
        made.uwsgi.wait(10)
    fleet.close()


def test_requests_flow_to_a_uwsgi_that_has_subscribed(stage: Stage) -> None:
    port = stage.fleet.http_port
    for host in ("old.test", "two.test"):
        answer = fetch(port, host, "/a%20b?x=1", "POST", bytes(range(256)) * 2000, {"X-One": "1"})
        assert answer.status == 200 and b'"size": 512000' in answer.body
        assert b'"HTTP_X_ONE": "1"' in answer.body and f'"host": "{host}"'.encode() in answer.body
    assert stage.nodes("old.test") == [f"127.0.0.1:{stage.uwsgi_port}"]
    (node,) = [each for each in stage.router()["subscriptions"]["nodes"] if each["host"] == "two.test"]
    assert (node["sni_key"], node["sni_crt"], node["cores"], node["weight"]) == (
        f"{stage.fleet.root}/two.pem",
        f"{stage.fleet.root}/two.pem",
        1,
        1,
    )
    said = stage.fleet.cli("status", "--run-dir", stage.fleet.run_dir).stdout
    assert f"subscribed: old.test: 127.0.0.1:{stage.uwsgi_port}" in said


def test_what_a_vassal_has_is_not_taken(stage: Stage) -> None:
    wait_for(lambda: stage.router()["subscriptions"]["refused"]["held"] > 0, 20)
    assert stage.nodes("shop.test") == [] and stage.status("shop.test") == 200
    stage.send(subscription.build(Subscription(key="www.shop.test", address="127.0.0.1:1")))
    stage.fleet.wait_log("www.shop.test", "the vassal shop has")


def test_whatever_is_sent_the_good_ones_are_served(stage: Stage) -> None:
    before = stage.router()["subscriptions"]["refused"]
    hostile = [sent for sent, _ in wire.REFUSED.values() if len(sent) < 9000]
    for _ in range(20):
        stage.send(*hostile)
        assert stage.status("old.test") == 200
    wait_for(lambda: stage.router()["subscriptions"]["refused"]["malformed"] > before["malformed"] + 50, 20)
    assert stage.nodes("old.test") and stage.nodes("two.test")


def test_no_request_is_lost_when_the_router_is_replaced_and_none_is_404_when_it_is_killed(
    stage: Stage,
) -> None:
    fleet = stage.fleet
    wrong: list[object] = []
    done = threading.Event()
    asked = threading.Thread(target=_ask, args=(lambda: stage.status("old.test"), done, wrong, (200,)))
    asked.start()
    replaced = fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--router-only")
    assert replaced.returncode == 0, replaced.stderr
    wait_for(lambda: stage.status("old.test") == 200, 20)
    done.set()
    asked.join(20)
    assert wrong == []
    # The emperor has asked the new one who has subscribed.
    pid = stage.router()["pid"]
    wait_for(lambda: stage.nodes("old.test") and stage.router()["subscriptions"]["kept"], 20)
    os.kill(pid, signal.SIGKILL)
    done.clear()
    asked = threading.Thread(
        target=_ask, args=(lambda: stage.status("old.test"), done, wrong, (200, OSError))
    )
    asked.start()
    wait_for(lambda: _up(stage, pid), 20, lambda: fleet.log())
    done.set()
    asked.join(20)
    assert wrong == []


def _up(stage: Stage, before: int) -> bool:
    try:
        return bool(stage.router()["pid"] != before and stage.status("old.test") == 200)
    except (OSError, StopIteration, ValueError, AssertionError, KeyError):
        return False


def _ask(
    ask: Callable[[], int], done: threading.Event, wrong: list[object], right: tuple[object, ...]
) -> None:
    while not done.is_set():
        try:
            status: object = ask()
        except (OSError, ValueError, AssertionError):
            status = OSError
        if status not in right:
            wrong.append(status)


def test_nodes_join_a_vassal_whose_file_says_so_and_leave_it_with_its_file(stage: Stage) -> None:
    fleet = stage.fleet
    file = fleet.vassal("old", domain="old.test", subscriptions="true")
    fleet.wait_ready("old")
    wait_for(
        lambda: [each["into"] for each in stage.router()["subscriptions"]["nodes"]].count("old") == 1, 20
    )
    assert stage.status("old.test") == 200
    assert stage.router()["apps"]["old"]["requests"] >= 1
    file.unlink()
    wait_for(lambda: "old" not in stage.router()["apps"], 20)
    wait_for(lambda: stage.status("old.test") == 200, 20)


def test_a_nodes_certificate_is_shown_to_who_asks_for_its_host(stage: Stage) -> None:
    fleet, root, port = stage.fleet, stage.fleet.root, free_port()
    own = f"{root}/own.pem"
    fleet.vassal(
        "two", domain="two.test", subscriptions="true", **{"https-socket": f"127.0.0.1:{port},{own},{own}"}
    )
    fleet.wait_ready("two")
    wait_for(lambda: "two" in [each["into"] for each in stage.router()["subscriptions"]["nodes"]], 20)
    wait_for(lambda: accepts(port), 20, lambda: fleet.log())  # it is ready before its own listener is open
    trusting = ssl.create_default_context(cafile=str(root / "authority.pem"))
    for name in ("two.test", "own.test"):
        with (
            socket.create_connection(("127.0.0.1", port), 20) as sock,
            trusting.wrap_socket(sock, server_hostname=name) as client,  # which looks whose certificate it is
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: two.test\r\nConnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_one_that_unsubscribes_is_known_for_a_while_and_one_that_comes_back_is_served(stage: Stage) -> None:
    fleet = stage.fleet
    stage.uwsgi.terminate()
    stage.uwsgi.wait(20)
    wait_for(lambda: stage.nodes("old.test") == [], 20, lambda: fleet.log())
    answer = fetch(fleet.http_port, "old.test", "/")
    assert answer.status == 503 and "retry-after" in answer.fields
    assert stage.status("never.test") in (200, 404)
    again = a_uwsgi(
        fleet.orphans, fleet.root, stage.uwsgi_port, "--subscribe-to", f"127.0.0.1:{stage.server}:old.test"
    )
    stage.uwsgi = again
    wait_for(lambda: stage.status("old.test") == 200, 20, lambda: fleet.log())


def test_signed_by_a_uwsgi_by_a_unix_socket_and_nobody_else(orphans_of_all: Orphans) -> None:
    fleet = Fleet(orphans_of_all)
    keys = fleet.root / "keys"
    keys.mkdir()
    key = rsa.generate_private_key(65537, 2048)
    private = fleet.root / "private.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (keys / "old.test.pem").write_bytes(public)
    path, port = fleet.root / "s.sock", free_port()
    fleet.vassal("shop", module="echo", pythonpath=APPS)
    fleet.start(
        *("--subscription-server", f"unix:{path}", "--subscriptions-sign-check", f"SHA256:{keys}"),
        *("--subscription-tolerance", "3s"),
    )
    arguments = (
        "--subscribe-to",
        f"{path}:old.test,0,SHA256:{private}",
        "--subscribe-to",
        f"{path}:other.test",
    )
    uwsgi = a_uwsgi(orphans_of_all, fleet.root, port, *arguments)
    made = Stage(fleet, 0, uwsgi, port)
    try:
        wait_for(lambda: made.nodes("old.test"), 20, lambda: fleet.log())
        assert made.status("old.test") == 200
        wait_for(lambda: made.router()["subscriptions"]["refused"]["unsigned"] > 0, 20)
        (node,) = made.router()["subscriptions"]["nodes"]
        assert (node["signed"], node["uid"], node["pid"]) == (1, os.getuid(), uwsgi.pid)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            forged = Subscription(key="old.test", address=node["address"], command=UNSUBSCRIBE, unix=1)
            sock.sendto(subscription.build(forged, lambda _: b"x" * 256), str(path))
            late = replace(forged, unix=2_000_000_000)
            sock.sendto(subscription.build(late, lambda _: b"x" * 256), str(path))
        wait_for(lambda: made.router()["subscriptions"]["refused"]["time"] == 2, 20)
        assert made.status("old.test") == 200
        os.killpg(uwsgi.pid, signal.SIGKILL)  # it says nothing more
        uwsgi.wait(10)
        wait_for(lambda: made.nodes("old.test") == [], 20, lambda: fleet.log())
        assert made.status("old.test") == 503
    finally:
        if uwsgi.poll() is None:
            os.killpg(uwsgi.pid, signal.SIGKILL)
            uwsgi.wait(10)
        fleet.close()


def _running(fleet: Fleet) -> bool:
    said = fleet.status_or_none() or {"routers": []}
    return any(each["state"] == "running" for each in said["routers"])


def test_by_a_uwsgi_that_shows_its_credentials_for_the_keys_that_its_user_owns(
    orphans_of_all: Orphans,
) -> None:
    fleet = Fleet(orphans_of_all)
    owners = fleet.root / "owners"
    owners.mkdir()
    (owners / "old.test").touch()
    others = owners / "other.test"
    if os.getuid() == 0:
        others.touch()
        os.chown(others, 65534, 65534)
    path, port = fleet.root / "s.sock", free_port()
    fleet.start("--subscription-server", f"unix:{path}", "--subscriptions-credentials-check", str(owners))
    arguments = ("--subscribe-to", f"{path}:old.test", "--subscribe-to", f"{path}:other.test")
    uwsgi = a_uwsgi(orphans_of_all, fleet.root, port, "--subscriptions-use-credentials", *arguments)
    made = Stage(fleet, 0, uwsgi, port)
    try:
        wait_for(lambda: _running(fleet), 20, lambda: fleet.log())
        wait_for(lambda: made.nodes("old.test"), 20, lambda: fleet.log())
        assert made.status("old.test") == 200
        (node,) = made.router()["subscriptions"]["nodes"]
        assert (node["signed"], node["pid"]) == (0, uwsgi.pid)
        assert (node["uid"], node["gid"]) == (os.getuid(), os.getgid())
        wait_for(lambda: made.router()["subscriptions"]["refused"]["credentials"] > 0, 20)
        assert made.nodes("other.test") == []
        others.unlink(missing_ok=True)
        others.touch()  # its user's own
        wait_for(lambda: made.nodes("other.test"), 20, lambda: fleet.log())
        assert made.status("other.test") == 200
    finally:
        os.killpg(uwsgi.pid, signal.SIGKILL)
        uwsgi.wait(10)
        fleet.close()
