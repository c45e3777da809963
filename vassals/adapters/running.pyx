# cython: language_level=3
"""One call of an ASGI app, from its first step to what is done when it has returned: what the task of a request runs.

A coroutine without a frame: a step of the task is a step of the app's own coroutine. `running` makes one.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from vassals.adapters.frameless cimport Frameless
from vassals.adapters.reply cimport Reply

cdef extern from "Python.h":
    int PyIter_Send(object, object, PyObject **) except -1
    bint PyCoro_CheckExact(object)


cdef class Running(Frameless):
    """``call`` is a `vassals.adapters.asgi.Call`, ``adapter`` the Asgi whose app it is of. At its end, it is taken out of ``among``
    and ``over`` is called with it."""
    def __next__(self):
        cdef PyObject *result = NULL
        cdef object yielded
        if self._ended:
            raise RuntimeError("cannot reuse already awaited call of the app")
        if self._step(&result):
            yielded = <object> result
            Py_DECREF(yielded)
            return yielded
        raise StopIteration

    cdef bint _step(self, PyObject **result) except -1:
        """False: it is over."""
        cdef PyObject *returned
        try:
            if not self._begun:
                self._begin()
            if PyIter_Send(self._waits, None, result):
                return True
        except BaseException as error:
            self._raised(error)
            return False
        returned = result[0]
        result[0] = NULL
        if returned != NULL:
            Py_DECREF(<object> returned)
        self._returned()
        return False

    cdef int _begin(self) except -1:
        cdef object called
        self._begun = True
        if isinstance(self._call, Reply):
            called = self._app((<Reply> self._call).scope, self._call.receive, (<Reply> self._call).send)
        else:
            called = self._app(self._call.scope, self._call.receive, self._call.send)
        self._waits = called if PyCoro_CheckExact(called) else awaited(called)
        return 0

    def throw(self, *error):
        """As of a coroutine."""
        if self._ended:
            raise RuntimeError("cannot reuse already awaited call of the app")
        self._begun = True
        try:
            return Frameless.throw(self, *error)
        except StopIteration:
            self._returned()
        except BaseException as raised:
            self._raised(raised)
        raise StopIteration

    def close(self):
        """As of a coroutine."""
        Frameless.close(self)
        self._over_now()

    cdef int _returned(self) except -1:
        """It has returned, and that is looked at."""
        try:
            if not isinstance(self._call, Reply) or not (<Reply> self._call).is_right():
                self._adapter.look_after(self._call)
        finally:
            self._over_now()
        return 0

    cdef int _raised(self, object error) except -1:
        try:
            self._adapter.failed(self._call, error)
        finally:
            self._over_now()
        return 0

    cdef int _over_now(self) except -1:
        if not self._ended:
            self._ended = True
            if self._among is not None:
                self._among.pop(self._call, None)
            if self._over is not None:
                self._over(self._call)
        return 0


cpdef Running running(adapter, app, call, dict among, over):
    """The call of ``app`` for ``call``, to be made a task of."""
    cdef Running made = Running.__new__(Running)
    made._adapter = adapter
    made._app = app
    made._call = call
    made._among = among
    made._over = over
    return made


async def awaited(called):
    """What is awaited is no coroutine: an app may be any callable that returns an awaitable."""
    return await called
