"""Paths and addresses that a tenant's file names are opened, bound and unlinked *as the tenant*: here, and nowhere else.

The emperor may be root, and a name that it opened for a tenant could be a symlink to what the tenant must not touch.
Checking the name first would be a race, so nothing is checked: a process that has become the tenant for good
(`as_tenant`) opens it, and the kernel judges. It is exec'd for each list of steps, since the emperor has threads and may
not fork; that costs some 20 ms of another processor and none of the emperor's time. A path may lead to a file system
that hangs: then the process is killed at its deadline, and only that tenant's steps have waited behind it.

Without a uid (the vassal runs as the emperor does) the steps are carried out in such a process all the same: there is
one way, and a hanging file system holds up nobody else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from emperor.control.channel import Channel, ChannelClosed
from emperor.supervisor import process, signals
from emperor.supervisor.children import Child, Children
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.process import Exit, StartError

DEADLINE_S = 10.0
"""A disc that needs longer for an open counts as hanging."""

AT_ONCE = 8
"""Processes at the same time; of one tenant there is one."""

_ROOT = str(Path(__file__).parents[2])
# Neither the environment nor site-packages: what is started as root and becomes a tenant reads nobody's files on its way.
_ARGV = (
    *(sys.executable, "-I", "-S", "-c"),
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from emperor.supervisor.as_tenant import main; main()",
    _ROOT,
)


@dataclass(frozen=True)
class Tenant:
    """Who a vassal runs as. None: as the emperor does (`gid` None with a `uid`: the group of its passwd entry).
    Supplementary groups are those of the user's entry, as its processes have them."""

    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class Append:
    """Open a regular file for appending, made with `mode` if it is not there. Gives a descriptor, `device`, `inode`, `size`.

    It may lie on a file system of the tenant's, where everything may hang, a close too: ask nothing of it but in a thread
    that may, and end it with `let_go`."""

    op: ClassVar[str] = "append"
    path: str
    mode: int = 0o640


@dataclass(frozen=True)
class Read:
    """Read a regular file, at most its first MiB. Gives the descriptor of a copy in memory, `device`, `inode`."""

    op: ClassVar[str] = "read"
    path: str


@dataclass(frozen=True)
class Write:
    """Make or overwrite a small regular file, which must be no symlink."""

    op: ClassVar[str] = "write"
    path: str
    content: str
    mode: int = 0o644


@dataclass(frozen=True)
class Remove:
    """Unlink a small regular file that holds exactly `content`."""

    op: ClassVar[str] = "remove"
    path: str
    content: str


@dataclass(frozen=True)
class Rename:
    """Rename a file, over what has the new name."""

    op: ClassVar[str] = "rename"
    path: str
    to: str


@dataclass(frozen=True)
class UnlinkSocket:
    """Unlink a unix socket if it is still the one of `device` and `inode`."""

    op: ClassVar[str] = "unlink-socket"
    path: str
    device: int
    inode: int


@dataclass(frozen=True)
class OpenFifo:
    """Open a FIFO for reading letters, made with mode 600 if nothing is there. Gives a descriptor that is never at its end,
    `device` and `inode`."""

    op: ClassVar[str] = "open-fifo"
    path: str


@dataclass(frozen=True)
class RemoveFifo:
    """Unlink a FIFO if it is still the one of `device` and `inode`."""

    op: ClassVar[str] = "remove-fifo"
    path: str
    device: int
    inode: int


@dataclass(frozen=True)
class BindUnix:
    """Listen at a path, or at an abstract name (a leading NUL). A stale socket is replaced, a living one is an error
    (EADDRINUSE). `owner` and `group`: the path's afterwards, which is for root, but for a group of the tenant's own. Gives
    a listening, non-blocking socket's descriptor, and for a path `device` and `inode`."""

    op: ClassVar[str] = "bind-unix"
    path: str
    mode: int = 0o660
    group: int | None = None
    backlog: int = 2048
    owner: int | None = None


