"""What runs the requests of a worker beside each other: what a `SharedLink` needs of threads, or of greenlets.

Kept apart from both, so that a worker of one request at a time imports neither.
"""

from collections.abc import Callable
from typing import Any


class CrewError(Exception):
    """There is no crew. ``str()`` says why, and what to do."""


class HookError(Exception):
    """A hook that the start depends on has failed. ``str()`` says which, where and why; ``details`` is the traceback."""

    def __init__(self, reason: str, details: str) -> None:
        super().__init__(reason)
        self.details = details


class Crew:
    """Threads or greenlets, and how they wait for one another. ``may_stand``: one of them may stand still in a system call
    without holding up the others."""

    may_stand = True

    def lock(self) -> Any:
        """A lock that any of the crew may release, like ``threading.Lock``."""
        raise NotImplementedError

    def poll(self) -> Any:
        """Like ``select.poll()``."""
        raise NotImplementedError

    def apart(self, run: Callable[[Any], None], exchange: Any) -> None:
        """Runs ``run(exchange)`` to its end, which must not raise."""
        run(exchange)

    def once(self, run: Callable[[], None]) -> None:
        """Runs ``run``, which must not raise, to its end as one of the crew would, before there is one. Raises CrewError."""
        raise NotImplementedError

    def start(self, run: Callable[[], None], number: int) -> None:
        """Runs ``run`` beside the others. Raises CrewError when the system has no room for another."""
        raise NotImplementedError
