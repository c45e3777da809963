"""Who has subscribed: the table of keys and their nodes, and every rule about who may. Pure; both clocks are given.

As uWSGI's (``core/subscription.c``), but for what decision 0047 says: a node that has been silent for the tolerance is gone
at once and not when it is next asked for; a signed packet can be sent again neither after its node has left nor for another
command; nobody subscribes to what a vassal has; and there is an end to how many there may be.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from emperor.config.peers import UNIX, Peers, numeric
from emperor.protocol.subscription import SUBSCRIBE, UNSUBSCRIBE, Subscription

MOST_KEYS: Final = 1024
MOST_NODES: Final = 4096
MOST_NODES_EACH: Final = 256
MOST_SEEN: Final = 16384
"""Nodes whose last signed packet is remembered, those that have left included."""

MOST_WEIGHT: Final = 1000
MOST_CORES: Final = 65_536

STALL_S: Final = 2.0
"""The table is looked at once a second. Where that came later, what the nodes said waited with us."""

CAUSES: Final = (
    "malformed",
    "oversized",
    "sender",
    "unsigned",
    "key",
    "signature",
    "time",
    "replayed",
    "repeated",
    "credentials",
    "host",
    "address",
    "protocol",
    "held",
    "full",
)
"""Why a packet is refused; each is counted."""


@dataclass(frozen=True)
class Sender:
    """`address` is numeric, or UNIX for whoever sends to a unix socket of ours; then `uid` and the like are those that the
    kernel tells, else −1."""

    address: str = UNIX
    port: int = 0
    pid: int = -1
    uid: int = -1
    gid: int = -1

    @property
    def text(self) -> str:
        """For the log."""
        if self.address == UNIX:
            return f"unix (pid {self.pid}, uid {self.uid})"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Rules:
    """`tolerance_s`: a node that is silent for so long is gone. `allowed`: from whom unsigned packets are taken, where none
    have to be signed. `signed`: all have to be, but those of a local sender of one of `free_uids`, within `clock_s` of our
    clock. `owned`: the sender has to be who owns the key's file."""

    tolerance_s: float = 17.0
    allowed: Peers = field(default_factory=lambda: Peers(("127.0.0.0/8", "::1", "unix")))
    signed: bool = False
    clock_s: float = 300.0
    free_uids: frozenset[int] = frozenset()
    owned: bool = False


@dataclass(frozen=True)
class Node:
    """One node. `host` is whose requests it takes, as a route; `address` is spelled as uWSGI does (127.0.0.1:3031,
    /run/a.sock, @abstract). `since` and `seen` are seconds of the clock that the table is
    given; `unix` is what its last signed packet said."""

    host: str
    address: str
    modifier1: int = 0
    modifier2: int = 0
    cores: int = 0
    load: int = 0
    weight: int = 1
    backup: int = 0
    sni_key: str = ""
    sni_crt: str = ""
    sni_ca: str = ""
    notify: str = ""
    vassal: str = ""
    signed: bool = False
    sender: str = ""
    pid: int = -1
    uid: int = -1
    gid: int = -1
    unix: int = 0
    since: float = 0.0
    seen: float = 0.0

    def same(self, other: Node) -> bool:
        """Whether requests go to it as they did."""
        return all(getattr(self, name) == getattr(other, name) for name in _MEANS)

    def to_json(self, now: float) -> dict[str, Any]:
        """A dict ready for `json.dumps`; ages in place of times, which are another process's."""
        document = {name: getattr(self, name) for name in _KEYS}
        return {**document, "age": max(0.0, now - self.since), "silent": max(0.0, now - self.seen)}

    @classmethod
    def from_json(cls, document: Any, now: float) -> Node:
        """The inverse of `to_json`. Raises ValueError."""
        if not isinstance(document, dict):
            raise ValueError(f"a node: an object expected, not {type(document).__name__}")
        values = {}
        for name, kind in _KEYS.items():
            if name in document:
                if type(document[name]) is not kind:
                    raise ValueError(f"a node: {name}: {kind.__name__} expected, not {document[name]!r}")
                values[name] = document[name]
        if not (values.get("host") and values.get("address")):
            raise ValueError("a node: host and address expected")
        ages = [document.get(name, 0.0) for name in ("age", "silent")]
        if not all(type(age) in (int, float) and 0 <= age < 1e9 for age in ages):
            raise ValueError("a node: age and silent: seconds expected")
        return cls(**values, since=now - ages[0], seen=now - ages[1])


_KEYS: Final[dict[str, type]] = {
    "host": str,
    "address": str,
    "modifier1": int,
    "modifier2": int,
    "cores": int,
    "load": int,
    "weight": int,
    "backup": int,
    "sni_key": str,
    "sni_crt": str,
    "sni_ca": str,
    "notify": str,
    "vassal": str,
    "signed": bool,
    "sender": str,
    "pid": int,
    "uid": int,
    "gid": int,
    "unix": int,
}