@dataclass(frozen=True)
class DressSocket:
    """Give the unix socket that is still the one of `device` and `inode` another mode, and owner and group where they
    are not None."""

    op: ClassVar[str] = "dress-socket"
    path: str
    device: int
    inode: int
    mode: int
    owner: int | None = None
    group: int | None = None


@dataclass(frozen=True)
class BindTcp:
    """Listen at a numeric IPv4 or IPv6 address; port 0 lets the kernel choose. Ports below ip_unprivileged_port_start
    are refused by the kernel to a tenant that is not root. Gives a descriptor and `address` (host, port)."""

    op: ClassVar[str] = "bind-tcp"
    host: str
    port: int
    backlog: int = 2048


Step = (
    Append
    | Read
    | Write
    | Remove
    | Rename
    | UnlinkSocket
    | OpenFifo
    | RemoveFifo
    | BindUnix
    | DressSocket
    | BindTcp
)


@dataclass(frozen=True)
class Outcome:
    """What became of one step. `error` is empty when it went well, else what failed and why, beginning with the path or
    address; `code` is its errno, 0 without one. `fd` is the caller's to close, -1 for none."""

    error: str = ""
    code: int = 0
    fd: int = -1
    device: int = 0
    inode: int = 0
    size: int = -1
    address: tuple[str, int] | str = ""

    @property
    def ok(self) -> bool:
        return not self.error


Done = Callable[[list[Outcome]], None]


class _Job:
    def __init__(self, tenant: Tenant, steps: Sequence[Step], on_done: Done) -> None:
        self.tenant = tenant
        self.steps = tuple(steps)
        self.on_done = on_done
        self.channel: Channel | None = None
        self.child: Child | None = None
        self.timer: Timer | None = None

    def failed(self, why: str) -> list[Outcome]:
        return [
            Outcome(error=f"{_place(step)} {_VERBS[step.op]}{_as(self.tenant)}: {why}") for step in self.steps
        ]


class Tenants:
    """The emperor's way to act as its tenants. Nothing here blocks."""

    def __init__(self, loop: Loop, children: Children, deadline_s: float = DEADLINE_S) -> None:
        self._loop = loop
        self._children = children
        self._deadline_s = deadline_s
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []

    @property
    def quiet(self) -> bool:
        """Nothing is being done, and nothing waits."""
        return not self._running and not self._waiting

    def ask(self, tenant: Tenant, steps: Sequence[Step], on_done: Done) -> None:
        """Carry out `steps` as `tenant`, one after the other whatever becomes of each; then call `on_done`, once, from
        the loop, with an outcome for each. Steps of one tenant are carried out in the order asked."""
        self._waiting.append(_Job(tenant, steps, on_done))
        self._loop.call_soon(self._start_waiting)

    def close(self) -> None:
        """Forget what was asked; nobody is called any more."""
        self._waiting.clear()
        for job in self._running:
            self._end(job)
        self._running.clear()

    def _start_waiting(self) -> None:
        busy = {job.tenant for job in self._running}
        for job in list(self._waiting):
            if len(self._running) >= AT_ONCE:
                return
            if job.tenant in busy:
                continue
            busy.add(job.tenant)
            self._waiting.remove(job)
            self._start(job)

    def _start(self, job: _Job) -> None:
        try:
            channel, pid = _exec(job)
        except StartError as error:
            self._loop.call_soon(job.on_done, job.failed(str(error)))
            self._loop.call_soon(self._start_waiting)
            return
        self._running.append(job)
        job.channel = channel
        self._loop.watch_channel(channel, lambda: self._readable(job))
        job.timer = self._loop.call_later(self._deadline_s, self._late, job)
        with contextlib.suppress(
            ProcessLookupError
        ):  # it has ended, and was reaped: what it said is there to read
            job.child = self._children.watch(pid, _ignore)

    def _readable(self, job: _Job) -> None:
        assert job.channel is not None
        try:
            messages = job.channel.receive()
        except ChannelClosed:
            self._finish(job, job.failed("the process that should have done it died"))
            return
        if messages:
            self._finish(job, _outcomes(job, *messages[0]))

    def _late(self, job: _Job) -> None:
        self._finish(job, job.failed(_hangs(self._deadline_s)))

    def _finish(self, job: _Job, outcomes: list[Outcome]) -> None:
        self._running.remove(job)
        self._end(job)
        self._start_waiting()
        job.on_done(outcomes)

    def _end(self, job: _Job) -> None:
        assert job.channel is not None and job.timer is not None
        job.timer.cancel()
        self._loop.unwatch(job.channel.fileno())
        job.channel.close()
        if job.child is not None:
            job.child.signal(signal.SIGKILL)


