"""A worker of an ASGI app: its event loop, one task for each request, and what is done when that goes wrong.

The main thread runs the loop, and nothing else runs app code. The order of things: the loop is made, the lifespan starts, the
app is asked whether it is ready, requests come, and in reverse: the last request ends, BYE, tasks that run on after their
response end, the lifespan ends. All of the way down has to fit into `stop-timeout`, or what the gateway gives (`reload-mercy`),
after which it kills.

Imported by workers of ASGI apps alone: no other has an event loop.
"""

import asyncio
import contextlib
import functools
import gc
import importlib
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from emperor.protocol.errors import PacketError
from vassals import tracing
from vassals.adapters.asgi import App, Asgi, Call, Request, told
from vassals.adapters.lifespan import Lifespan, StartupFailed
from vassals.adapters.websocket import Clock, Rules, Sockets
from vassals.worker.asynclink import LoopExchange, LoopLink
from vassals.worker.calls import Calls
from vassals.worker.lag import Watch
from vassals.worker.loops import Loops
from vassals.worker.orders import Orders, set_action
from vassals.worker.tasks import listed, stack_of

if TYPE_CHECKING:
    from emperor.control.messages import GatewaySpec

_SWALLOWED_S: Final = 1.0
"""A task that goes on for so long after it was cancelled has swallowed that."""

_RESERVE_S: Final = 2.0
"""Of the time to leave, at most a quarter of it: what is left for the lifespan's end when requests will not end."""

_LEFT_OVER_S: Final = 0.2

_COLLECTS_AFTER: Final = 10_000
"""So many new objects more than have gone make the interpreter look for cycles among them. Its own figure is less than one
turn of the loop makes for sixty requests, all of which are in use: docs/decisions/0038-cycles-are-looked-for-less-often.md."""

_INTERPRETERS_OWN: Final = (700, 2000)
"""Its figures, by version. An app that has set another one means it."""

_LATE: Final = "harakiri"
_LEAVING: Final = "the worker leaves"


class LoopError(Exception):
    """There is no event loop. ``str()`` says why, and what to do."""


def new_loop(name: str, path: list[str]) -> asyncio.AbstractEventLoop:
    """The event loop of `asgi-loop`. ``path`` is where the emperor's own packages are, for an app whose virtualenv has
    no uvloop. Raises LoopError."""
    if name != "asyncio":
        uvloop = _uvloop(path)
        if uvloop is not None:
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
        if name == "uvloop":
            raise LoopError(
                f"asgi-loop = uvloop, and it cannot be imported: {sys.executable} -m pip install uvloop, or asgi-loop = asyncio"
            )
    return asyncio.new_event_loop()


def _uvloop(path: list[str]) -> Any:
    try:
        return importlib.import_module("uvloop")
    except ImportError:
        pass
    kept = sys.path[:]
    sys.path[:] = path
    try:
        return importlib.import_module("uvloop")
    except ImportError:
        return None
    finally:
        sys.path[:] = kept


