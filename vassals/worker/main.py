"""Assembly of a worker: surroundings, app, link, and the loop between them.

Nothing here is on the path of a request but the four lines of the loop; with `threads` or `gevent` the loop is in
`vassals.worker.shared`, for an ASGI app in `vassals.worker.aio`, with `wsgi-on-loop` in `vassals.worker.onloop`. A worker's
exit code tells its
gateway whose turn it is: 0 it left as asked, 70 the app could not be loaded (the reason went over the leash
first), 71 the page or the endpoint are unusable; anything else is a crash.
"""

import atexit
import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from functools import partial
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Final, NoReturn

from emperor.protocol.errors import BoardError
from emperor.protocol.scoreboard import Board
from vassals import bells, pages
from vassals.adapters.wsgi import Wsgi
from vassals.loaders import imports, target
from vassals.loaders.place import PlaceError, settle, settle_after
from vassals.worker import output
from vassals.worker.crew import Crew, CrewError, HookError
from vassals.worker.lines import Lines
from vassals.worker.link import Link
from vassals.worker.orders import Orders, set_action

if TYPE_CHECKING:
    from collections.abc import Callable

    from emperor.control.messages import GatewaySpec
    from vassals.adapters.answer import Answer
    from vassals.worker.hooks import WorkerHooks
    from vassals.worker.wear import Wear

EXIT_LEFT: Final = 0
EXIT_CRASHED: Final = 1
EXIT_APP_FAILED: Final = 70
EXIT_LINK_UNUSABLE: Final = 71

FIRST_SEAT: Final = 1000
"""Of routers on other hosts, among the seats of those that share the page."""

_DETAILS_LIMIT: Final = 32 * 1024

_WAITED_S: Final = 1.0
"""So long a worker that has left waits for threads of the app before it says so."""


def run_worker(
    spec: "GatewaySpec",
    seat: int,
    board_fd: int,
    leash: socket.socket,
    log_read_fd: int,
    loaded: "Loaded | None" = None,
) -> NoReturn:
    """Serves ``spec``'s app on ``seat`` until asked to leave, then exits the process.

    Called in a process of its own whose descriptors 0, 1 and 2 are set and which has no threads. ``board_fd``
    is the page, ``leash`` a socketpair to the gateway. ``log_read_fd`` is the read end of the log pipe and is
    only kept open: as long as this process lives, no write to the pipe can fail for want of a reader. ``loaded`` is what a
    template has loaded.
    """
    # What the gateway or the spawner wanted done at exit is theirs to do; what an app in a template did, is its workers'.
    if loaded is None:
        atexit._clear()
        if (logging := sys.modules.get("logging")) is not None:
            atexit.register(logging.shutdown)
    code = EXIT_CRASHED
    try:
        for fd in (board_fd, leash.fileno(), log_read_fd):
            os.set_inheritable(fd, False)
        set_action(signal.SIGPIPE, int(signal.SIG_IGN))
        output.redirect()
        code = _serve(spec, seat, board_fd, Orders(leash, spec.stop_timeout_s), loaded)
    except BaseException:
        traceback.print_exc()
    _depart(code)


Loaded = tuple[Any, "Crew | None", str]
"""The app, who runs its requests, and what it speaks, ``wsgi`` or ``asgi``."""


def load(spec: "GatewaySpec") -> Loaded:
    """Enters the surroundings and loads the app. Raises PlaceError, LoadError, CrewError."""
    crew = _crew(spec)
    imports.offer(spec)
    if not _enters_code(spec):
        _make_finders()
        target.find(spec.app)
        pages.give_back()
        pages.unsee()
    app, interface = _load(spec)
    if interface == "asgi":
        if spec.engine.gevent:
            raise target.LoadError("gevent = N is for WSGI, and this is an ASGI app", "")
        crew = None
    return app, crew, interface


def _enters_code(spec: "GatewaySpec") -> bool:
    """Whether what the app is loaded in is code of the tenant's already: a virtualenv's, or gevent."""
    return spec.app.virtualenv is not None or bool(spec.engine.gevent)


