"""While the routers of an emperor that stops finish what they have: who of the vassals need not wait for them.

One time is for everything (`STOP_TIMEOUT_S`). A vassal whose last request has been answered would else begin to leave only when
the last request of all has, with what is left of it: too little for an app that takes a while to close what it has open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from emperor.supervisor.loop import Loop, Timer

LOOK_S = 0.25


class Asked(Protocol):
    """What is needed of a router's end."""

    @property
    def pid(self) -> int: ...

    def ask(self, message: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> bool: ...


class Unneeded:
    """`leave(names)` is called with those that no router has anything for, nor can have any more; with each once."""

    def __init__(
        self, loop: Loop, routers: Callable[[], Sequence[Asked]], leave: Callable[[list[str]], None]
    ) -> None:
        self._loop = loop
        self._routers = routers
        self._leave = leave
        self._left: set[str] = set()
        self._timer: Timer | None = loop.call_later(LOOK_S, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        """One that says nothing, or does not know the question, may have something for anybody."""
        self._timer = self._loop.call_later(LOOK_S, self._look)
        asked = [each for each in self._routers() if each.pid]
        said: list[set[str]] = []

        def answered(answer: dict[str, Any]) -> None:
            names = answer.get("names")
            said.append(_texts(names) if isinstance(names, list) else set())
            if len(said) == len(asked) and self._timer is not None:
                self._found(set.intersection(*said))

        for each in asked:
            each.ask({"op": "unneeded"}, answered)

    def _found(self, names: set[str]) -> None:
        new = sorted(names - self._left)
        if new:
            self._left.update(new)
            self._leave(new)


def _texts(found: Iterable[Any]) -> set[str]:
    return {each for each in found if isinstance(each, str)}