class Server:
    """One worker. `run` is all there is to call."""

    def __init__(
        self,
        app: App,
        spec: "GatewaySpec",
        orders: Orders,
        hooks: Any,
        loop: asyncio.AbstractEventLoop,
        raised: Callable[[BaseException], None] | None,
        log: Callable[[str], None],
    ) -> None:
        engine = spec.engine
        self._spec = spec
        self._orders = orders
        self._hooks = hooks
        self._loop = loop
        self._log = log
        self._create_task = loop.create_task
        self._tasks: dict[Call, asyncio.Task[None]] = {}
        self._deadlines: dict[Call, asyncio.TimerHandle] = {}
        self._lifespan = Lifespan(app, engine.lifespan, asyncio.Event, loop.create_task, log)
        self._watch = Watch(loop, engine.lag_s, self._say)
        self._sockets = Sockets(
            Rules(*engine.websocket), Clock(loop.time, loop.call_later, self._watch.stir), self._say
        )
        self._adapter = Asgi(
            app,
            sys.stderr,
            state=self._lifespan.state,
            raised=raised,
            leave=self._leave_for,
            sockets=self._sockets,
        )
        self._limits = spec.deadlines.harakiri if spec.deadlines.harakiri.least_s else None
        self._begins = Calls(self._adapter, app, Request, self._tasks, loop, self._begin, self._watch.stir)
        self._watch.look_at(self._begins)
        self._link: Loops | None = None
        self._listened: list[int] = []
        self._left = 0.0
        self._end_by = 0.0
        self._cut_timer: asyncio.TimerHandle | None = None

    def run(
        self,
        make: Callable[..., LoopLink],
        ready: Callable[[Callable[..., Any], Callable[[float], None]], int | None],
    ) -> int:
        """Serves until it is time to leave. ``make`` makes a link; ``ready`` asks the app for `ready-path`, with what it
        is given for asking and waiting, and returns an exit code or nothing. Raises StartupFailed."""
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._lifespan.startup())
            code = ready(self._ask, lambda seconds: loop.run_until_complete(asyncio.sleep(seconds)))
            if code is None:
                loop.run_until_complete(self._serve(make))
            if self._hooks is not None:
                self._hooks.before_exit()
            loop.run_until_complete(self._close())
        finally:
            self._watch.close()
        return code or 0

    def _ask(self, asked: Any) -> str:
        """One request of the worker's own."""

        async def run() -> None:
            request = self._adapter.open(Aside(asked))
            assert request is not None
            await self._adapter.run(request)

        self._loop.run_until_complete(run())
        return self._orders.leave

    # Serving.

    async def _serve(self, make: Callable[..., LoopLink]) -> None:
        told, first = self._hooks or self._orders, (self._spec.router_seat, self._spec.endpoint)
        link = self._link = Loops(self._loop, told, first, functools.partial(self._new_link, make))
        set_action(signal.SIGTERM, self._terminated)
        self._listen()
        self._orders.tell("loaded", tasks=self._shows_tasks())
        await link.serve()
        self._left = self._loop.time()
        self._sockets.leave(self._limit_leaving())
        await link.drained()
        link.part()
        if self._tasks and self._cut_timer is not None:
            # Those that run on after their response.
            left_s = max(0.0, self._cut_timer.when() - self._loop.time()) + _LEFT_OVER_S
            await asyncio.wait(list(self._tasks.values()), timeout=left_s)
        if self._cut_timer is not None:
            self._cut_timer.cancel()
        for fd in self._listened:
            self._loop.remove_reader(fd)
        self._listened = []

    def _limit_leaving(self) -> float:
        """When what is under way is cut off, and by when all has to be over. Who ends workers may have said another time
        since: a `reload-mercy` of minutes, or less of it. Returns seconds, since it began to leave."""
        limit_s = (self._orders.leave_by or self._left + self._spec.stop_timeout_s) - self._left
        end_by = self._left + max(0.05, limit_s - _LEFT_OVER_S)
        if end_by != self._end_by:
            self._end_by = end_by
            if self._cut_timer is not None:
                self._cut_timer.cancel()
            at = self._left + max(0.05, limit_s - min(_RESERVE_S, limit_s / 4))
            self._cut_timer = self._loop.call_at(at, self._cut_off, "its time is over")
        return limit_s

    async def _close(self) -> None:
        left_s = max(
            0.05, (self._end_by or self._loop.time() + self._spec.stop_timeout_s) - self._loop.time()
        )
        try:
            await asyncio.wait_for(self._lifespan.shutdown(), left_s)
        except TimeoutError:
            self._log(
                f"lifespan shutdown did not end within stop-timeout ({left_s:.1f} s were left): it is cancelled"
            )
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_LEFT_OVER_S)
        await self._loop.shutdown_asyncgens()

    def _shows_tasks(self) -> bool:
        """From now on a trace shows them."""
        return tracing.show_more(tracing.TASKS, self._tasks_listed)

    def _tasks_listed(self, frame: FrameType | None) -> list[str]:
        return listed(
            self._loop, [(told(request), task) for request, task in list(self._tasks.items())], frame
        )

    def _new_link(
        self, make: Callable[..., LoopLink], router_seat: int, endpoint: str, orders: Any
    ) -> LoopLink:
        soft = self._spec.engine.soft
        begin = self._begins.begin if self._limits is None else self._begin
        return make(LoopLink, router_seat, endpoint, orders, loop=self._loop, begin=begin, soft=soft)

    def _begin(self, exchange: LoopExchange) -> None:
        """What `Calls` does for most, where there is more to do."""
        try:
            request = self._adapter.open(exchange)
        except PacketError as error:
            self._log(f"a request that cannot be read: {error}")
            exchange.abort(str(error))
            return
        if request is None:
            return
        self._watch.stir()
        if request.lasts:
            exchange.last()
        if self._limits is not None and not request.lasts and (limit_s := self._limits.of(request.path)):
            self._deadlines[request] = self._loop.call_later(limit_s, self._too_late, request, limit_s)
        self._tasks[request] = self._create_task(
            self._adapter.run(request, self._tasks, None if self._limits is None else self._over)
        )

    def _over(self, request: Call) -> None:
        if (deadline := self._deadlines.pop(request, None)) is not None:
            deadline.cancel()

    # Deadlines.

    def _too_late(self, request: Call, limit_s: float) -> None:
        task = self._tasks.get(request)
        if task is None or request.ended:
            return
        self._say(
            f"{told(request)}: harakiri: it has run for {limit_s:g} s, its limit, and is cancelled where it waits:\n"
            f"{stack_of(task)}"
        )
        self._cut(request, task, f"{_LATE}: it ran for {limit_s:g} s", 504)

    def _cut(self, request: Call, task: "asyncio.Task[None]", why: str, status: int) -> None:
        request.give_up(why, status)
        task.cancel(why)
        self._loop.call_later(_SWALLOWED_S, self._look_after, request, task)

    def _look_after(self, request: Call, task: "asyncio.Task[None]") -> None:
        if not task.done():
            self._say(
                f"{told(request)}: the app goes on although it was cancelled; its client has been answered. "
                f"It waits at:\n{stack_of(task)}"
            )

    def _cut_off(self, why: str) -> None:
        """Ends what is still under way."""
        for request, task in list(self._tasks.items()):
            self._say(f"{told(request)}: cancelled, {_LEAVING} and {why}")
            self._cut(request, task, _LEAVING, 500)
        self._tasks.clear()

    def _say(self, text: str) -> None:
        with contextlib.suppress(Exception):
            sys.stderr.write(f"{text.rstrip()}\n")

    # Orders.

    def _leave_for(self, reason: str) -> None:
        self._orders.wish(reason)
        self._obey()

    def _listen(self) -> None:
        wanted = self._orders.fds()
        for fd in self._listened:
            if fd not in wanted:
                self._loop.remove_reader(fd)
        for fd in wanted:
            if fd not in self._listened:
                self._loop.add_reader(fd, self._take)
        self._listened = wanted
        self._obey()

    def _take(self) -> None:
        self._orders.take()
        self._listen()

    def _obey(self) -> None:
        if self._link is not None:
            self._link.order()
            if self._left:
                self._limit_leaving()

    def _terminated(self, signum: int, frame: FrameType | None) -> None:
        # A handler in Python and not the loop's: it sets the deadline even while app code holds the loop.
        self._orders.terminated(signum, frame)
        self._loop.call_soon_threadsafe(self._obey)


