"""Assembly of a worker: surroundings, app, link, and the loop between them.

Nothing here is on the path of a request but the four lines of the loop; with `threads` or `gevent` the loop is in
`vassals.worker.shared`. A worker's exit code tells its
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
import traceback
from typing import TYPE_CHECKING, Any, Final, NoReturn

from emperor.protocol.errors import BoardError
from emperor.protocol.scoreboard import Board
from vassals import bells, pages
from vassals.adapters.wsgi import Wsgi
from vassals.loaders import imports, target
from vassals.loaders.place import PlaceError, settle, settle_after
from vassals.worker import output
from vassals.worker.crew import Crew, CrewError, HookError
from vassals.worker.link import Link
from vassals.worker.orders import Orders, set_action

if TYPE_CHECKING:
    from emperor.control.messages import GatewaySpec
    from vassals.worker.hooks import WorkerHooks
    from vassals.worker.wear import Wear

EXIT_LEFT: Final = 0
EXIT_CRASHED: Final = 1
EXIT_APP_FAILED: Final = 70
EXIT_LINK_UNUSABLE: Final = 71

_DETAILS_LIMIT: Final = 32 * 1024


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


Loaded = tuple[Any, "Crew | None"]
"""The app, and who runs its requests."""


def load(spec: "GatewaySpec") -> Loaded:
    """Enters the surroundings and loads the app. Raises PlaceError, LoadError, CrewError."""
    crew = _crew(spec)
    imports.offer(spec)
    return _load(spec), crew


def _serve(
    spec: "GatewaySpec", seat: int, board_fd: int, orders: Orders, loaded: "Loaded | None" = None
) -> int:
    pid = os.getpid()
    # A collection writes to every object that it looks at: those that are shared with the gateway are to stay
    # so.
    gc.freeze()
    # The last moment at which nothing but our own code has run here, and so could have left anything that writes to memory.
    if loaded is None:
        pages.see_as_tenant()
        pages.give_back()
        pages.unsee()
    imports.seated(seat, board_fd, orders)
    try:
        app, crew = load(spec) if loaded is None else loaded
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
    wear = _wear(spec, orders)
    adapter = Wsgi(
        app,
        sys.stderr,
        multithread=spec.slots > 1,
        multiprocess=spec.processes > 1,
        file_wrapper=spec.engine.file_wrapper,
        raised=wear.raised if wear is not None and spec.recycling.minds_exceptions else None,
    )
    if spec.ready_path and (left := _wait_ready(spec, adapter, crew, orders)) is not None:
        return left
    options: dict[str, Any] = {
        "endpoint": spec.endpoint,
        "router_seat": 0,
        "seat": seat,
        "slots": spec.slots,
        "generation": spec.generation,
        "token": bytes.fromhex(spec.token),
        "name": spec.name,
        "board": board,
        "orders": hooks or orders,
        "log": _log,
        "bells": bells.of(spec, seat),
    }
    if wear is not None:
        options |= {"limit": wear.limit, "spent": wear.spent}
    if spec.code_s or spec.watched:
        from vassals.loaders import watch

        watch.start(spec.code_s, spec.code_ignore, spec.watched, orders.tell, _log)
    if crew is not None:
        code = _serve_beside_each_other(adapter, crew, orders, options)
    else:
        orders.tell("loaded")
        link = Link(**options)
        while (exchange := link.next()) is not None:
            reason = adapter.run(exchange)
            if reason:
                orders.wish(reason)
        code = EXIT_LEFT
    if hooks is not None:
        hooks.before_exit()
    return code


def _wait_ready(spec: "GatewaySpec", adapter: Wsgi, crew: "Crew | None", orders: Orders) -> int | None:
    """Asks the app for ``ready-path`` until it is ready; the exit code of a worker that is not to serve."""
    from vassals.worker.ready import Unready, wait_ready

    pid = os.getpid()
    try:
        if wait_ready(spec.ready_path, spec.ready_host, adapter.run, crew, orders):
            return None
    except (Unready, CrewError) as error:
        sys.stderr.write(f"the app is not ready: {error}\n")
        orders.tell("failed", reason=str(error))
        return EXIT_APP_FAILED
    finally:
        if os.getpid() != pid:
            os._exit(EXIT_LEFT)  # as after the import
    return EXIT_LEFT


def _serve_beside_each_other(adapter: Wsgi, crew: "Crew", orders: Orders, options: dict[str, Any]) -> int:
    from vassals.worker.shared import SharedLink

    try:
        # As in any thread, SystemExit ends what runs there and not the process: the reason to leave is dropped.
        SharedLink(crew, **options).serve(adapter.run, lambda: orders.tell("loaded"))
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
    if spec.slots > 1:
        from vassals.worker.threads import Threads

        return Threads(spec.engine.thread_stack_bytes)
    return None


def _load(spec: "GatewaySpec") -> Any:
    try:
        return target.load(spec.app)
    except target.LoadError as error:
        if spec.need_app:
            raise
        sys.stderr.write(f"serving without an app (need-app is off): {error}\n{error.details}")
        return target.no_app


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
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    os._exit(code)