def _make_finders() -> None:
    """What the first import would do for each directory of the path; what is no directory is left to it."""
    known = sys.path_importer_cache
    for entry in [each for each in sys.path if each not in known]:
        if PathFinder._path_importer_cache(entry) is None:  # type: ignore[attr-defined]
            known.pop(entry, None)


def _serve(
    spec: "GatewaySpec", seat: int, board_fd: int, orders: Orders, loaded: "Loaded | None" = None
) -> int:
    pid = os.getpid()
    path = sys.path[:]
    # A collection writes to every object that it looks at: those that are shared with the gateway are to stay
    # so.
    gc.freeze()
    # Until a moment at which nothing but our own code has run here, and so could have left anything that writes to memory: here
    # or in `load`.
    if loaded is None:
        pages.see_as_tenant()
        if _enters_code(spec):
            pages.give_back()
            pages.unsee()
    imports.seated(seat, board_fd, orders)
    try:
        app, crew, interface = load(spec) if loaded is None else loaded
        if loaded is None:
            settle_after(spec.app)
        if imports.imported():
            from vassals import shim

            shim.after_fork(orders)
        hooks = _hooks(spec, orders)
    except (PlaceError, target.LoadError, CrewError, HookError) as error:
        details = getattr(error, "details", "")[-_DETAILS_LIMIT:]
        if os.getpid() == pid:
            sys.stderr.write(f"the app cannot be loaded: {error}\n{details}")
            orders.tell("failed", reason=str(error), traceback=details)
        return EXIT_APP_FAILED
    if os.getpid() != pid:
        os._exit(EXIT_LEFT)  # a child that the app forked while it was imported and that came back from there
    # What was imported lives as long as the worker: no collection need look at it again.
    if loaded is None:
        gc.enable()
        gc.collect()
        gc.freeze()
    try:
        board = Board(board_fd, spec.seats, spec.slots, spec.routers, spec.deck)
        # Whoever sat here before may have died inside app code.
        board.inherit(seat)
    except BoardError as error:
        sys.stderr.write(f"the worker cannot serve: {error}\n")
        return EXIT_LINK_UNUSABLE
    orders.listen_to_signals()
    orders.take()  # which routers there are
    if spec.routers > 1:
        far = tuple((FIRST_SEAT + at, each.address) for at, each in enumerate(spec.remotes))
        orders.reach((spec.router_seat, spec.endpoint), far)
    wear = _wear(spec, orders)
    raised = wear.raised if wear is not None and spec.recycling.minds_exceptions else None
    options: dict[str, Any] = {
        "seat": seat,
        "slots": spec.engine.hard if interface == "asgi" else spec.engine.slots,
        "generation": spec.generation,
        "token": bytes.fromhex(spec.token),
        "name": spec.name,
        "board": board,
        "log": _log,
    }
    if wear is not None:
        options |= {"limit": wear.limit, "spent": wear.spent}
    if interface == "asgi":
        return _serve_on_a_loop(app, spec, orders, hooks, path, raised, options)
    adapter = Wsgi(
        app,
        sys.stderr,
        multithread=spec.engine.slots > 1,
        multiprocess=spec.processes > 1,
        file_wrapper=spec.engine.file_wrapper,
        raised=raised,
    )

    def start() -> int | None:
        left = _wait_ready(spec, adapter.run, crew, orders) if spec.ready_path else None
        if left is None:
            _watch_code(spec, orders)
        return left

    if spec.engine.on_loop and crew is not None:
        return _serve_in_threads_of_a_loop(adapter, crew, spec, orders, hooks, path, options, start)
    if (left := start()) is not None:
        return left
    if crew is not None:
        code = _serve_beside_each_other(adapter, crew, spec, orders, hooks or orders, options)
    else:
        orders.tell("loaded")
        bell, _ = bells.of(spec, seat, spec.router_seat)
        make, guard = partial(_maker(spec, options), Link), None
        if spec.remotes:
            from vassals.worker.guarded import Guard, GuardedLink

            guard = Guard()
            make = partial(_maker(spec, {"guard": guard, **options}), GuardedLink)
        lines = Lines(hooks or orders, (spec.router_seat, spec.endpoint), make, bell, guard)
        while (serving := lines.serving()) is not None:
            while (exchange := serving.next()) is not None:
                reason = adapter.run(exchange)
                if reason:
                    orders.wish(reason)
        code = EXIT_LEFT
    if hooks is not None:
        hooks.before_exit()
    return code


