"""Accepting clients from a socket that the emperor bound."""

import asyncio
import contextlib
import inspect
import os
import select
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, Protocol, cast

from emperor.config.peers import UNIX
from emperor.protocol import proxy
from emperor.router.caps import whose
from emperor.router.front import RESET, Door, Front
from emperor.router.http import HttpConnection
from emperor.router.terms import SHARED, Ends, Terms
from emperor.router.uwsgi import UwsgiConnection
from emperor.supervisor.sockets import take_no_descriptors


class Connecting(Protocol):
    """What makes a connection of one kind."""

    def __call__(self, door: Door, terms: Terms = SHARED, ends: Ends | None = None) -> Front: ...


KINDS: Final[dict[str, Connecting]] = {"http": HttpConnection, "uwsgi": UwsgiConnection}

NO_ROOM_S: Final = 0.5
"""How long nobody is accepted when there is no descriptor left for a client (accept(2): EMFILE, ENFILE, ENOMEM)."""

_GOODBYE_S: Final = 600.0
"""The most that a TLS connection may take to close. Before that its front has ended it: it alone sees whether the client still
takes what was written."""

NOT_SENT: Final = 256 * 1024
"""Bytes of responses that the kernel takes for one client beyond what it may send (TCP_NOTSENT_LOWAT). By default it takes up
to four MiB, which nobody counts: of 64 clients that hardly read, 240 MiB, and all of it at once."""

_TURN: Final = 64
"""Clients accepted in one turn of the loop."""

_FEW: Final = 8
"""The same where descriptors are few: who is accepted is counted in the next turn."""

STEP: Final = 4
STEP_REST_S: Final = 0.002
PEAK_S: Final = 1.0
"""Among others, whoever has so many clients more than it has had in the last second lets those who come next wait for so long:
another router that had no core meanwhile takes them. With no more clients than before nobody waits, however often they come."""

FULL_REST_S: Final = 0.02
FULL_RESTS: Final = 10
FULL_S: Final = 1.0
"""Among others, whoever has its part of ``max-connections`` lets whoever comes wait for so long, and so often while he is still
there: another router has room, as a rule, and takes him. Where nobody has, all are full, and for a second nobody else waits for
that before he is told so."""

_AMONG_OTHERS: Final = 1
"""The same where other routers accept from the same socket: of 64 who come at once, the first to wake would have them all, for
as long as they stay (docs/decisions/0055)."""