class Aside:
    """An exchange of the worker's own, on one that keeps what it is given (`vassals.worker.ready.Asked`)."""

    def __init__(self, asked: Any) -> None:
        self.payload: bytes = asked.payload
        self.gone = ""
        self.upgrade = False
        self._asked = asked

    def finish_now(self, head: bytes, body: bytes) -> bool:
        self._asked.finish(head, body)
        return True

    def start_now(self, head: bytes, body: bytes) -> int:
        self._asked.start(head, body)
        return len(body)

    def send_now(self, body: bytes, offset: int) -> int:
        self._asked.send(body[offset:])
        return len(body) - offset

    def interim(self, head: bytes) -> None:
        pass

    def trailers(self, lines: bytes) -> None:
        self._asked.end()

    def end(self) -> None:
        self._asked.end()

    def abort(self, reason: str) -> None:
        self._asked.abort(reason)

    def read_from(self, offset: int) -> None:
        pass

    def take(self) -> tuple[bytes, bool] | None:
        return b"", False

    async def read_file(self, file: Any, most: int) -> bytes:
        return bytes(file.read(most))

    async def changed(self) -> None:
        """Nothing ever comes: there is no client that could go. What is sent goes at once, so nobody waits for another."""
        await asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        pass


def serve(
    app: App,
    spec: "GatewaySpec",
    orders: Orders,
    hooks: Any,
    path: list[str],
    raised: Callable[[BaseException], None] | None,
    make: Callable[..., LoopLink],
    ready: Callable[[Callable[..., Any], Callable[[float], None]], int | None],
    log: Callable[[str], None],
) -> int:
    """Serves with an event loop until it is time to leave. Returns the exit code. Raises LoopError, StartupFailed."""
    loop = new_loop(spec.engine.loop, path)
    if not spec.engine.interface:
        kind = "uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio"
        log(
            f"the app speaks ASGI: served on {kind}, up to {spec.engine.soft}/{spec.engine.hard} requests at once"
            + (
                "; named by asgi and not by module, it would be sent bodies as they come"
                if spec.app.module
                else ""
            )
        )
    first, *others = gc.get_threshold()
    if first in _INTERPRETERS_OWN:
        gc.set_threshold(_COLLECTS_AFTER, *others)
    return Server(app, spec, orders, hooks, loop, raised, log).run(make, ready)


__all__ = ("LoopError", "Server", "StartupFailed", "new_loop", "serve")
