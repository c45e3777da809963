# cython: language_level=3
"""What a coroutine is to those who await it, make a task of it or ask where it waits, without a frame of its own
(docs/decisions/0040-coroutines-without-a-frame.md).

It stands for a coroutine of Python's, `_waits`, which may come later or never. Derived from it are `vassals.adapters.reply.Sending`
and `vassals.adapters.running.Running`.
"""
import types


cdef class Frameless:
    """A class of its own says in ``__next__`` what to do, and ends by raising StopIteration."""

    @property
    def __class__(self):
        # What inspect.iscoroutine and asyncio.iscoroutine look at, by which frameworks tell what they may make a task of.
        return types.CoroutineType

    @property
    def __name__(self):
        return getattr(self._waits, "__name__", type(self).__name__)

    @property
    def __qualname__(self):
        return getattr(self._waits, "__qualname__", type(self).__qualname__)

    def __await__(self):
        return self

    def __next__(self):
        raise NotImplementedError

    def send(self, value):
        """As of a coroutine."""
        if value is not None and self._waits is not None:
            return self._waits.send(value)
        return next(self)

    def throw(self, *error):
        """As of a coroutine."""
        if self._waits is None:
            self._waits = unbegun()
        return self._waits.throw(*error)

    def close(self):
        """As of a coroutine."""
        if self._waits is None:
            self._waits = unbegun()
        self._waits.close()

    # Where it waits, which is where what it stands for does.

    @property
    def cr_await(self):
        return None if self._waits is None else self._waits.cr_await

    @property
    def cr_code(self):
        return None if self._waits is None else self._waits.cr_code

    @property
    def cr_frame(self):
        return None if self._waits is None else self._waits.cr_frame

    @property
    def cr_running(self):
        return self._waits is not None and self._waits.cr_running

    @property
    def cr_suspended(self):
        return self._waits is not None and getattr(self._waits, "cr_suspended", self._waits.cr_await is not None)


async def unbegun():
    """Stands in for what is ended before it has begun."""