def _maker(spec: "GatewaySpec", options: dict[str, Any]) -> "Callable[..., Any]":
    """What makes a link of a kind to a router."""

    def make(kind: "Callable[..., Any]", router_seat: int, endpoint: str, orders: Any, **more: Any) -> Any:
        if router_seat >= FIRST_SEAT:
            more["remote"] = spec.remotes[(router_seat - FIRST_SEAT) % len(spec.remotes)]
            return kind(endpoint=endpoint, router_seat=router_seat, orders=orders, **options, **more)
        rings = bells.of(spec, options["seat"], router_seat)
        return kind(endpoint=endpoint, router_seat=router_seat, orders=orders, bells=rings, **options, **more)

    return make


def _watch_code(spec: "GatewaySpec", orders: Orders) -> None:
    if spec.code_s or spec.watched:
        from vassals.loaders import watch

        watch.start(spec.code_s, spec.code_ignore, spec.watched, orders.tell, _log)


def _serve_on_a_loop(
    app: Any,
    spec: "GatewaySpec",
    orders: Orders,
    hooks: "WorkerHooks | None",
    path: list[str],
    raised: "Callable[[BaseException], None] | None",
    options: dict[str, Any],
) -> int:
    from vassals.worker import aio

    def ready(ask: "Callable[[Answer], str]", pause: "Callable[[float], None]") -> int | None:
        left = _wait_ready(spec, ask, None, orders, pause) if spec.ready_path else None
        if left is None:
            _watch_code(spec, orders)
        return left

    try:
        return aio.serve(app, spec, orders, hooks, path, raised, _maker(spec, options), ready, _log)
    except (aio.LoopError, aio.StartupFailed) as error:
        details = getattr(error, "details", "")[-_DETAILS_LIMIT:]
        sys.stderr.write(f"the app cannot be started: {error}\n{details}")
        orders.tell("failed", reason=str(error), traceback=details)
        return EXIT_APP_FAILED


def _serve_in_threads_of_a_loop(
    adapter: Wsgi,
    crew: "Crew",
    spec: "GatewaySpec",
    orders: Orders,
    hooks: "WorkerHooks | None",
    path: list[str],
    options: dict[str, Any],
    start: "Callable[[], int | None]",
) -> int:
    from vassals.worker import aio, onloop

    try:
        return onloop.serve(adapter, crew, spec, orders, hooks, path, _maker(spec, options), start, _log)
    except aio.LoopError as error:
        sys.stderr.write(f"the app cannot be started: {error}\n")
        orders.tell("failed", reason=str(error))
        return EXIT_APP_FAILED
    except CrewError as error:
        sys.stderr.write(f"the worker cannot serve: {error}\n")
        orders.tell("failed", reason=str(error))
        # Some of the threads may have started, and wait.
        os._exit(EXIT_APP_FAILED)
    except BaseException:
        # They would keep the process.
        traceback.print_exc()
        os._exit(EXIT_CRASHED)


def _wait_ready(
    spec: "GatewaySpec",
    run: "Callable[[Answer], str]",
    crew: "Crew | None",
    orders: Orders,
    pause: "Callable[[float], None]" = time.sleep,
) -> int | None:
    """Asks the app for ``ready-path`` until it is ready; the exit code of a worker that is not to serve."""
    from vassals.worker.ready import Unready, wait_ready

    pid = os.getpid()
    try:
        if wait_ready(spec.ready_path, spec.ready_host, run, crew, orders, pause):
            return None
    except (Unready, CrewError) as error:
        sys.stderr.write(f"the app is not ready: {error}\n")
        orders.tell("failed", reason=str(error))
        return EXIT_APP_FAILED
    finally:
        if os.getpid() != pid:
            os._exit(EXIT_LEFT)  # as after the import
    return EXIT_LEFT


