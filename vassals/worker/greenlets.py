"""The crew of ``gevent = N``: greenlets on gevent's hub. gevent is found where the app's packages are."""

import sys
from collections.abc import Callable
from typing import Any

from vassals import tracing
from vassals.worker.crew import Crew, CrewError


class Greenlets(Crew):
    """``monkey_patch``: what blocks in the standard library is replaced now, before the app is imported."""

    may_stand = False

    def __init__(self, monkey_patch: bool) -> None:
        try:
            # gevent.monkey itself says that it comes first.
            from gevent import monkey

            if monkey_patch:
                monkey.patch_all()
            import gevent
            import gevent.select
            import gevent.thread
        except ImportError as error:
            raise CrewError(
                f"gevent = N needs gevent beside the app, and it cannot be imported ({error}): "
                f"{sys.executable} -m pip install gevent"
            ) from None
        tracing.show_more(tracing.GREENLETS, tracing.greenlets_listed)
        self._spawn = gevent.spawn
        self._lock = gevent.thread.allocate_lock
        self._poll = gevent.select.poll

    def lock(self) -> Any:
        return self._lock()

    def poll(self) -> Any:
        return self._poll()

    def apart(self, run: Callable[[Any], None], exchange: Any) -> None:
        # In a greenlet of its own: what an app leaves running, as a gevent.Timeout, is meant for the greenlet that it was
        # started in, and must not meet the next request.
        self._spawn(run, exchange).join()

    def once(self, run: Callable[[], None]) -> None:
        self._spawn(run).join()

    def start(self, run: Callable[[], None], number: int) -> None:
        greenlet: Any = self._spawn(run)
        greenlet.name = f"request {number}"
