"""The subscription server: datagrams by real sockets, and what becomes of them beside vassals that have hosts of their own."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emperor.config.settings import RouterSettings
from emperor.config.upstreams import Upstreams
from emperor.control.messages import RouterEntry
from emperor.protocol import packet, subscription
from emperor.protocol.subscription import UNSUBSCRIBE, Subscription
from emperor.router import subscribing
from emperor.router.subscribing import Datagrams, Subscribing, is_one_of
from emperor.router.subscriptions import Node, Sender
from tests.wire import subscriptions as wire

LOOPBACK = Sender("127.0.0.1", 40000)
NODE = Subscription(key="a.example", address="10.0.0.1:3031")


class Place:
    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def join(self, node: Node) -> None:
        self.nodes[node.address] = node

    def leave(self, node: Node) -> None:
        del self.nodes[node.address]


class Stage:
    """The router, as far as the server needs one."""

    def __init__(self, settings: RouterSettings | None = None) -> None:
        self.settings = RouterSettings() if settings is None else settings
        self.vassals: list[RouterEntry] = []
        self.places: dict[str, Place] = {}
        self.hidden: dict[str, bool] = {}
        self.lines: list[str] = []
        self.now = 100.0
        self.server = Subscribing(self, lambda: self.now, lambda: 1_700_000_000.0)
        self.server.vassals_changed()

    def log(self, level: str, text: str) -> None:
        self.lines.append(text)

    def complain(self, key: str, level: str, text: str) -> None:
        self.lines.append(f"{key}: {text}")

    def entries(self) -> list[RouterEntry]:
        return self.vassals

    def place(self, host: str, vassal: str) -> Place:
        return self.places.setdefault(vassal or host, Place())

    def displace(self, host: str, hide: bool) -> None:
        self.hidden[host] = hide

    def is_own(self, address: str) -> bool:
        return address == "127.0.0.1:9"

    def has(self, *entries: RouterEntry) -> None:
        self.vassals = list(entries)
        self.server.vassals_changed()

    def send(self, said: Subscription = NODE, **changes: object) -> None:
        self.server.received(subscription.build(replace(said, **changes)), LOOPBACK)  # type: ignore[arg-type]

    def at(self, place: str) -> list[str]:
        return sorted(self.places[place].nodes) if place in self.places else []


def vassal(name: str, *domains: str, subscriptions: bool = False) -> RouterEntry:
    return RouterEntry(name=name, domains=domains, upstreams=Upstreams(subscriptions=subscriptions))


def test_a_host_that_nobody_has_gets_an_app_and_loses_it() -> None:
    stage = Stage()
    stage.send()
    stage.send(address="10.0.0.2:3031")
    assert stage.at("a.example") == ["10.0.0.1:3031", "10.0.0.2:3031"]
    stage.send(command=UNSUBSCRIBE)
    assert stage.at("a.example") == ["10.0.0.2:3031"] and not stage.hidden
    stage.send(command=UNSUBSCRIBE, address="10.0.0.2:3031")
    assert stage.at("a.example") == [] and stage.hidden == {"a.example": False}


def test_what_a_node_says_of_its_load_is_heard_each_time() -> None:
    stage = Stage()
    stage.send(load=1)
    version = stage.server.version
    stage.send(load=7)
    assert stage.places["a.example"].nodes["10.0.0.1:3031"].load == 7
    assert stage.server.version == version  # nothing that the emperor has to keep


def test_one_that_is_refused_on_and_on_is_named_once_and_then_once_a_minute() -> None:
    stage = Stage(RouterSettings(subscriptions_sign_check="SHA256:/nowhere"))
    for _ in range(121):
        stage.send()
        stage.server.received(b"", LOOPBACK)
        stage.server.look()
        stage.now += 1
    unsigned = [line for line in stage.lines if "refused (unsigned)" in line]
    malformed = [line for line in stage.lines if "refused (malformed)" in line]
    assert len(unsigned) + len(malformed) == len(stage.lines)
    first = "subscription to 'a.example' of 10.0.0.1:3031 from 127.0.0.1:40000 refused (unsigned): it is not signed, "
    assert all(line.startswith(first) for line in unsigned)
    assert [line.partition(" (the last of ")[2] for line in unsigned] == [
        "",
        "60 such in 60 s)",
        "60 such in 60 s)",
    ]
    assert len(malformed) == 2  # a second after the other: no two lines in one
    refused = stage.server.report()["refused"]
    assert (refused["unsigned"], refused["malformed"]) == (121, 121)


def test_one_that_is_silent_leaves_unless_the_router_itself_does() -> None:
    stage, leaving = Stage(), Stage()
    for each in (stage, leaving):
        each.server.look()
        each.send()
    leaving.server.end()
    for each in (stage, leaving):
        for _ in range(20):
            each.now += 1
            each.server.look()
    assert stage.at("a.example") == [] and leaving.at("a.example") == ["10.0.0.1:3031"]


@pytest.mark.parametrize(
    "domain", ["a.example", "A.EXAMPLE", "a.example/shop", "*.example", "*.a.example"][:4]
)
def test_what_a_vassal_has_is_its_own(domain: str) -> None:
    stage = Stage()
    stage.has(vassal("shop", domain))
    stage.send()
    assert not stage.places
    assert "held" in stage.lines[-1] and "shop" in stage.lines[-1]
    stage.send(key="b.test")
    assert stage.at("b.test") == ["10.0.0.1:3031"]


def test_a_wildcard_key_leaves_a_vassals_host_alone() -> None:
    stage = Stage()
    stage.has(vassal("shop", "a.example"))
    stage.send(key=".example")
    assert stage.at("*.example") == ["10.0.0.1:3031"]
    stage.has(vassal("shop", "*.example"))
    assert stage.at("*.example") == [] and stage.hidden == {"*.example": True}


def test_nodes_join_a_vassal_whose_file_says_so() -> None:
    stage = Stage()
    stage.has(vassal("shop", "a.example", subscriptions=True))
    stage.send()
    assert stage.at("shop") == ["10.0.0.1:3031"]
    # A name below it is not the name that it has given away.
    stage.has(vassal("shop", "a.example", "*.shop.test", subscriptions=True))
    stage.send(key="www.shop.test")
    assert "held" in stage.lines[-1]


def test_who_serves_a_name_in_a_vassal() -> None:
    """For the certificates of its listeners."""
    stage = Stage()
    stage.has(vassal("shop", "a.example", "*.example", subscriptions=True))
    stage.send()
    stage.send(key=".example", address="10.0.0.2:3031")
    stage.send(key="else.test", address="10.0.0.3:3031")

    def named(name: str, vassal: str = "shop") -> list[str]:
        return [each.address for each in stage.server.named(vassal, name)]

    assert named("a.example") == ["10.0.0.1:3031", "10.0.0.2:3031"]  # the nearest first
    assert named("b.a.example") == ["10.0.0.2:3031"]
    assert named("else.test") == named("a.example", "blog") == named("example") == named("") == []


def test_a_vassal_that_comes_later_takes_its_host_and_one_that_goes_gives_it_back() -> None:
    stage = Stage()
    stage.send()
    stage.has(vassal("shop", "a.example"))
    assert stage.at("a.example") == [] and stage.hidden == {"a.example": True}
    assert "shop has it now" in stage.lines[-1]
    stage.send()
    assert stage.at("a.example") == []
    stage.has()
    stage.send()
    assert stage.at("a.example") == ["10.0.0.1:3031"]


def test_nodes_go_over_to_a_vassal_that_takes_them_and_back() -> None:
    stage = Stage()
    stage.send()
    stage.has(vassal("shop", "a.example", subscriptions=True))
    assert stage.at("shop") == ["10.0.0.1:3031"] and stage.hidden == {"a.example": True}
    stage.has()
    assert stage.at("shop") == [] and stage.at("a.example") == ["10.0.0.1:3031"]


def test_where_we_listen_ourselves_nobody_is() -> None:
    stage = Stage()
    stage.send(address="127.0.0.1:9")
    assert not stage.places and "ours" in stage.lines[-1]
    places = ["127.0.0.1:1", "0.0.0.0:2", "[::1]:3", "unix:/run/a.sock", "@a"]
    own = ["127.0.0.1:1", "127.0.0.1:2", "[::1]:3", "/run/a.sock", "@a"]
    assert [is_one_of(each, places) for each in own] == [True] * 5
    assert not any(is_one_of(each, places) for each in ("127.0.0.1:3", "10.0.0.1:2", "/run/b.sock", "@b"))


def test_a_router_after_this_one_knows_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribing, "NODES_AT_ONCE", 2)
    stage, other = Stage(), Stage()
    for port in (1, 2, 3):
        stage.send(address=f"10.0.0.1:{port}")
    version = stage.server.version
    assert stage.server.report()["kept"] == 0
    first = stage.server.nodes(-1, 0)
    assert stage.server.report()["kept"] == 0
    second = stage.server.nodes(-1, 2)
    assert (first["more"], second["more"]) == (True, False)
    assert stage.server.report()["kept"] == 1
    other.now = 5000.0
    other.vassals = [vassal("shop", "b.example")]
    other.server.restore([*first["nodes"], *second["nodes"]])
    other.server.restore(first["nodes"])
    assert other.at("a.example") == ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]
    assert stage.server.nodes(version, 0) == {"version": version}
    with pytest.raises(ValueError, match="a node"):
        other.server.restore([3])
    other.has(vassal("shop", "a.example"))
    assert other.at("a.example") == []


def test_a_router_beside_the_one_that_hears_them_has_its_nodes_and_no_others() -> None:
    stage, beside = Stage(), Stage()
    for port in (1, 2, 3):
        stage.send(address=f"10.0.0.1:{port}")

    def copy() -> None:
        nodes = stage.server.nodes(-1, 0)["nodes"]
        beside.server.copy(nodes[:1], True, False)
        beside.server.copy(nodes[1:], False, True)

    beside.server.restore(stage.server.nodes(-1, 0)["nodes"][:1])
    copy()
    assert beside.at("a.example") == ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]
    stage.send(address="10.0.0.1:1", command=UNSUBSCRIBE)
    stage.send(address="10.0.0.1:2", weight=7)
    copy()
    assert beside.at("a.example") == ["10.0.0.1:2", "10.0.0.1:3"]
    assert beside.places["a.example"].nodes["10.0.0.1:2"].weight == 7
    assert beside.server.report()["kept"] == 1
    for _ in range(20):
        beside.now += 1
        beside.server.look()
    assert len(beside.at("a.example")) == 2, "who is silent is the other router's matter"
    beside.server.listens()
    beside.server.look()
    assert len(beside.at("a.example")) == 2, "now it is its own, and each has time to speak"
    for _ in range(20):
        beside.now += 1
        beside.server.look()
    assert beside.hidden == {"a.example": False} and not beside.server.report()["nodes"]
    copy()
    assert len(beside.server.report()["nodes"]) == 2
    beside.server.copy([], True, True)
    assert not beside.server.report()["nodes"]
    with pytest.raises(ValueError, match="a node"):
        beside.server.copy([3], True, True)


def test_hostile_ones_are_counted_and_the_good_ones_among_them_taken() -> None:
    stage = Stage()
    for sent, _ in wire.REFUSED.values():
        stage.server.received(sent[: 2 * subscription.LARGEST], LOOPBACK)
        stage.send()
    report = stage.server.report()
    assert sum(report["refused"].values()) == len(wire.REFUSED)
    assert report["refused"]["oversized"] == 2
    assert report["taken"] == len(wire.REFUSED) and len(report["nodes"]) == 1
    assert all(line.startswith("subscription") for line in stage.lines)


def test_settings_hold_at_once() -> None:
    stage = Stage()
    stage.server.use(RouterSettings(subscription_allow=("192.0.2.0/24",)))
    stage.send()
    assert not stage.places and "(sender)" in stage.lines[-1]
    stage.now += 1
    stage.server.use(RouterSettings(subscriptions_credentials_check=("/none",)))
    stage.send()
    assert not stage.places and "(credentials)" in stage.lines[-1]
    stage.now += 1
    stage.server.use(RouterSettings(subscriptions_sign_check="SHA256:/none"))
    stage.send()
    assert not stage.places and "(unsigned)" in stage.lines[-1]
    stage.server.use(RouterSettings())
    stage.send()
    assert stage.at("a.example") == ["10.0.0.1:3031"]


# Real sockets


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[tuple[Callable[[], list[tuple[bytes, Sender]]], socket.socket]]:
    """What a unix socket of the server reads, and one to send by."""
    heard: list[tuple[bytes, Sender]] = []
    loop = asyncio.new_event_loop()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    sock.bind(str(tmp_path / "s"))
    server = Datagrams(loop, "unix:s", sock, lambda *said: heard.append(said))
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect(str(tmp_path / "s"))

    def read() -> list[tuple[bytes, Sender]]:
        heard.clear()
        server.read()
        return list(heard)

    yield read, client
    client.close()
    server.close()
    loop.close()


def test_who_sends_by_a_unix_socket_is_told_by_the_kernel(
    reading: tuple[Callable[[], list[tuple[bytes, Sender]]], socket.socket],
) -> None:
    read, client = reading
    client.send(b"x")
    ((data, sender),) = read()
    assert data == b"x"
    assert (sender.address, sender.pid, sender.uid, sender.gid) == ("", os.getpid(), os.getuid(), os.getgid())
    # What claims to be somebody else is not sent at all, but by root; a descriptor that comes along is closed.
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.suppress(OSError):  # newer kernels refuse it where we ask them to
        client.sendmsg(
            [b"y"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, client.fileno().to_bytes(4, "little"))]
        )
        ((data, sender),) = read()
        assert data == b"y" and sender.uid == os.getuid()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_budget_for_each_turn_and_no_more_than_a_packet_of_each(
    reading: tuple[Callable[[], list[tuple[bytes, Sender]]], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribing, "BUDGET", 5)
    read, client = reading
    for _ in range(8):
        client.send(b"x" * 9000)
    found = read()
    assert [len(data) for data, _ in found] == [subscription.LARGEST + 1] * 5
    assert len(read()) == 3 and read() == []


def test_an_acknowledgement_for_who_sends_by_a_unix_socket(tmp_path: Path) -> None:
    stage = Stage()
    local = Sender("", 0, 1, 0, 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "n"))
        told.setblocking(False)
        said = subscription.build(replace(NODE, notify=str(tmp_path / "n")))
        stage.server.received(said, LOOPBACK)
        with pytest.raises(BlockingIOError):
            told.recv(100)
        stage.send(command=UNSUBSCRIBE)
        stage.server.received(said, local)
        assert told.recv(100) == b"[subscription ack] a.example => new node: 10.0.0.1:3031"
    stage.server.received(subscription.build(replace(NODE, key="b.example", notify="/none")), local)
    assert stage.at("b.example") == ["10.0.0.1:3031"]


def test_a_key_that_is_no_host() -> None:
    stage = Stage()
    for key in (b"a b", b"..example", b".", b"*.example", b"a/b", b"\xc3\xa4.example"):
        sent = packet.encode([(b"key", key), (b"address", b"127.0.0.1:1")], 224)
        stage.server.received(sent, LOOPBACK)
    assert not stage.places
