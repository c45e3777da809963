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

import gc
import json
import os
import signal
import socket
import sys
import traceback
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from emperor import allocator
from emperor.config.spec import AppSpec
from emperor.control.channel import Channel
from emperor.control.messages import GatewaySpec
from emperor.supervisor import signals
from vassals import pages
from vassals.gateway.main import Gateway, read_spec
from vassals.gateway.workers import Workers
from vassals.loaders import imports, place
from vassals.worker import main, output
from vassals.worker.orders import Orders

TIMES = 16
"""After eight calls CPython 3.11 makes a function's instructions fit, after some more it has done so."""

_APP_DIR = os.path.dirname(__file__)
_APP = "stage"

_POOL_BYTES = 16384
_POOL_HEAD_BYTES = 48
_LARGEST_BYTES = 512
"""Of CPython's allocator: blocks of one size class lie in a pool behind its head (obmalloc.c, 3.10 and later)."""

_STILL = (
    "__main__",
    "dataclasses.fields",
    "emperor.config.",
    "emperor.control.",
    "emperor.log",
    "emperor.privileges",
    "emperor.supervisor.",
    "socket._intenum_converter",
    "socket.socket.",
    "socket.socketpair",
    "vassals.atfork",
    "vassals.bells",
    "vassals.gateway.",
    "vassals.loaders.",
    "vassals.tracing",
    "vassals.worker.main",
    "vassals.worker.orders",
    "vassals.worker.output",
)
"""Modules whose functions a fork calls a few times, most of them once, and an app seldom: what it costs to open a
socket is not the interpreter's."""
_OFTEN = (
    "emperor.control.channel.Channel._push",
    "emperor.control.channel.Channel.flush",
    "emperor.control.channel.Channel.send",
    "emperor.control.channel._frame",
    "emperor.log.ChannelSink.lines",
    "emperor.supervisor.loop.Loop._call",
    "emperor.supervisor.loop.Loop._wait_ms",
    "emperor.supervisor.loop.Loop.step",
    "vassals.gateway.lines.",
    "vassals.gateway.output.Output._",
    "vassals.gateway.output.Output.relay",
    "vassals.worker.output.Outlet._",
    "vassals.worker.output.Outlet.write",
)
"""Of these, what is run for every line that an app writes: it is to adapt itself."""

_MOST_GAPS = 20000

_gaps: list[object] = []


def keep_still() -> int:
    """Before the rehearsal: let no code of `_STILL` adapt itself; how many there are."""
    found = 0
    for each in gc.get_objects():
        name = f"{each.__module__}.{each.__qualname__}" if type(each) is FunctionType else ""
        if name.startswith(_STILL) and not name.startswith(_OFTEN):
            codes: list[object] = [each.__code__]
            while codes:
                code = codes.pop()
                if type(code) is CodeType:
                    found += pages.keep_still(code)
                    codes += code.co_consts
    return found


def rehearse() -> None:
    """Do it all `TIMES` times. What goes wrong is said and does no harm: forks work without."""
    try:
        for _ in range(TIMES):
            _gateway()
        for _ in range(TIMES):
            _worker()
    except Exception:
        traceback.print_exc()


def stand_in() -> object:
    """A gateway that has played its part. The spawner holds it, and each fork lets go of it before it makes its own, in its
    place: then the classes, functions and names that this has to do with are referred to as often as in the spawner."""
    try:
        return _gateway()
    except Exception:
        traceback.print_exc()
        return None


def fill_gaps() -> None:
    """Take every free block of pools, and of the C library's heap, so that a fork's come from fresh ones."""
    allocator.use_up()
    for size in range(16, _LARGEST_BYTES + 1, 16):
        in_a_pool = (_POOL_BYTES - _POOL_HEAD_BYTES) // size
        run, before = 0, 0
        for _ in range(_MOST_GAPS):
            block = _block(size)
            _gaps.append(block)
            here = id(block)
            at_first = here % _POOL_BYTES == _POOL_HEAD_BYTES
            run = 1 if at_first else run + 1 if run and here == before + size else 0
            if run == in_a_pool:
                break  # all blocks of a pool in their order: a fresh one, and it is taken when no other has any
            before = here


