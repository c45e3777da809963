"""The subscription server: what nodes say in datagrams becomes upstreams of the apps whose hosts they name.

A host that no vassal has becomes an app of its own for as long as it has nodes: no file, nobody's rights, the limits that a
vassal has which says nothing. One that a vassal has is the vassal's: only if its file says ``subscriptions = true`` do nodes
join its upstreams. Whether a packet counts is decided by the table (``subscriptions``); reading has a budget for each turn,
and what is refused is counted, and logged once a second at the most: of each node once, and then once a minute (``refusals``).

The emperor keeps a copy of the table for the router after this one.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from emperor.config.peers import UNIX, Peers, numeric
from emperor.config.settings import RouterSettings
from emperor.control.messages import RouterEntry
from emperor.protocol import packet, subscription
from emperor.protocol.subscription import LARGEST, Subscription, SubscriptionError
from emperor.router.refusals import Refusals
from emperor.router.signatures import Keys, owns
from emperor.router.subscriptions import CAUSES, Change, Node, Rules, Sender, Subscriptions
from emperor.router.terms import SHARED, Terms, plain

KIND: Final = "subscription"
"""Of its sockets, among the listeners."""

BUDGET: Final = 64
"""Datagrams read in one turn of the loop: to check a signature takes some 50 µs."""

NOTIFY_LIMIT: Final = 101
"""Bytes of the path that a node wants to be told at (uWSGI ``core/subscription.c``)."""

NODES_AT_ONCE: Final = 500
"""Of one message to or from the emperor."""

_CREDENTIALS: Final = struct.Struct("iII")


class Forwards(Protocol):
    """What is needed of an app's upstreams (``forwarding``)."""

    def join(self, node: Node) -> None: ...
    def leave(self, node: Node) -> None: ...


class Hosts(Protocol):
    """What is needed of the router."""

    settings: RouterSettings

    def log(self, level: str, text: str) -> None: ...
    def complain(self, key: str, level: str, text: str) -> None: ...

    def entries(self) -> Iterable[RouterEntry]:
        """Of the vassals."""

    def place(self, host: str, vassal: str) -> Forwards:
        """The upstreams of this vassal, or, without one, of the app of this host, which is made if it is not there."""

    def displace(self, host: str, hide: bool) -> None:
        """The app of this host has no node any more; `hide`: and a vassal has its host."""

    def is_own(self, address: str) -> bool:
        """Whether we listen there ourselves."""


