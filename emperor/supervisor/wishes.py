"""What each vassal is to have that can only be had as its tenant, and may fail: what is wanted, what is wrong, when it is tried
again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from emperor.supervisor.loop import Loop, Timer

RETRY_S = 30.0
"""How long after something could not be had it is tried again."""

Wish = TypeVar("Wish")


class Wishes(Generic[Wish]):
    """By the vassals' names. `again(name)` is called when it is time to try one again that is still wanted."""

    def __init__(self, loop: Loop, again: Callable[[str], None]) -> None:
        self._loop = loop
        self._try = again
        self._wanted: dict[str, Wish] = {}
        self._retries: dict[str, Timer] = {}
        self.troubles: dict[str, str] = {}
        """Why one cannot be had, while it is so."""

    def __contains__(self, name: str) -> bool:
        return name in self._wanted

    def __iter__(self) -> Iterator[str]:
        return iter(self._wanted)

    def __getitem__(self, name: str) -> Wish:
        return self._wanted[name]

    def get(self, name: str) -> Wish | None:
        return self._wanted.get(name)

    def put(self, name: str, wish: Wish) -> None:
        """This is wanted, and not what was before."""
        self.forget(name)
        self._wanted[name] = wish

    def forget(self, name: str) -> None:
        """Nothing is wanted any more."""
        self._wanted.pop(name, None)
        self.troubles.pop(name, None)
        retry = self._retries.pop(name, None)
        if retry is not None:
            retry.cancel()

    def try_later(self, name: str) -> None:
        if name in self._wanted and name not in self._retries:
            self._retries[name] = self._loop.call_later(RETRY_S, self._again, name)

    def _again(self, name: str) -> None:
        self._retries.pop(name, None)
        if name in self._wanted:
            self._try(name)