def _serve_beside_each_other(
    adapter: Wsgi, crew: "Crew", spec: "GatewaySpec", orders: Orders, told: Any, options: dict[str, Any]
) -> int:
    from vassals.worker.crews import Crews
    from vassals.worker.shared import SharedLink

    make = partial(_maker(spec, {"crew": crew, **options}), SharedLink)
    try:
        # As in any thread, SystemExit ends what runs there and not the process: the reason to leave is dropped.
        Crews(crew, told, (spec.router_seat, spec.endpoint), make, _log).serve(
            adapter.run, lambda: orders.tell("loaded")
        )
    except CrewError as error:
        sys.stderr.write(f"the worker cannot serve: {error}\n")
        orders.tell("failed", reason=str(error))
        # Some of the threads may have started, and wait.
        os._exit(EXIT_APP_FAILED)
    except BaseException:
        traceback.print_exc()
        os._exit(EXIT_CRASHED)
    return EXIT_LEFT


def _crew(spec: "GatewaySpec") -> "Crew | None":
    """Who runs the requests; None for this thread alone. Enters the vassal's surroundings, since gevent is found there
    and must have done its patching before the app is imported."""
    settle(spec.app, spec.config_path)
    if spec.engine.gevent:
        from vassals.worker.greenlets import Greenlets

        return Greenlets(spec.engine.monkey_patch)
    if (spec.engine.slots > 1 or spec.engine.on_loop) and spec.engine.interface != "asgi":
        from vassals.worker.threads import Threads

        return Threads(spec.engine.thread_stack_bytes)
    return None


def _load(spec: "GatewaySpec") -> tuple[Any, str]:
    wanted = spec.engine.interface
    try:
        app = target.load(spec.app, wanted)
        return app, wanted or ("asgi" if target.speaks(app) == "asgi" else "wsgi")
    except target.LoadError as error:
        if spec.need_app:
            raise
        sys.stderr.write(f"serving without an app (need-app is off): {error}\n{error.details}")
        if wanted != "asgi":
            return target.no_app, "wsgi"
        from vassals.adapters.asgi import no_app

        return no_app, wanted


def _hooks(spec: "GatewaySpec", orders: Orders) -> "WorkerHooks | None":
    """Calls those of after the fork. Raises HookError."""
    if not spec.hooks.calls:
        return None
    from vassals.worker.hooks import WorkerHooks

    hooks = WorkerHooks(spec.hooks, orders)
    hooks.find()
    hooks.after_fork()
    return hooks


def _wear(spec: "GatewaySpec", orders: Orders) -> "Wear | None":
    recycling = spec.recycling
    if not recycling.max_requests and not recycling.minds_exceptions:
        return None
    from vassals.worker.wear import Wear

    return Wear(recycling, lambda reason: orders.tell("worn", reason=reason))


def _log(text: str) -> None:
    sys.stderr.write(f"worker: {text}\n")


def _depart(code: int) -> NoReturn:
    """Ends the process as the interpreter would, but for what belongs to the frames of the gateway below this
    one."""
    try:
        if _threads_of_the_app():
            threading.Thread(target=_name_who_keeps_it, daemon=True).start()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _threads_of_the_app() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon
    ]


def _name_who_keeps_it() -> None:
    """Python waits for an app's threads that are no daemons. Those of an executor end by themselves then."""
    time.sleep(_WAITED_S)
    if names := _threads_of_the_app():
        _log(
            f"it has left, and waits for threads of the app ({', '.join(names[:10])}) until it is killed at its deadline; "
            "one that need not be waited for is made with daemon=True"
        )