def _block(size: int) -> object:
    """An object that takes one block of that size, and is no collector's."""
    if size == 16:
        return object()
    if size == 32:
        return float(len(_gaps))
    return bytes(size - bytes.__basicsize__)


def _play(gateway: Gateway, emperor: Channel, worker: socket.socket) -> None:
    """From the first connection to a worker that is ready and has said something."""
    gateway._loop.step()
    emperor.send({"op": "hello", "id": 1, "pid": 1, "version": 1})
    gateway._loop.step()
    for state in ("loaded", "ready"):
        worker.send(json.dumps({"state": state}).encode() + b"\n")
        gateway._loop.step()
    os.write(gateway._output.pipe(0).write_fd, b"-\n")
    gateway._loop.step()
    emperor.receive()


def _close(gateway: Gateway) -> None:
    gateway._loop.close()
    gateway._control.close(flush_s=0.0)
    for worker in gateway._workers._workers.values():
        worker.close()
    pipe = gateway._output.pipe(0)
    os.close(pipe.read_fd)
    os.close(pipe.write_fd)


def _gateway() -> Gateway:
    fd = os.memfd_create("emperor-spec", os.MFD_CLOEXEC)
    spec = _spec(AppSpec(module=_APP))
    os.write(fd, json.dumps(spec.to_json()).encode())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # an abstract name of the kernel's choice
    alive, spawner = os.pipe()
    hangup = signals.set_action(signal.SIGHUP, signals.SIG_IGN)
    trusted = frozenset((0, os.getuid()))
    ends: list[socket.socket] = []

    def fork(become: Any) -> int:
        """The worker that is started is a socket."""
        ends.append(become.args[3].dup())  # the leash
        return 0

    # Of the very classes that a fork uses: what is learnt of a class, and the names of its attributes, are that class's own.
    workers = partial(Workers, fork=fork)
    gateway = Gateway(read_spec(fd), listener, trusted_uids=trusted, workers=workers)
    try:
        gateway.begin(alive, "")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(listener.getsockname())
            _play(gateway, Channel(sock), *ends)
    finally:
        _close(gateway)
        for end in ends:
            end.close()
        listener.close()
        signals.set_action(signal.SIGHUP, signals.SIG_DFL if hangup is None else hangup)
        os.close(alive)
        os.close(spawner)
    return gateway


def _spec(app: AppSpec) -> GatewaySpec:
    return GatewaySpec(
        name="-",
        generation=1,
        app=app,
        processes=1,
        endpoint="",
        token="0" * 64,
        config_path=__file__,
        title="-",
    )


def _worker() -> None:
    """From the first word to the app, which is found in a directory that nothing was imported from before, as a vassal's is."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path, argv, cached = sys.path[:], sys.argv[:], sys.dont_write_bytecode
    finders, known = sys.meta_path[:], set(sys.path_importer_cache)
    leash, gateway = socket.socketpair()
    reader, writer = os.pipe()
    try:
        orders = Orders(leash, 8.0)
        outlet = output.text_outlet(writer)
        outlet.write("-\n")
        outlet.close()
        app = AppSpec(module=_APP, pythonpath=(_APP_DIR,))
        spec = _spec(app)
        sys.dont_write_bytecode = True
        imports.seated(-1, -1, orders)
        main.load(spec)
        place.settle_after(app)
        imports.imported()
        orders.tell("loaded")
        gateway.send(b'{"op": "routers", "routers": [[0, "ipc://-"]]}\n')
        orders.take()
        orders.turn()
        orders.fds()
    finally:
        sys.modules.pop(_APP, None)
        sys.path[:], sys.argv[:], sys.dont_write_bytecode = path, argv, cached
        sys.meta_path[:] = finders
        for each in set(sys.path_importer_cache) - known:
            del sys.path_importer_cache[each]
        imports.Here.spec = imports.Here.orders = None
        os.fchdir(here)
        for fd in (here, reader, writer):
            os.close(fd)
        leash.close()
        gateway.close()
