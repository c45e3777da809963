"""Taking over what a killed emperor left running. Done once, before the loop turns, with short time-outs.

Routers and gateways listen, so all that is needed is the run directory: a path leads to a process,
SO_PEERCRED names it, its own greeting must agree with that and with its start time, and a pidfd holds on to
it. Nothing is believed that only the process itself says.

A gateway may be in mid-spawn: bound, not listening yet. As long as somebody holds the bound socket it is
waited for; one that is too late meets a path that is gone, no emperor, and a spawner that has died, and
leaves by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from emperor.control.channel import Channel, ChannelClosed, ControlError
from emperor.supervisor import process, sockets, statefile
from emperor.supervisor.bells import MOST_SEATS, Bells
from emperor.supervisor.routers import ALONE, Listener
from emperor.supervisor.rundir import RunDir
from emperor.supervisor.statefile import GenerationState
from emperor.supervisor.wanted import ROUTERS

ANSWER_S = 3.0
LISTEN_S = 2.0


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...


@dataclass
class FoundRouter:
    """A living router, what it says it knows, and the sockets it handed back. `bells`: of each generation those that a
    router gets, by the vassal's name and the generation's number."""

    seat: int
    channel: Channel
    pid: int
    hello: dict[str, Any]
    listeners: list[Listener] = field(default_factory=list)
    backplanes: dict[str, socket.socket] = field(default_factory=dict)
    bells: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    def take_bells(self, name: str, generation: int, seats: int) -> Bells | None:
        """Those of this generation; None when there are not as many as it has seats."""
        found = self.bells.pop((name, generation), [])
        bells = Bells.adopted(found, self.seat) if found else None
        if bells is not None and bells.seats != min(seats, MOST_SEATS):
            bells.close()
            return None
        return bells

    def close_bells(self) -> None:
        """Those that nobody has taken."""
        for found in self.bells.values():
            Bells.adopted(found, self.seat).close()
        self.bells.clear()


@dataclass
class FoundGateway:
    """A living gateway, what it was started from, and its page."""

    state: GenerationState
    channel: Channel
    pid: int
    hello: dict[str, Any]
    page: int


@dataclass
class Found:
    """`peers` are routers that let clients in beside `router`; `leaving` those that finish what they have, or were to take the
    place of one and had not come to it. `dead` are generations of which only the state file is left."""

    router: FoundRouter | None = None
    peers: list[FoundRouter] = field(default_factory=list)
    leaving: list[FoundRouter] = field(default_factory=list)
    gateways: list[FoundGateway] = field(default_factory=list)
    dead: list[GenerationState] = field(default_factory=list)

    @property
    def routers(self) -> list[FoundRouter]:
        """All of them, the first one first."""
        return [*([] if self.router is None else [self.router]), *self.peers, *self.leaving]


def find(run_dir: RunDir, log: Logger) -> Found:
    """Everything that lives, and the remains of what does not, which are removed."""
    routers = [each for seat in range(ROUTERS) if (each := _router(run_dir, seat, log)) is not None]
    found = Found(leaving=sorted(routers, key=_rank))
    if found.leaving:
        found.router = found.leaving.pop()
    for each in reversed(found.leaving):
        if _lets_in(each):
            found.peers.append(each)
    found.leaving = [each for each in found.leaving if not _lets_in(each)]
    for state in statefile.read_all(run_dir.states):
        path = run_dir.gateway(state.name, state.generation)
        gateway = _gateway(path, state, log)
        if gateway is not None:
            found.gateways.append(gateway)
        else:
            found.dead.append(state)
    _sweep(run_dir, found)
    return found


def _lets_in(router: FoundRouter) -> bool:
    return router.hello.get("draining") is not True and router.hello.get("complete") is True


def _rank(router: FoundRouter) -> tuple[bool, bool, bool, int]:
    """The one that is to go on as the first has the most: it does not leave, lets clients in, has what one alone can have, and
    is the youngest of such."""
    hello = router.hello
    started = hello.get("start_time")
    return (
        hello.get("draining") is not True,
        hello.get("complete") is True,
        any(each.kind in ALONE for each in router.listeners),
        started if type(started) is int else 0,
    )


def _router(run_dir: RunDir, seat: int, log: Logger) -> FoundRouter | None:
    met = _meet(run_dir.router(seat), {}, None, log)
    if met is None:
        return None
    channel, pid, hello, fds = met
    _close_all(fds)
    router = FoundRouter(seat, channel, pid, hello)
    try:
        channel.send({"op": "handover", "id": 0})
        deadline = time.monotonic() + ANSWER_S
        while True:
            answer, fds = channel.receive_wait(max(0.0, deadline - time.monotonic()))
            if answer.get("re") != 0:
                _close_all(fds)
                continue
            _take(router, answer, fds)
            if answer.get("last") is True:
                return router
    except (ChannelClosed, TimeoutError, ValueError, KeyError, OSError) as error:
        log.warning(f"router {seat} (pid {pid}) does not hand its sockets over and is replaced: {error}")
        channel.close()
        for listener in router.listeners:
            listener.sock.close()
        for sock in router.backplanes.values():
            sock.close()
        router.close_bells()
        _kill(pid)
        return None


def _take(router: FoundRouter, answer: dict[str, Any], fds: list[int]) -> None:
    """One answer to `handover`: first the listeners, then the backplanes, then the bells, in the order of the descriptors."""
    listeners, backplanes = answer["listeners"], answer["backplanes"]
    bells = answer.get("bells", [])
    first = max(0, len(fds) - len(bells))
    for each, fd in zip(bells, fds[first:], strict=False):
        router.bells.setdefault((str(each["name"]), int(each["generation"])), []).append(fd)
    fds = fds[:first]
    socks = [socket.socket(fileno=fd) for fd in fds]
    for sock in socks:
        sock.setblocking(False)
    if len(listeners) + len(backplanes) != len(socks):
        for sock in socks:
            sock.close()
        raise ValueError(
            f"{len(socks)} descriptors for {len(listeners)} listeners and {len(backplanes)} backplanes"
        )
    for each, sock in zip(listeners, socks[: len(listeners)], strict=True):
        terms = each.get("terms")
        router.listeners.append(
            Listener(
                str(each["kind"]),
                str(each["address"]),
                sock,
                str(each.get("vassal", "")),
                terms if isinstance(terms, dict) else {},
            )
        )
    for each, sock in zip(backplanes, socks[len(listeners) :], strict=True):
        router.backplanes[str(each["name"])] = sock


def _gateway(path: str, state: GenerationState, log: Logger) -> FoundGateway | None:
    uid = os.geteuid() if state.reading.uid is None else state.reading.uid
    met = _meet(path, {"board": True}, uid, log)
    if met is None:
        return None
    channel, pid, hello, fds = met
    if len(fds) != 1 or (hello.get("name"), hello.get("generation")) != (state.name, state.generation):
        log.warning(f"{path}: pid {pid} is not the gateway {state.name}.{state.generation}; it is ended")
        _close_all(fds)
        channel.close()
        _kill(pid)
        return None
    return FoundGateway(state, channel, pid, hello, fds[0])


def _meet(
    path: str, wish: dict[str, Any], uid: int | None, log: Logger
) -> tuple[Channel, int, dict[str, Any], list[int]] | None:
    """Connect, greet, and make sure that the process is who it says it is. None: nobody is there."""
    channel = _connect(path)
    if channel is None:
        return None
    pid, peer_uid, _ = channel.peer()
    try:
        if pid <= 0 or (uid is not None and peer_uid != uid):
            raise ValueError(f"it is pid {pid} of uid {peer_uid}, which is not whom we started")
        pidfd = process.pidfd_open(pid)
        try:
            started = process.start_time(pid)
            hello, fds = channel.request(
                {"op": "hello", "pid": os.getpid(), "version": 1, **wish}, timeout_s=ANSWER_S
            )
            if (hello.get("pid"), hello.get("start_time")) != (pid, started):
                _close_all(fds)
                raise ValueError(f"pid {pid} does not say so itself")
        finally:
            os.close(pidfd)
    except (ChannelClosed, ControlError, TimeoutError, ProcessLookupError, ValueError) as error:
        log.warning(f"{path}: cannot be taken over: {error}")
        channel.close()
        if isinstance(error, TimeoutError):
            _kill(pid)
        return None
    return channel, pid, hello, fds


def _connect(path: str) -> Channel | None:
    deadline = time.monotonic() + LISTEN_S
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(path)
        except FileNotFoundError:
            sock.close()
            return None
        except OSError:
            sock.close()
            if time.monotonic() > deadline or not sockets.is_bound(path):
                return None
            time.sleep(0.01)
        else:
            return Channel(sock)


def _sweep(run_dir: RunDir, found: Found) -> None:
    """Remove the remains of what has died, so that nothing is taken for living."""
    living = {(each.state.name, each.state.generation) for each in found.gateways}
    keep = {run_dir.gateway(*each) for each in living} | {run_dir.state(*each) for each in living}
    routers = found.routers
    for each in routers:
        keep |= {run_dir.backplane(name, each.seat) for name in each.backplanes}
    for seat in {*range(ROUTERS)} - {each.seat for each in routers}:
        sockets.remove(run_dir.router(seat))
    for directory in ("gw", "bp", "state"):
        with os.scandir(os.path.join(run_dir.path, directory)) as entries:
            for path in [entry.path for entry in entries if entry.path not in keep]:
                with contextlib.suppress(OSError):
                    os.unlink(path)


def _kill(pid: int) -> None:
    """`pid` is what the kernel says of the socket's other end, never what that end says of itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