class Listener:
    """One listening socket. ``kind`` is a key of ``KINDS``; ``address`` is what the emperor calls it; ``context`` is there
    when its clients speak TLS. ``one_by_one``: descriptors are few (``descriptors``). ``clients()``: how many there are, of all
    listeners; ``is_full(count)``: with so many
    more whom nobody has counted yet another one is one too many."""

    def __init__(
        self,
        door: Door,
        kind: str,
        address: str,
        sock: socket.socket,
        terms: Terms = SHARED,
        context: ssl.SSLContext | None = None,
        one_by_one: bool = False,
        clients: Callable[[], int] = lambda: 0,
        is_full: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self.door = door
        self.kind = kind
        self.address = address
        self.sock = sock
        self.terms = terms
        self.context = context
        if sock.family == socket.AF_UNIX:
            take_no_descriptors(sock)  # also where a tenant has bound it
        else:
            # What it accepts has it too.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)
        self._server: asyncio.Server | None = None
        shared = terms.among > 1
        self._is_plain = not terms.proxies and context is None
        self._by_hand = shared or one_by_one or not self._is_plain
        self._turn = _AMONG_OTHERS if shared else _FEW if one_by_one else _TURN
        self._shared = shared
        self._clients = clients
        self._is_full = is_full
        self._let_others = 0  # times that we have rested for somebody who waits
        self._all_full_until = 0.0
        self._peak = 0
        self._peak_at = 0.0
        self._accepting = False
        self._paused = False
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def bound(self) -> str:
        """Where it really listens, which the kernel may have chosen; a name for people."""
        name = self.sock.getsockname()
        if isinstance(name, bytes):
            return "@" + name[1:].decode(errors="replace")
        if isinstance(name, str):
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    def _front(self, ends: Ends | None = None) -> asyncio.Protocol:
        # A protocol in all but its base, which could not be a compiled type.
        return cast(asyncio.Protocol, KINDS[self.kind](self.door, self.terms, ends))

    def _tls(self) -> dict[str, Any]:
        if self.context is None:
            return {}
        return {
            "ssl": self.context,
            "ssl_handshake_timeout": self.door.deadlines.head_s,
            "ssl_shutdown_timeout": _GOODBYE_S,
        }

    async def start(self) -> None:
        """Begin to accept, or go on."""
        if self._closed or self._accepting or self._server is not None:
            return
        self._paused = False
        if self._by_hand:
            # A PROXY header, before TLS and the protocol, is read from the bare socket; and who is still inside it, or inside a
            # handshake, has to be counted.
            self.sock.setblocking(False)
            self.sock.listen(self.terms.backlog)
            self._accepting = True
            self.door.loop.add_reader(self.sock.fileno(), self._accept)
            return
        copy = socket.socket(fileno=os.dup(self.sock.fileno()))
        copy.setblocking(False)
        keys: dict[str, Any] = {"sock": copy, "backlog": self.terms.backlog, **self._tls()}
        if copy.family == socket.AF_UNIX:
            create: Callable[..., Any] = self.door.loop.create_unix_server
            if _takes(create, "cleanup_socket"):
                # From Python 3.13 on a server takes its path away when it closes, unless told not to: it is the emperor's.
                keys["cleanup_socket"] = False
        else:
            create = self.door.loop.create_server
        self._server = await create(self._front, **keys)

    def _accept(self) -> None:
        for _ in range(self._turn):
            if not self._accepting:
                return
            if self._shared and self._lets_others():
                self._rest(FULL_REST_S)
                return
            try:
                connection, peer = self.sock.accept()
            except BlockingIOError:
                self._let_others = 0
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self.door.log("error", f"{self.address}: no client can be accepted: {error.strerror}")
                self._rest(NO_ROOM_S)
                return
            if self._let_others:
                self._took_all_the_same()
            if self._is_plain:
                self._hold(self._take(connection))
            else:
                self._meet(connection, peer)
        if self._shared and self._grows():
            self._rest(STEP_REST_S)

    def _has_no_room(self) -> bool:
        # Those who have something to go through first are counted already (`_meet`).
        return self._is_full(len(self._tasks) if self._is_plain else 0)

    def _lets_others(self) -> bool:
        """There is no room here, and may be at another router."""
        if self._let_others >= FULL_RESTS or not self._has_no_room():
            return False
        if self.door.loop.time() < self._all_full_until:
            return False
        self._let_others += 1
        return True

    def _took_all_the_same(self) -> None:
        """Nobody else had room, unless there is some here by now."""
        self._let_others = 0
        if self._has_no_room():
            self._all_full_until = self.door.loop.time() + FULL_S

    def _grows(self) -> bool:
        """There are more clients than there have been lately."""
        now, count = self.door.loop.time(), self._clients()
        if now - self._peak_at > PEAK_S:
            self._peak, self._peak_at = count, now
        if count < self._peak + STEP:
            return False
        self._peak, self._peak_at = count, now
        return True

    async def _take(self, connection: socket.socket) -> None:
        """One that can be told at once if there is no room for it, and is counted then."""
        connection.setblocking(False)
        try:
            await self.door.loop.connect_accepted_socket(self._front, connection)
        except OSError:
            connection.close()

    def _rest(self, seconds: float) -> None:
        """The socket stays readable: without a pause the loop would do nothing but fail, or take what is for others."""
        self.door.loop.remove_reader(self.sock.fileno())
        self.door.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._accepting:
            self.door.loop.add_reader(self.sock.fileno(), self._accept)
            if self._let_others and not _someone_waits(self.sock):
                self._let_others = 0  # he has been taken, and who comes later is another one

    def _meet(self, connection: socket.socket, peer: Any) -> None:
        connection.setblocking(False)
        ends = Ends.of(peer, connection.getsockname())
        # By what the kernel says: of a proxy's clients nothing is known yet.
        who = "" if ends.client == UNIX or ends.peer in self.terms.proxies else whose(ends.client)
        if not self.door.meets(who):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
            self.door.missed(None, who)
            return
        self._hold(self._connect(connection, ends, who))

    def _hold(self, work: Coroutine[Any, Any, None]) -> None:
        # The loop itself holds a task only weakly.
        task = self.door.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket, ends: Ends, who: str) -> None:
        terms = self.terms
        try:
            if ends.peer in terms.proxies:
                ends, tls = await asyncio.wait_for(
                    _proxied(self.door.loop, connection, ends), self.door.deadlines.head_s
                )
                if tls:
                    terms = replace(terms, tls=True)  # of its client, who spoke TLS to the proxy
        except (proxy.ProxyError, TimeoutError, OSError) as error:
            connection.close()
            self.door.missed(None, who)
            if not isinstance(error, OSError) or isinstance(error, TimeoutError):
                self.door.count_error(400)
                why = str(error) or f"no whole PROXY header within {self.door.deadlines.head_s:g} s"
                self.door.complain(
                    f"PROXY {self.address}", "warning", f"{self.address}: {ends.text}: {why}; closed"
                )
            return
        front = KINDS[self.kind](self.door, terms, ends)
        self.door.met(front, who)
        try:
            await self.door.loop.connect_accepted_socket(
                lambda: cast(asyncio.Protocol, front), connection, **self._tls()
            )
        except (OSError, ssl.SSLError):
            connection.close()
        finally:
            self.door.missed(front, who)

    def pause(self) -> None:
        """Accept nobody until ``start``: who connects waits in the kernel."""
        self._paused = True
        if self._accepting:
            self._accepting = False
            self.door.loop.remove_reader(self.sock.fileno())
        elif self._server is not None:
            server, self._server = self._server, None
            server.close()

    def stop(self) -> None:
        """Accept no more, but what the kernel has already connected: those clients were promised an answer."""
        server = self._server
        if self._accepting:
            self._accepting = False
            self.door.loop.remove_reader(self.sock.fileno())
        elif server is not None:
            self._server = None
            server.close()
        elif self._paused:
            self._paused = False
        else:
            return
        self.sock.setblocking(False)
        while True:
            try:
                connection, peer = self.sock.accept()
            except OSError:
                return
            self._meet(connection, peer)

    def close(self) -> None:
        """Let go of the socket; the emperor's copy stays open."""
        self._closed = True
        self.stop()
        self.sock.close()


