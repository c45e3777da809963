"""The table of who has subscribed, and who may: with given clocks, and without a socket."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.config.peers import UNIX, Peers
from emperor.protocol import packet, subscription
from emperor.protocol.subscription import SUBSCRIBE, UNSUBSCRIBE, Subscription, SubscriptionError
from emperor.router import subscriptions
from emperor.router.subscriptions import Change, Node, Rules, Sender, Subscriptions
from tests.wire import subscriptions as wire

LOOPBACK = Sender("127.0.0.1", 40000)
REMOTE = Sender("192.0.2.7", 40000)
LOCAL = Sender(UNIX, 0, 11, 1000, 1001)
WALL = 1_700_000_000

NODE = Subscription(key="a.example", address="10.0.0.1:3031", cores=4, weight=2)


class Around:
    """Keys, owners and vassals as a test has them."""

    def __init__(self) -> None:
        self.wrong: tuple[str, str] | None = None
        self.owners: dict[str, tuple[int, int]] = {}
        self.held: dict[str, str] = {}

    def signature(self, _: Subscription) -> tuple[str, str] | None:
        return self.wrong

    def is_own(self, address: str) -> bool:
        return address == "127.0.0.1:8080"

    def owns(self, key: str, uid: int, gid: int) -> bool:
        return self.owners.get(key) == (uid, gid)

    def host(self, key: str) -> str:
        if key.startswith("."):
            return "*" + key.lower()
        return (packet.host_of(key.encode()) or b"").decode()

    def holder(self, host: str) -> str:
        return self.held.get(host, "")


class Stage:
    def __init__(self, **rules: object) -> None:
        self.table = Subscriptions(Rules(**rules))  # type: ignore[arg-type]
        self.around = Around()
        self.now = 100.0

    def send(self, said: Subscription = NODE, sender: Sender = LOOPBACK, **changes: object) -> Change:
        return self.table.take(replace(said, **changes), sender, self.around, self.now, WALL + self.now - 100)

    def look(self) -> list[Change]:
        return self.table.look(self.now, WALL + self.now - 100)

    def pass_s(self, seconds: int) -> list[Change]:
        gone = []
        for _ in range(seconds):
            self.now += 1
            gone += self.look()
        return gone

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.table.nodes()]


def signed(**changes: object) -> Subscription:
    return replace(NODE, sign=b"s", **{"unix": WALL, **changes})  # type: ignore[arg-type]


def test_a_node_joins_is_kept_changes_and_leaves() -> None:
    stage = Stage()
    assert stage.send().what == "joined"
    stage.now += 10
    assert stage.send(load=3).what == "kept"
    changed = stage.send(weight=5)
    assert (changed.what, changed.node.weight if changed.node else 0) == ("changed", 5)
    left = stage.send(command=UNSUBSCRIBE)
    assert left.what == "left" and left.node is not None and left.node.since == 100.0
    assert len(stage.table) == 0 and not stage.table.hosts
    assert stage.send(command=UNSUBSCRIBE).what == "nothing"
    assert stage.table.taken == 5


def test_keys_for_its_name_are_paths_and_never_keys_themselves() -> None:
    stage = Stage()
    node = stage.send(sni_key="/k.pem", sni_crt="/c.pem").node
    assert node is not None and (node.sni_key, node.sni_crt) == ("/k.pem", "/c.pem")
    assert stage.send(sni_key="/other.pem", sni_crt="/c.pem").what == "changed"
    pem = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
    node = stage.send(sni_key=pem, sni_crt="/c.pem").node
    assert node is not None and node.sni_key == "PEM" and "secret" not in str(node.to_json(stage.now))


def test_one_that_is_silent_for_longer_than_the_tolerance_is_gone() -> None:
    stage = Stage()
    stage.look()
    stage.send()
    stage.send(address="10.0.0.2:3031")
    assert stage.pass_s(10) == []
    stage.send()
    assert [each.node.address for each in stage.pass_s(8) if each.node] == ["10.0.0.2:3031"]
    assert stage.addresses == ["10.0.0.1:3031"]


def test_while_we_ourselves_stood_still_nobody_was_silent() -> None:
    stage = Stage()
    stage.look()
    stage.send()
    stage.now += 60
    assert stage.look() == []
    assert [each.what for each in stage.pass_s(18)] == ["silent"]


def test_a_weight_that_nobody_has_said_is_one_and_one_has_an_end() -> None:
    stage = Stage()
    node = stage.send(weight=0, cores=10**9).node
    assert node is not None and (node.weight, node.cores) == (1, subscriptions.MOST_CORES)
    node = stage.send(weight=10**9).node
    assert node is not None and node.weight == subscriptions.MOST_WEIGHT


@pytest.mark.parametrize("name", wire.HOSTS)
def test_the_host_that_a_key_stands_for(name: str) -> None:
    key, host = wire.HOSTS[name]
    node = Stage().send(key=key.decode()).node
    assert node is not None and node.host == host


@pytest.mark.parametrize(
    ("said", "sender", "address"),
    [
        ("127.0.0.1:3031", REMOTE, "127.0.0.1:3031"),
        ("/run/a.sock", REMOTE, "/run/a.sock"),
        ("@a", REMOTE, "@a"),
        ("[2001:DB8::1]:80", REMOTE, "[2001:db8::1]:80"),
        (":3031", REMOTE, "192.0.2.7:3031"),
        ("0.0.0.0:3031", REMOTE, "192.0.2.7:3031"),
        ("[::]:3031", Sender("2001:db8::9", 1), "[2001:db8::9]:3031"),
        ("0.0.0.0:3031", LOCAL, "127.0.0.1:3031"),
    ],
)
def test_where_a_node_is(said: str, sender: Sender, address: str) -> None:
    node = Stage(allowed=Peers(("*",))).send(address=said, sender=sender).node
    assert node is not None and node.address == address


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8080",
        "0.0.0.0:8080",
        "a.example:80",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "1:2:3:4",
        "[::1%lo]:80",
        "/",
        "@",
        "x",
        ":",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    assert Stage().send(address=address).cause == "address"


@pytest.mark.parametrize("key", ["a b", "*", "a/b", "", "a:b:c"])
def test_a_key_that_is_no_host_is_refused(key: str) -> None:
    assert Stage().send(key=key).cause == "host"


def test_a_node_that_speaks_something_else_is_refused() -> None:
    assert Stage().send(proto="http").cause == "protocol"
    assert Stage().send(proto="uwsgi").what == "joined"


def test_unsigned_ones_are_taken_from_loopback_and_from_whom_is_named() -> None:
    stage = Stage()
    assert [stage.send(sender=each).what for each in (LOOPBACK, Sender("::1", 1), LOCAL)] == [
        "joined",
        "kept",
        "kept",
    ]
    assert stage.send(sender=REMOTE).cause == "sender"
    assert stage.send(sender=REMOTE, command=UNSUBSCRIBE).cause == "sender"
    assert stage.addresses == ["10.0.0.1:3031"]
    assert Stage(allowed=Peers(("192.0.2.0/24",))).send(sender=REMOTE).what == "joined"
    assert Stage(allowed=Peers(("192.0.2.0/24",))).send(sender=LOOPBACK).cause == "sender"


def test_where_signatures_are_asked_for_all_have_one_wherever_they_come_from() -> None:
    stage = Stage(signed=True)
    assert [stage.send(sender=each).cause for each in (LOOPBACK, LOCAL, REMOTE)] == ["unsigned"] * 3
    assert stage.send(signed(), REMOTE).what == "joined"
    stage.around.wrong = ("signature", "no")
    assert stage.send(signed(unix=WALL + 1), REMOTE).cause == "signature"
    assert stage.send(signed(unix=WALL + 2, command=UNSUBSCRIBE), REMOTE).cause == "signature"
    assert stage.table.refused == {"unsigned": 3, "signature": 2}


def test_local_users_who_need_not_sign() -> None:
    stage = Stage(signed=True, free_uids=frozenset((1000,)))
    assert stage.send(sender=LOCAL).what == "joined"
    assert stage.send(sender=Sender(UNIX, 0, 12, 0, 0)).cause == "unsigned"
    assert stage.send(sender=LOOPBACK).cause == "unsigned"


def test_a_signed_one_of_another_time_is_refused() -> None:
    stage = Stage(signed=True, clock_s=60.0)
    assert stage.send(signed(unix=WALL - 61)).cause == "time"
    assert stage.send(signed(unix=WALL + 61)).cause == "time"
    assert stage.send(signed(unix=WALL - 59)).what == "joined"


def test_one_that_is_sent_again_changes_nothing() -> None:
    stage = Stage(signed=True)
    first, left = signed(), signed(unix=WALL + 1, command=UNSUBSCRIBE)
    assert stage.send(first).what == "joined"
    assert stage.send(first).cause == "repeated"
    stage.now += 9
    second = signed(unix=WALL + 9)
    assert stage.send(second).what == "kept"
    assert stage.send(first).cause == "replayed"
    assert stage.send(left).cause == "replayed"
    leaves = signed(unix=WALL + 10, command=UNSUBSCRIBE)
    assert stage.send(leaves).what == "left"
    # uWSGI, which forgets a node that has left, would take these again for a day.
    assert [stage.send(each).cause for each in (first, second, leaves)] == [
        "replayed",
        "replayed",
        "repeated",
    ]
    # Back within the second: uWSGI counts the command into the time of what leaves.
    assert stage.send(signed(unix=WALL + 10)).what == "joined"
    assert stage.send(leaves).cause == "replayed"


def test_times_are_forgotten_when_they_are_too_old_to_be_taken_anyway() -> None:
    stage = Stage(signed=True, clock_s=20.0)
    stage.send(signed())
    stage.pass_s(21)
    assert not stage.table._seen
    assert stage.send(signed()).cause == "time"


def test_a_signed_one_that_listens_everywhere_is_where_it_says_and_not_where_it_came_from() -> None:
    # Where a datagram came from is not signed: whoever caught it could send it on from elsewhere.
    assert Stage(signed=True).send(signed(address="0.0.0.0:3031"), REMOTE).cause == "address"


def test_whose_key_it_is_is_told_by_who_owns_its_file() -> None:
    stage = Stage(owned=True)
    assert stage.send(sender=LOCAL).cause == "credentials"
    assert stage.send(sender=LOOPBACK).cause == "credentials"
    stage.around.owners["a.example"] = (1000, 1001)
    assert stage.send(sender=LOCAL).what == "joined"
    assert stage.send(sender=Sender(UNIX, 0, 1, 1000, 5)).cause == "credentials"
    assert stage.send(sender=LOOPBACK, command=UNSUBSCRIBE).cause == "credentials"


def test_nobody_subscribes_to_what_a_vassal_has() -> None:
    stage = Stage()
    stage.around.held["a.example"] = "shop"
    refused = stage.send()
    assert refused.cause == "held" and "shop" in refused.reason
    assert stage.send(key="b.example").what == "joined"


def test_there_is_an_end_to_hosts_and_to_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MOST_KEYS", 3)
    monkeypatch.setattr(subscriptions, "MOST_NODES_EACH", 2)
    monkeypatch.setattr(subscriptions, "MOST_NODES", 4)
    stage = Stage()
    sent = [
        stage.send(key=f"{host}.example", address=f"10.0.0.1:{port}") for host in "abcd" for port in (1, 2, 3)
    ]
    assert [each.what for each in sent] == ["joined", "joined", "refused"] * 2 + ["refused"] * 6
    assert len(stage.table) == 4
    assert stage.send(key="a.example", address="10.0.0.1:1").what == "kept"
    assert stage.send(key="a.example", address="10.0.0.1:1", command=UNSUBSCRIBE).what == "left"
    assert stage.send(key="c.example").what == "joined"
    assert stage.send(key="d.example").cause == "full"


def test_another_router_knows_what_this_one_knew() -> None:
    stage, other = Stage(signed=True), Stage(signed=True)
    stage.send(signed(sni_key="/etc/k.pem"))
    stage.now += 7
    other.now = 5000.0
    (node,) = stage.table.nodes()
    known = Node.from_json(node.to_json(stage.now), other.now)
    assert (known.seen, known.sni_key) == (4993.0, "/etc/k.pem")
    assert other.table.restore(known) and not other.table.restore(known)
    assert other.table.take(signed(), LOOPBACK, other.around, other.now, WALL).cause == "repeated"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"host": "a"},
        {"host": "a", "address": 1},
        {"host": "a", "address": "b", "age": -1},
        {"host": "a", "address": "b", "silent": "x"},
    ],
)
def test_what_is_no_node(document: object) -> None:
    with pytest.raises(ValueError, match="a node"):
        Node.from_json(document, 0.0)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(1, 3),
            st.sampled_from((SUBSCRIBE, UNSUBSCRIBE)),
            st.integers(0, 20),
        )
    )
)
def test_who_is_there_is_who_has_spoken_last_and_not_left(steps: list[tuple[str, int, int, int]]) -> None:
    stage = Stage()
    stage.look()
    model: dict[tuple[str, str], float] = {}
    for host, port, command, seconds in steps:
        stage.pass_s(seconds)
        model = {place: seen for place, seen in model.items() if stage.now - seen <= 17}
        place = (f"{host}.example", f"10.0.0.1:{port}")
        stage.send(key=place[0], address=place[1], command=command)
        if command == SUBSCRIBE:
            model[place] = stage.now
        else:
            model.pop(place, None)
        assert {(node.host, node.address): node.seen for node in stage.table.nodes()} == model
        assert len(stage.table) == len(model)


def test_every_cause_is_in_the_list() -> None:
    table = Subscriptions()
    for sent, _ in wire.REFUSED.values():
        with pytest.raises(SubscriptionError) as refusal:
            subscription.parse(sent)
        table.refuse(refusal.value.cause, str(refusal.value))
    assert set(table.refused) <= set(subscriptions.CAUSES)
