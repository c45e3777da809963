"""The callables that an app wants called in each of its workers: after the fork, when it serves, before it ends.

They run in the worker's main thread (with threads, `ready` in the thread that has met the router), with no request under
way. The gateway is told before and after each, and kills a worker whose hook does not come back, whatever it hangs in:
a signal would not reach what blocks in C.
"""

import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vassals.loaders import target
from vassals.worker.crew import HookError

if TYPE_CHECKING:
    from emperor.config.hooks import Hooks
    from vassals.worker.orders import Orders


class WorkerHooks:
    """Stands before the orders, too: it is told when the worker serves."""

    def __init__(self, hooks: "Hooks", orders: "Orders") -> None:
        self._hooks = hooks
        self._orders = orders
        self._found: dict[str, Callable[[], Any]] = {}
        self._served = False
        self.fds = orders.fds
        self.take = orders.take
        self.turn = orders.turn
        self.wish = orders.wish
        self.follow = orders.follow
        self.forget = orders.forget

    @property
    def leave(self) -> str:
        return self._orders.leave

    @property
    def turned(self) -> bool:
        return self._orders.turned

    def find(self) -> None:
        """Import all of them, so that a name that is none fails the start. Raises HookError."""
        for option, names in (
            ("post-fork-hook", self._hooks.post_fork),
            ("worker-ready-hook", self._hooks.worker_ready),
            ("worker-exit-hook", self._hooks.worker_exit),
        ):
            for name in names:
                self._begin(f"{option} {name}")
                try:
                    self._found[name] = target.named(name)
                except target.LoadError as error:
                    raise HookError(f"{option} {name}: {error}", error.details) from None
                finally:
                    self._begin("")

    def after_fork(self) -> None:
        """Raises HookError."""
        for name in self._hooks.post_fork:
            why, details = self._call("post-fork-hook", name)
            if why:
                raise HookError(why, details)

    def tell(self, state: str, **details: Any) -> None:
        """What the orders' own does. When the worker first serves, calls the hooks for that; their failure is logged."""
        self._orders.tell(state, **details)
        if state == "ready" and not self._served:
            self._served = True
            self._call_all("worker-ready-hook", self._hooks.worker_ready)

    def before_exit(self) -> None:
        """The worker has left its router. A failure is logged."""
        self._call_all("worker-exit-hook", self._hooks.worker_exit)

    def _call_all(self, option: str, names: tuple[str, ...]) -> None:
        for name in names:
            why, details = self._call(option, name)
            if why:
                sys.stderr.write(f"{why}\n{details}")

    def _call(self, option: str, name: str) -> tuple[str, str]:
        """Why it failed, and its traceback; empty if it did not."""
        self._begin(f"{option} {name}")
        try:
            self._found[name]()
        except BaseException as error:
            line = traceback.format_exception_only(error)[-1].strip()
            return f"{option} {name}: {line}{target.place_of(error)}", traceback.format_exc()
        finally:
            self._begin("")
        return "", ""

    def _begin(self, what: str) -> None:
        self._orders.tell("hook", reason=what)