def _someone_waits(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _takes(function: Callable[..., Any], parameter: str) -> bool:
    """Whether this version of the loop knows a parameter."""
    try:
        return parameter in inspect.signature(function).parameters
    except ValueError:  # compiled, and without a signature to look at
        return False


async def _proxied(loop: asyncio.AbstractEventLoop, sock: socket.socket, ends: Ends) -> tuple[Ends, bool]:
    """The ends that a PROXY header names, and whether its client came over TLS. Takes not one byte more. Raises ProxyError
    and OSError."""
    head = b""
    while True:
        await _readable(loop, sock)
        try:
            seen = sock.recv(proxy.V2_HEAD + proxy.V2_LIMIT - len(head), socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if not seen:
            raise ConnectionAbortedError
        found = proxy.read(head + seen)
        size = found if isinstance(found, int) else found.size
        head += sock.recv(size - len(head))
        if isinstance(found, int):
            continue
        if found.client == UNIX:
            return ends, found.tls
        return Ends(found.client, found.client_port, found.server, found.server_port), found.tls


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    waiting = loop.create_future()

    def ready() -> None:
        loop.remove_reader(sock.fileno())
        if not waiting.done():
            waiting.set_result(None)

    loop.add_reader(sock.fileno(), ready)
    try:
        await waiting
    finally:
        loop.remove_reader(sock.fileno())


def tls_context(pem_fd: int, ciphers: str = "") -> ssl.SSLContext:
    """A server's context, TLS 1.2 and later, from a descriptor that holds a key and its certificates as PEM. Raises
    OSError (SSLError is one)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    if ciphers:
        made.set_ciphers(ciphers)
    # There is no way to load a chain from memory; the descriptor has a name all the same.
    made.load_cert_chain(f"/proc/self/fd/{pem_fd}")
    return made
