# cython: language_level=3
"""How a request begins in an ASGI worker, where there is nothing special about it: scope, call, task, and at once the app's first
step.

What there is for `vassals.worker.aio` to decide, a WebSocket or a packet that cannot be read, goes to its ``other``.

A task asks its loop to call it soon. That is caught, and done here and now: the answer of an app that waits for nothing is on its way
while the next request is begun, and the router has something to do meanwhile. It is what Python 3.12 calls an eager task, but for
versions before it, and whatever task factory an app has set (docs/decisions/0040-coroutines-without-a-frame.md).
"""
import asyncio

from emperor.protocol.errors import PacketError

from emperor.protocol.scope cimport scope
from vassals.adapters.running cimport running
from vassals.worker.asynclink cimport LoopExchange

CURRENT = getattr(asyncio.tasks, "_current_tasks", None)


cdef class Calls:
    """``request`` makes a `vassals.adapters.asgi.Request`, of which ``tasks`` has the task while it runs. ``stir`` is called when
    one begins, once until somebody says that it is not ``fresh`` any more."""
    cdef object _adapter, _app, _request, _loop, _create_task, _call_soon, _catch, _other, _stir
    cdef object _step, _context
    cdef dict _tasks, _attributes
    cdef public bint fresh

    def __init__(self, adapter, app, request, dict tasks, loop, other, stir):
        self._adapter = adapter
        self._app = app
        self._request = request
        self._tasks = tasks
        self._loop = loop
        self._create_task = loop.create_task
        self._call_soon = loop.call_soon
        self._catch = self.catch_first
        attributes = getattr(loop, "__dict__", None)
        self._attributes = attributes if type(attributes) is dict else None
        self._other = other
        self._stir = stir

    def begin(self, LoopExchange exchange):
        """Starts the app on it. Raises nothing."""
        cdef dict about
        if exchange.upgrade:
            self._other(exchange)
            return
        try:
            about, offset = scope(exchange.payload, self._adapter.state)
        except PacketError:
            self._other(exchange)
            return
        exchange.read_from(offset)
        request = self._request(exchange, about)
        if not self.fresh:
            self.fresh = True
            self._stir()
        self.run(request, running(self._adapter, self._app, request, self._tasks, None))

    cdef int run(self, object request, object call) except -1:
        cdef dict attributes = self._attributes
        if attributes is None or "call_soon" in attributes or self.is_in_a_task():
            self._tasks[request] = self._create_task(call)
            return 0
        attributes["call_soon"] = self._catch
        try:
            task = self._create_task(call)
        finally:
            attributes.pop("call_soon", None)
        self._tasks[request] = task
        step, self._step = self._step, None
        if step is not None:
            context, self._context = self._context, None
            context.run(step)
        return 0

    cdef bint is_in_a_task(self) except -1:
        """A task's step must not begin within another's."""
        if CURRENT is None:
            return asyncio.current_task(self._loop) is not None
        return self._loop in CURRENT

    def catch_first(self, callback, *arguments, context=None):
        """The loop's ``call_soon`` while a task is made."""
        if self._step is None and context is not None and not arguments:
            self._step = callback
            self._context = context
            return None
        return self._call_soon(callback, *arguments, context=context)
