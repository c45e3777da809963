"""What every fork of the spawner will do, done once by the spawner itself with nothing behind it.

A gateway and a worker run some three hundred functions before they come to rest, and the interpreter writes down what it learns
on the way: instructions made fit for the types that they meet, which method belongs to which name, tables of a size that is
enough. Learnt in each fork, that is pages of memory in each fork; learnt here, the forks have it in common, and find at rest
that a page is what it was (`pages`).

For the same reason no gap is left in pages that are partly taken (`fill_gaps`): what a fork makes lies together, and not a
little of it in each of a hundred pages.

Nothing here is for what it does, and nothing may remain of it: no descriptor, no signal's action, no module, no directory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback

from emperor import allocator
from emperor.config.spec import AppSpec
from emperor.control.channel import Channel
from emperor.control.messages import GatewaySpec
from emperor.supervisor import signals
from vassals import tracing
from vassals.gateway.leash import Worker
from vassals.gateway.main import Gateway, read_spec
from vassals.gateway.workers import Workers
from vassals.loaders import place, target
from vassals.worker.orders import Orders
from vassals.worker.output import Outlet

TIMES = 16
"""After eight calls CPython 3.11 makes a function's instructions fit, after some more it has done so."""

_APP = "vassals.stage"

_POOL_BYTES = 16384
_POOL_HEAD_BYTES = 48
_LARGEST_BYTES = 512
"""Of CPython's allocator: blocks of one size class lie in a pool behind its head (obmalloc.c, 3.10 and later)."""

_gaps: list[bytes] = []


def rehearse() -> None:
    """Do it all `TIMES` times. What goes wrong is said and does no harm: forks work without."""
    try:
        for _ in range(TIMES):
            _gateway()
        for _ in range(TIMES):
            _worker()
    except Exception:
        traceback.print_exc()


def fill_gaps() -> None:
    """Take every free block of pools, and of the C library's heap, so that a fork's come from fresh ones."""
    allocator.use_up()
    for size in range(_POOL_HEAD_BYTES, _LARGEST_BYTES + 1, 16):
        before = 0
        for _ in range(20000):
            block = bytes(size - bytes.__basicsize__)
            _gaps.append(block)
            here = id(block) % _POOL_BYTES
            if before == _POOL_HEAD_BYTES and here == _POOL_HEAD_BYTES + size:
                break  # the first two blocks of a pool one after the other: a fresh one
            before = here


class _Workers(Workers):
    """The worker that is started is a socket."""

    def start(self, number: int) -> None:
        self._output.pipe(number)
        leash, self.worker = socket.socketpair()
        self.seat(number, Worker(0, leash, tracing.new_file(), True))

    def close(self) -> None:
        self.worker.close()
        for worker in self._workers.values():
            worker.close()
        pipe = self._output.pipe(0)
        os.close(pipe.read_fd)
        os.close(pipe.write_fd)


class _Gateway(Gateway):
    """One whose worker is a socket."""

    _workers: _Workers

    def play(self, emperor: Channel) -> None:
        """From the first connection to a worker that is ready and has said something."""
        self._loop.step()
        emperor.send({"op": "hello", "id": 1, "pid": 1, "version": 1})
        self._loop.step()
        for state in ("loaded", "ready"):
            self._workers.worker.send(json.dumps({"state": state}).encode() + b"\n")
            self._loop.step()
        os.write(self._output.pipe(0).write_fd, b"-\n")
        self._loop.step()
        emperor.receive()

    def close(self) -> None:
        self._loop.close()
        self._control.close(flush_s=0.0)
        self._workers.close()


def _gateway() -> None:
    fd = os.memfd_create("emperor-spec", os.MFD_CLOEXEC)
    app = AppSpec(module=_APP)
    spec = GatewaySpec(
        name="-", generation=1, app=app, processes=1, endpoint="", token="0" * 64, config_path="", title="-"
    )
    os.write(fd, json.dumps(spec.to_json()).encode())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # an abstract name of the kernel's choice
    alive, spawner = os.pipe()
    hangup = signals.set_action(signal.SIGHUP, signals.SIG_IGN)
    trusted = frozenset((0, os.getuid()))
    gateway = _Gateway(read_spec(fd), listener, trusted_uids=trusted, workers=_Workers)
    try:
        gateway.begin(alive, "")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(listener.getsockname())
            gateway.play(Channel(sock))
    finally:
        gateway.close()
        listener.close()
        signals.set_action(signal.SIGHUP, signals.SIG_DFL if hangup is None else hangup)
        os.close(alive)
        os.close(spawner)


def _worker() -> None:
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path, argv, cached = sys.path[:], sys.argv[:], sys.dont_write_bytecode
    leash, gateway = socket.socketpair()
    reader, writer = os.pipe()
    try:
        orders = Orders(leash, 8.0)
        outlet = Outlet(writer)
        outlet.write(b"-\n")
        outlet.close()
        spec = AppSpec(module=_APP)
        place.settle(spec, __file__)
        sys.dont_write_bytecode = True
        target.load(spec)
        place.settle_after(spec)
        orders.tell("loaded")
        gateway.send(b"{}\n")
        orders.take()
        orders.fds()
    finally:
        sys.modules.pop(_APP, None)
        sys.path[:], sys.argv[:], sys.dont_write_bytecode = path, argv, cached
        os.fchdir(here)
        for fd in (here, reader, writer):
            os.close(fd)
        leash.close()
        gateway.close()