def act(tenant: Tenant, steps: Sequence[Step], deadline_s: float = DEADLINE_S) -> list[Outcome]:
    """Carry out `steps` as `tenant` and wait for it: for commands and tests, never for the emperor's loop."""
    job = _Job(tenant, steps, _ignore)
    try:
        channel, pid = _exec(job)
    except StartError as error:
        return job.failed(str(error))
    try:
        return _outcomes(job, *channel.receive_wait(deadline_s))
    except ChannelClosed:
        return job.failed("the process that should have done it died")
    except TimeoutError:
        return job.failed(_hangs(deadline_s))
    finally:
        channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # our child and not waited for, so the number is its own
        os.waitpid(pid, 0)


def let_go(fd: int) -> None:
    """Close a tenant's file without waiting for it."""
    signals.start_deaf(threading.Thread(target=_close, args=(fd,), name="close", daemon=True))


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # it is closed all the same
        os.close(fd)


def _exec(job: _Job) -> tuple[Channel, int]:
    ours, theirs = socket.socketpair()
    try:
        pid = process.spawn_exec(_ARGV, {}, {3: theirs.fileno()}, "what acts as a tenant")
    except StartError:
        ours.close()
        raise
    finally:
        theirs.close()
    channel = Channel(ours)
    steps = [{"op": step.op, **asdict(step)} for step in job.steps]
    channel.send({"uid": job.tenant.uid, "gid": job.tenant.gid, "steps": steps})
    return channel, pid


def _outcomes(job: _Job, answer: dict[str, Any], fds: list[int]) -> list[Outcome]:
    if answer.get("ok") is not True:
        return job.failed(str(answer.get("error")))
    left = iter(fds)
    outcomes: list[Outcome] = []
    for step, told in zip(job.steps, answer["outcomes"], strict=True):
        if told["ok"]:
            address = told.get("address", "")
            outcomes.append(
                Outcome(
                    fd=next(left) if told["fd"] else -1,
                    device=told.get("device", 0),
                    inode=told.get("inode", 0),
                    size=told.get("size", -1),
                    address=(address[0], address[1]) if isinstance(address, list) else address,
                )
            )
        else:
            text = f"{_place(step)} {_VERBS[step.op]}{_as(job.tenant)}: {told['error']}"
            outcomes.append(Outcome(error=text, code=told["errno"]))
    return outcomes


_VERBS = {
    "append": "cannot be written",
    "read": "cannot be read",
    "write": "cannot be written",
    "remove": "cannot be removed",
    "rename": "cannot be renamed",
    "unlink-socket": "cannot be removed",
    "open-fifo": "cannot be read as a FIFO",
    "remove-fifo": "cannot be removed",
    "bind-unix": "cannot be listened on",
    "dress-socket": "cannot be given another mode or owner",
    "bind-tcp": "cannot be listened on",
}


def _place(step: Step) -> str:
    if isinstance(step, BindTcp):
        return f"[{step.host}]:{step.port}" if ":" in step.host else f"{step.host}:{step.port}"
    return "@" + step.path[1:] if step.path.startswith("\0") else step.path


def _as(tenant: Tenant) -> str:
    return "" if tenant.uid is None else f" as uid {tenant.uid}"


def _hangs(deadline_s: float) -> str:
    return f"no answer in {deadline_s:g} s: does its file system hang?"


def _ignore(_what: Exit | list[Outcome]) -> None:
    """What it said has been read, or its time was up: its end tells nothing more."""