class Datagrams:
    """One socket of the server, as a listener: read in the loop, some in each turn."""

    kind: Final = KIND

    def __init__(
        self,
        loop: Any,
        address: str,
        sock: socket.socket,
        received: Callable[[bytes, Sender], None],
        terms: Terms = SHARED,
    ) -> None:
        self.address = address
        self.sock = sock
        self.terms = terms
        self._loop = loop
        self._received = received
        self._reading = False
        sock.setblocking(False)

    @property
    def bound(self) -> str:
        """Where it really is, for people."""
        name = self.sock.getsockname()
        if isinstance(name, str):
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    async def start(self) -> None:
        """Begin to read."""
        if not self._reading and self.sock.fileno() >= 0:
            self._reading = True
            self._loop.add_reader(self.sock.fileno(), self.read)

    def pause(self) -> None:
        """There is no room for clients; a datagram takes none."""

    def close(self) -> None:
        """Let go of it; another router may read on."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.sock.fileno())
        self.sock.close()

    def read(self) -> None:
        """What is there, at most `BUDGET`."""
        for _ in range(BUDGET):
            try:
                data, ancillary, flags, sender = self.sock.recvmsg(LARGEST, 512)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # of a datagram that could not be read; the next is another matter
            credentials = _credentials(ancillary)
            if flags & socket.MSG_TRUNC:
                data = bytes(LARGEST + 1)
            if self.sock.family == socket.AF_UNIX:
                self._received(data, Sender(UNIX, 0, *credentials))
            else:
                self._received(data, Sender(plain(sender[0]), sender[1]))


class Subscribing:
    """The server of one router."""

    def __init__(
        self, hosts: Hosts, clock: Callable[[], float], wall: Callable[[], float] = time.time
    ) -> None:
        self._hosts = hosts
        self._clock = clock
        self._wall = wall
        self._keys: Keys | None = None
        self._owned: tuple[str, ...] = ()
        self._holders: dict[str, RouterEntry] = {}
        self.table = Subscriptions()
        self._refusals = Refusals()
        self.version = 0
        """Another number whenever nodes have come, gone or changed."""
        self._told = -1  # the version that the emperor has
        self._placed: dict[str, tuple[str, Forwards]] = {}  # by host: the vassal, or empty, and its upstreams
        self._ended = False
        self._copies = False  # another router hears the nodes, and says which there are
        self._copied: set[tuple[str, str]] = set()
        self.use(hosts.settings)

    # The settings

    def use(self, settings: RouterSettings) -> None:
        """These hold from now on."""
        check = settings.subscriptions_sign_check
        digest, _, directory = (check or "").partition(":")
        if self._keys is None or (self._keys.digest, self._keys.directory) != (digest, directory):
            self._keys = Keys(digest, directory) if check else None
        self._owned = tuple(settings.subscriptions_credentials_check)
        self.table.rules = Rules(
            tolerance_s=settings.subscription_tolerance_s,
            allowed=Peers(settings.subscription_allow),
            signed=bool(check),
            clock_s=settings.subscriptions_sign_check_tolerance_s,
            free_uids=frozenset(map(int, (settings.subscriptions_sign_skip_uid or "").split())),
            owned=bool(self._owned),
        )

    # subscriptions.Surroundings

    def signature(self, said: Subscription) -> tuple[str, str] | None:
        return None if self._keys is None else self._keys.why_not(said)

    def owns(self, key: str, uid: int, gid: int) -> bool:
        return owns(self._owned, key, uid, gid)

    def host(self, key: str) -> str:
        """A key that begins with a dot stands for whatever is below it (uWSGI ``subscription-dotsplit``)."""
        below = key.startswith(".")
        found = packet.host_of(key[below:].encode())
        if not found or found.startswith(b"."):
            return ""
        return "*." * below + found.decode("ascii", "replace")

    def holder(self, host: str) -> str:
        entry = self._holder(host)
        if entry is None or (entry.upstreams.subscriptions and host in entry.domains):
            return ""
        return entry.name

    def is_own(self, address: str) -> bool:
        return self._hosts.is_own(address)

    # What comes

    def received(self, data: bytes, sender: Sender) -> None:
        """One datagram."""
        try:
            said = subscription.parse(data)
        except SubscriptionError as error:
            self._refused(self.table.refuse(error.cause, str(error)), sender)
            return
        change = self.table.take(said, sender, self, self._clock(), self._wall())
        if change.what == "refused":
            self._refused(change, sender, said)
            return
        self._apply(change)
        if change.what == "joined" and said.notify and sender.address == UNIX:
            self._acknowledge(said)

    def look(self) -> None:
        """Once a second: who has been silent for too long leaves, and what was refused is told."""
        self._say_refused(self._refusals.due(self._clock()))
        if not self._ended and not self._copies:
            for change in self.table.look(self._clock(), self._wall()):
                self._apply(change)

    def end(self) -> None:
        """This router drains: what it has it keeps to its end, as nobody tells it anything any more."""
        self._ended = True

    def close(self) -> None:
        """The router ends: what was refused and is not told yet."""
        self._say_refused(self._refusals.rest(self._clock()))

    def vassals_changed(self) -> None:
        """Other vassals, or other names or files of them: what one of them has now is its own."""
        self._holders = {}
        for entry in self._hosts.entries():
            for domain in entry.domains:
                self._holders.setdefault(domain.partition("/")[0].lower(), entry)
        for host in list(self.table.hosts):
            holder = self.holder(host)
            if holder:
                self._hosts.log(
                    "warning",
                    f"{host}: the vassal {holder} has it now: those who had subscribed to it are left out",
                )
                for node in self.table.drop_host(host):
                    self._leave(node)
                self.version += 1
                self._unplace(host)
            elif host in self._placed and self._placed[host][0] != self._vassal(host):
                self._unplace(host)
                for node in self.table.hosts[host].values():
                    self._join(node)

    # What the emperor keeps

    def nodes(self, known: int, start: int) -> dict[str, Any]:
        """Those from `start` on, at most `NODES_AT_ONCE`, with `version`; nothing but that if it is `known`."""
        if known == self.version:
            return {"version": self.version}
        now = self._clock()
        nodes = list(self.table.nodes())[start : start + NODES_AT_ONCE]
        more = start + len(nodes) < len(self.table)
        if not more:
            self._told = self.version
        return {"version": self.version, "nodes": [each.to_json(now) for each in nodes], "more": more}

    def restore(self, documents: Iterable[Any]) -> None:
        """Know those of a router before this one. Raises ValueError."""
        now = self._clock()
        for document in documents:
            node = Node.from_json(
                {**document, "silent": 0} if isinstance(document, Mapping) else document, now
            )
            if not self.holder(node.host) and self.table.restore(node):
                self._join(node)
                self.version += 1

    def copy(self, documents: Iterable[Any], first: bool, last: bool) -> None:
        """Know those of the router that hears them, and no others, once the `last` of them have come; how long one has been
        silent is that router's matter. Raises ValueError."""
        now = self._clock()
        self._copies = True
        if first:
            self._copied = set()
        for document in documents:
            node = Node.from_json(document, now)
            self._copied.add((node.host, node.address))
            known = self.table.hosts.get(node.host, {}).get(node.address)
            if self.holder(node.host) or (known is not None and known.same(node)):
                continue
            self.table.drop(node.host, node.address)
            if self.table.restore(node):
                self._join(node)
        if not last:
            return
        for node in [each for each in self.table.nodes() if (each.host, each.address) not in self._copied]:
            self.table.drop(node.host, node.address)
            self._leave(node)
            if node.host not in self.table.hosts:
                self._unplace(node.host)
        self.version += 1
        self._told = self.version

    def listens(self) -> None:
        """From now on it hears them itself: whom it knew as a copy has time to speak again."""
        if self._copies:
            self._copies = False
            self.table.hear_all(self._clock())

    def report(self) -> dict[str, Any]:
        """For the statistics."""
        now = self._clock()
        return {
            "kept": int(self._told == self.version),
            "taken": self.table.taken,
            "refused": {cause: self.table.refused[cause] for cause in CAUSES},
            "nodes": [
                {
                    **{name: value for name, value in node.to_json(now).items() if name not in _UNTOLD},
                    "signed": int(node.signed),
                    "age": int(now - node.since),
                    "silent": int(now - node.seen),
                    "into": self._placed[node.host][0] if node.host in self._placed else "",
                }
                for node in self.table.nodes()
            ],
        }

    def named(self, vassal: str, name: str) -> Iterator[Node]:
        """Who has joined this vassal and serves this name, by the name itself before what it is below."""
        hosts, below = [name], name
        while below:
            _, _, below = below.partition(".")
            hosts.append(f"*.{below}")
        for host in hosts:
            if self._placed.get(host, ("", None))[0] == vassal:
                yield from self.table.hosts.get(host, {}).values()

    # Nodes and upstreams

    def _holder(self, host: str) -> RouterEntry | None:
        found = self._holders.get(host)
        if found is not None or host.startswith("*."):
            return found
        dot = host.find(".")
        while dot >= 0:
            found = self._holders.get("*" + host[dot:])
            if found is not None:
                return found
            dot = host.find(".", dot + 1)
        return None

    def _vassal(self, host: str) -> str:
        entry = self._holder(host)
        return entry.name if entry is not None else ""

    def _apply(self, change: Change) -> None:
        node = change.node
        if node is None or change.what == "nothing":
            return
        if change.what == "kept":
            self._join(node)  # with the load that it has now
            return
        self.version += 1
        if change.what in ("joined", "changed"):
            self._join(node)
        else:
            self._leave(node)
            if node.host not in self.table.hosts:
                self._unplace(node.host)
        text = {
            "joined": f"{node.host}: {node.address} has subscribed ({node.sender})",
            "left": f"{node.host}: {node.address} has unsubscribed",
            "silent": f"{node.host}: {node.address} has been silent for {self.table.rules.tolerance_s:g} s "
            "(subscription-tolerance), and is left out",
        }.get(change.what)
        if text:
            self._hosts.complain(f"subscription: {change.what}", "info", text)

    def _join(self, node: Node) -> None:
        if node.host not in self._placed:
            vassal = self._vassal(node.host)
            self._placed[node.host] = (vassal, self._hosts.place(node.host, vassal))
        self._placed[node.host][1].join(node)

    def _leave(self, node: Node) -> None:
        if node.host in self._placed:
            self._placed[node.host][1].leave(node)

    def _unplace(self, host: str) -> None:
        placed = self._placed.pop(host, None)
        if placed is None:
            return
        vassal, upstreams = placed
        if vassal:
            for node in self.table.hosts.get(host, {}).values():
                upstreams.leave(node)
        else:
            self._hosts.displace(host, bool(self._holder(host)))

    def _refused(self, change: Change, sender: Sender, said: Subscription | None = None) -> None:
        # Sent twice by the network, or in the first second of a uWSGI's life: nobody need look into it.
        if change.cause == "repeated":
            return
        what = f"subscription to {said.key!r} of {said.address}" if said is not None else "subscription"
        node = (said.key, said.address) if said is not None else ()
        self._say_refused(
            self._refusals.refused(
                (change.cause, sender.address, sender.uid, *node),
                f"{what} from {sender.text} refused ({change.cause}): {change.reason}",
                self._clock(),
            )
        )

    def _say_refused(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._hosts.log("warning", line)

    def _acknowledge(self, said: Subscription) -> None:
        """As uWSGI does, but only to who could send there itself: a datagram from elsewhere does not make us write."""
        if not said.notify.startswith("/") or len(said.notify.encode()) > NOTIFY_LIMIT:
            return
        text = f"[subscription ack] {said.key} => new node: {said.address}"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), said.notify)


_UNTOLD: Final = frozenset(("notify", "unix"))


def is_one_of(address: str, places: Iterable[str]) -> bool:
    """Whether a node's address is where one of ours listens; `places` are spelled as `Datagrams.bound` is."""
    host, _, port = address.rpartition(":")
    found = numeric(host.strip("[]"))
    for place in places:
        if place in (address, f"unix:{address}"):
            return True
        where, _, number = place.rpartition(":")
        if found is not None and found.is_loopback and number == port and where in ("0.0.0.0", "[::]"):
            return True
    return False


def _credentials(ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, int, int]:
    """pid, uid and gid of the sender, as the kernel tells; −1 where it does not. Descriptors that came along are closed."""
    found = (-1, -1, -1)
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            found = _CREDENTIALS.unpack_from(data)
        elif kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            for fd in fds:
                os.close(fd)
    return found
