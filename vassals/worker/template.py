"""The template of ``preload``: loads the app once, and is forked for each worker.

It makes no ZeroMQ context and starts no thread, since neither survives a fork. A worker of it is an ordinary one but that
its app is there already: `post-fork-hook` is for what must be its own. What the app has opened stays open in all.
"""

import atexit
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from vassals import tracing
from vassals.loaders import target
from vassals.loaders.place import PlaceError, settle_after
from vassals.worker import main, output
from vassals.worker.crew import CrewError

if TYPE_CHECKING:
    from emperor.control.messages import GatewaySpec

_ORDER_BYTES: Final = 4096
_MOST_FDS: Final = 4


def run_template(
    spec: "GatewaySpec", board_fd: int, orders: socket.socket, gateway: int, settle: Callable[[str], None]
) -> NoReturn:
    """Loads the app and forks workers as ``orders`` say, until that ends. ``settle(title)`` gives a worker its title, and
    has the kernel tell it when the gateway dies."""
    atexit._clear()
    if (logging := sys.modules.get("logging")) is not None:
        atexit.register(logging.shutdown)
    for fd in (board_fd, orders.fileno()):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    output.redirect()
    pid = os.getpid()
    gc.freeze()
    try:
        loaded = main.load(spec)
        settle_after(spec.app)
    except (PlaceError, target.LoadError, CrewError) as error:
        details = getattr(error, "details", "")
        if os.getpid() == pid:
            sys.stderr.write(f"the app cannot be loaded: {error}\n{details}")
            _tell(orders, state="failed", reason=str(error), traceback=details[-32768:])
        os._exit(main.EXIT_APP_FAILED)
    if spec.warm_up and os.getpid() == pid:
        _warm_up(spec, loaded)
    if os.getpid() != pid:
        os._exit(0)  # a child that the app forked while it was imported and that came back from there
    gc.enable()
    gc.collect()
    gc.freeze()
    _tell(orders, state="loaded", threads=_threads())
    while True:
        message, fds, _, _ = socket.recv_fds(orders, _ORDER_BYTES, _MOST_FDS)
        if not message:
            os._exit(0)
        order = json.loads(message)
        _fork(spec, loaded, order, fds, board_fd, orders, gateway, settle)
        for fd in fds:
            os.close(fd)


def _warm_up(spec: "GatewaySpec", loaded: "main.Loaded") -> None:
    """One request, whose imports, caches and compiled templates every worker then has. It is no test: what it
    answers is logged where it is an error."""
    if loaded[2] != "wsgi":
        sys.stderr.write(
            "preload-warm-up is for WSGI, and has no effect: an event loop does not survive a fork\n"
        )
        return
    from vassals.adapters.wsgi import Wsgi
    from vassals.worker.ready import Asked, request

    adapter = Wsgi(loaded[0], sys.stderr, multithread=spec.engine.slots > 1, multiprocess=spec.processes > 1)
    asked = Asked(request(spec.warm_up, spec.ready_host or "localhost"))
    reason = adapter.run(asked)
    if reason or asked.status >= 500 or asked.status == 0:
        sys.stderr.write(f"warm-up {spec.warm_up}: {reason or asked.told()}\n")


def _fork(
    spec: "GatewaySpec",
    loaded: "main.Loaded",
    order: dict[str, int],
    fds: list[int],
    board_fd: int,
    orders: socket.socket,
    gateway: int,
    settle: Callable[[str], None],
) -> None:
    number = order["seat"]
    try:
        read_end, write_end = os.pipe()
    except OSError as error:
        _tell(orders, state="unforked", seat=number, reason=f"cannot make a pipe: {error.strerror}")
        return
    said = b""
    try:
        between = os.fork()
        if between == 0:
            own = os.getpid()
            try:
                child = os.fork()
            except OSError as error:
                os.write(write_end, _no_room(error).encode())
                os._exit(1)
            if child == 0:
                os.close(read_end)
                os.close(write_end)
                _be_worker(spec, loaded, order, fds, board_fd, orders, own, gateway, settle)
            os.write(write_end, b"%d" % child)
            os._exit(0)
        # Told only when the worker has the gateway for its parent.
        with contextlib.suppress(ChildProcessError):  # an app that ignores SIGCHLD: it has ended all the same
            os.waitpid(between, 0)
        os.set_blocking(read_end, False)
        said = os.read(read_end, 4096)
    except BlockingIOError:
        said = b"the process between has died: is memory short?"
    except OSError as error:
        said = _no_room(error).encode()
    finally:
        os.close(read_end)
        os.close(write_end)
    if said.isdigit():
        _tell(orders, state="forked", seat=number, pid=int(said))
    else:
        _tell(orders, state="unforked", seat=number, reason=said.decode())


def _be_worker(
    spec: "GatewaySpec",
    loaded: "main.Loaded",
    order: dict[str, int],
    fds: list[int],
    board_fd: int,
    orders: socket.socket,
    between: int,
    gateway: int,
    settle: Callable[[str], None],
) -> NoReturn:
    code = main.EXIT_CRASHED
    try:
        leash_fd, write_fd, read_fd, trace_fd = fds
        orders.close()
        os.setsid()
        while os.getppid() == between:  # the gateway is our parent as soon as it has ended
            time.sleep(0.0005)
        settle(f"emperor worker {spec.title}.{spec.generation}/{order['seat']}")
        if os.getppid() != gateway:
            os._exit(0)
        tracing.own(trace_fd)
        os.dup2(write_fd, 1)
        os.dup2(write_fd, 2)
        os.close(write_fd)
        if not order["watches"]:
            import dataclasses

            spec = dataclasses.replace(spec, code_s=0.0, watched=())
        main.run_worker(spec, order["seat"], board_fd, socket.socket(fileno=leash_fd), read_fd, loaded)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _threads() -> list[str]:
    """Those that the app has started, Python's by their names."""
    names = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
    others = len(os.listdir("/proc/self/task")) - 1 - len(names)
    return names + [f"{others} of a library's"] * (others > 0)


def _no_room(error: OSError) -> str:
    return f"cannot fork a worker: {error.strerror} (a limit on processes: ulimit -u, TasksMax?)"


def _tell(orders: socket.socket, **what: object) -> None:
    try:
        orders.send(json.dumps(what).encode(), socket.MSG_NOSIGNAL)
    except OSError:
        os._exit(0)