_MEANS: Final = (
    *("host", "address", "modifier1", "modifier2", "cores", "weight", "backup"),
    *("sni_key", "sni_crt"),
)


class Surroundings(Protocol):
    """What the rules ask about the machine and the vassals."""

    def signature(self, subscription: Subscription) -> tuple[str, str] | None:
        """Why it is not signed as it should be: `key` or `signature`, and a text. None: it is."""

    def is_own(self, address: str) -> bool:
        """Whether we listen there ourselves: what goes there would come back."""

    def owns(self, key: str, uid: int, gid: int) -> bool:
        """Whether this user and group own the key's file."""

    def host(self, key: str) -> str:
        """The route that a key stands for; empty: it is none."""

    def holder(self, host: str) -> str:
        """The vassal that has this host and takes no subscriptions for it; empty: there is none."""


@dataclass(frozen=True)
class Change:
    """What became of a packet, or of time. `what` is `joined`, `changed`, `kept`, `left`, `silent`, `nothing` (an
    unsubscription of what is not there) or `refused`, with one of CAUSES and a `reason`."""

    what: str
    node: Node | None = None
    cause: str = ""
    reason: str = ""


class Subscriptions:
    """The table."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = Rules() if rules is None else rules
        self.hosts: dict[str, dict[str, Node]] = {}
        self.refused: Counter[str] = Counter()
        self.taken = 0
        self._seen: dict[
            tuple[str, str], tuple[int, int]
        ] = {}  # the time and command of each node's last signed packet
        self._count = 0
        self._looked = 0.0

    def __len__(self) -> int:
        return self._count

    def nodes(self) -> Iterable[Node]:
        """All of them."""
        return (node for nodes in self.hosts.values() for node in nodes.values())

    def take(
        self, subscription: Subscription, sender: Sender, around: Surroundings, now: float, wall: float
    ) -> Change:
        """A packet that has come: `now` is the table's clock, `wall` what a signed packet's time is compared with."""
        host = around.host(subscription.key)
        counts = self.rules.signed and not self._free(sender)
        address = _completed(subscription.address, None if counts else sender)
        why = (
            ("host", f"{subscription.key!r} is no host")
            if not host
            else ("address", f"{subscription.address!r} is no HOST:PORT of numbers, and no path")
            if not address
            else ("address", f"{address} is ours: what goes there would come back")
            if around.is_own(address)
            else ("protocol", f"a node that speaks {subscription.proto!r}: only uwsgi is spoken to one")
            if subscription.proto not in ("", "uwsgi")
            else self._why_not(subscription, sender, around, wall)
        )
        if why is None and (holder := around.holder(host)):
            why = ("held", f"the vassal {holder} has {host}, and its file does not say subscriptions = true")
        if why is None and subscription.command == SUBSCRIBE:
            why = self._why_full(host, address)
        place = (host, address)
        if why is None and counts:
            why = self._why_again(place, subscription)
        if why is not None:
            return self.refuse(*why)
        if counts:
            self._seen[place] = (subscription.unix, subscription.command)
        self.taken += 1
        if subscription.command == UNSUBSCRIBE:
            node = self.drop(host, address)
            return Change("nothing" if node is None else "left", node)
        return self._heard(_node(host, address, subscription, sender, now, counts))

    def refuse(self, cause: str, reason: str) -> Change:
        """Count what could not even be read."""
        self.refused[cause] += 1
        return Change("refused", None, cause, reason)

    def restore(self, node: Node) -> bool:
        """Know one that another router knew. False: there are too many, or it is known."""
        if node.address in self.hosts.get(node.host, {}) or self._why_full(node.host, node.address):
            return False
        self._heard(node)
        if node.unix:
            self._seen.setdefault((node.host, node.address), (node.unix, SUBSCRIBE))
        return True

    def hear_all(self, now: float) -> None:
        """As if each had just spoken."""
        self._looked = 0.0
        self.hosts = {
            host: {address: replace(node, seen=now) for address, node in nodes.items()}
            for host, nodes in self.hosts.items()
        }

    def drop(self, host: str, address: str) -> Node | None:
        """Forget one; what it was."""
        nodes = self.hosts.get(host)
        node = None if nodes is None else nodes.pop(address, None)
        if nodes is not None and not nodes:
            del self.hosts[host]
        self._count -= node is not None
        return node

    def drop_host(self, host: str) -> list[Node]:
        """Forget all of one host."""
        nodes = self.hosts.pop(host, {})
        self._count -= len(nodes)
        return list(nodes.values())

    def look(self, now: float, wall: float) -> list[Change]:
        """Once a second, when what has come has been taken: who has been silent for too long, and is forgotten."""
        late = now - self._looked if self._looked else 0.0
        self._looked = now
        if late > STALL_S:
            self.hosts = {
                host: {address: replace(node, seen=node.seen + late) for address, node in nodes.items()}
                for host, nodes in self.hosts.items()
            }
        oldest = wall - self.rules.clock_s
        for place in [place for place, (unix, _) in self._seen.items() if unix < oldest]:
            del self._seen[place]
        gone = [node for node in self.nodes() if now - node.seen > self.rules.tolerance_s]
        for node in gone:
            self.drop(node.host, node.address)
        return [Change("silent", node) for node in gone]

    def _why_not(
        self, subscription: Subscription, sender: Sender, around: Surroundings, wall: float
    ) -> tuple[str, str] | None:
        rules = self.rules
        if rules.signed and not self._free(sender):
            if not subscription.sign:
                return "unsigned", "it is not signed, and subscriptions-sign-check is set"
            if abs(wall - subscription.unix) > rules.clock_s:
                late = wall - subscription.unix
                return (
                    "time",
                    f"its time is {abs(late):.0f} s {'behind' if late > 0 else 'ahead of'} ours "
                    "(subscriptions-sign-check-tolerance)",
                )
            if (why := around.signature(subscription)) is not None:
                return why
        elif not rules.signed and sender.address not in rules.allowed:
            return "sender", "subscription-allow does not name its sender"
        if rules.owned:
            if sender.uid < 0:
                return (
                    "credentials",
                    "it comes without credentials, and subscriptions-credentials-check is set",
                )
            if not around.owns(subscription.key, sender.uid, sender.gid):
                return (
                    "credentials",
                    f"uid {sender.uid} and gid {sender.gid} own no file of this key in subscriptions-credentials-check",
                )
        return None

    def _free(self, sender: Sender) -> bool:
        return sender.uid >= 0 and sender.uid in self.rules.free_uids

    def _why_again(self, place: tuple[str, str], subscription: Subscription) -> tuple[str, str] | None:
        """uWSGI counts the command into the time, so that who leaves and comes back within a second is heard."""
        last = self._seen.get(place)
        if last is None:
            if len(self._seen) >= MOST_SEEN:
                return "full", f"the last times of {MOST_SEEN} nodes are remembered already"
            return None
        unix, command = last
        if subscription.unix > unix:
            return None
        if subscription.unix < unix:
            return "replayed", f"its time, {subscription.unix}, was over before the last that came ({unix})"
        if command == subscription.command:
            return "repeated", "it has come already"
        return None if command == UNSUBSCRIBE else ("replayed", "its node has come back since")

    def _why_full(self, host: str, address: str) -> tuple[str, str] | None:
        nodes = self.hosts.get(host)
        if nodes is None:
            if len(self.hosts) >= MOST_KEYS:
                return "full", f"{MOST_KEYS} hosts have nodes already"
        elif address in nodes:
            return None
        elif len(nodes) >= MOST_NODES_EACH:
            return "full", f"{host} has {MOST_NODES_EACH} nodes already"
        return ("full", f"there are {MOST_NODES} nodes already") if self._count >= MOST_NODES else None

    def _heard(self, node: Node) -> Change:
        nodes = self.hosts.setdefault(node.host, {})
        before = nodes.get(node.address)
        if before is None:
            nodes[node.address] = node
            self._count += 1
            return Change("joined", node)
        nodes[node.address] = node = replace(node, since=before.since)
        return Change("kept" if node.same(before) else "changed", node)


def _node(host: str, address: str, said: Subscription, sender: Sender, now: float, signed: bool) -> Node:
    return Node(
        host=host,
        address=address,
        modifier1=said.modifier1,
        modifier2=said.modifier2,
        cores=min(said.cores, MOST_CORES),
        load=said.load,
        weight=min(said.weight, MOST_WEIGHT) or 1,  # uWSGI sends 0 where nobody has said
        backup=said.backup,
        sni_key=_path(said.sni_key),
        sni_crt=_path(said.sni_crt),
        sni_ca=_path(said.sni_ca),
        notify=said.notify,
        vassal=said.vassal,
        signed=signed,
        sender=sender.text,
        pid=sender.pid,
        uid=sender.uid,
        gid=sender.gid,
        unix=said.unix,
        since=now,
        seen=now,
    )


def _path(text: str) -> str:
    """Where a key or certificate is. Of PEM itself no more than that it came: it is not used, and a private key is for nobody's
    statistics, nor for what the emperor keeps."""
    return "PEM" if "-----BEGIN" in text else text


def _completed(text: str, sender: Sender | None) -> str:
    """A node's address in one spelling; empty: it is none. One that listens everywhere is where its packet came from, unless
    that is signed, which where it came from is not (None)."""
    if text.startswith(("/", "@")):
        return text if 1 < len(text.encode()) <= 107 else ""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        return ""
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    found = numeric(inner) if inner and "%" not in inner else None
    if inner and found is None:
        return ""
    if found is None or found.is_unspecified:
        if sender is None:
            return ""
        found = numeric(sender.address) if sender.address != UNIX else ipaddress.ip_address("127.0.0.1")
        if found is None:
            return ""
    return f"[{found}]:{int(port)}" if found.version == 6 else f"{found}:{int(port)}"
