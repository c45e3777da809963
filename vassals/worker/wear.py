"""What a worker itself knows of its wear: how many requests it has served, and what its app has raised.

It only tells its gateway, once, and serves on: another worker is started in its place, and it is asked to leave when that
one serves (`vassals.gateway.recycling`).
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from vassals.loaders.target import place_of

if TYPE_CHECKING:
    from emperor.config.recycling import Recycling

_VALUE_CHARS = 80


class Wear:
    """``tell(reason)`` is called once. ``limit`` is the number of requests after which `spent` is to be called; 0: never."""

    def __init__(self, recycling: "Recycling", tell: Callable[[str], None]) -> None:
        self.limit = recycling.requests_of(_random())
        self._limits = recycling
        self._tell = tell
        self._told = False

    def spent(self, served: int) -> None:
        """So many requests have been served."""
        self._say(f"max-requests: {served} served")

    def raised(self, error: BaseException) -> None:
        """The app has let this out. Called for each error that a client got 500 for, or was cut off by."""
        name = type(error).__qualname__
        text = _text(error)
        limits = self._limits
        for option, wanted in (
            ("reload-on-exception-type", limits.exception_types),
            ("reload-on-exception-value", limits.exception_values),
            ("reload-on-exception-repr", limits.exception_reprs),
        ):
            if any(each in _forms(option, error, name, text) for each in wanted):
                self._say(f"{option}: {_line(name, text)}{place_of(error)}")
                return
        if limits.on_exception:
            self._say(f"reload-on-exception: {_line(name, text)}{place_of(error)}")

    def _say(self, reason: str) -> None:
        if not self._told:
            self._told = True
            self._tell(reason)


def _forms(option: str, error: BaseException, name: str, text: str) -> tuple[str, ...]:
    """All spellings that mean ``error``: uWSGI compares the whole text, and has had more than one way to write it."""
    module = type(error).__module__
    match option.rpartition("-")[2]:
        case "type":
            return name, f"{module}.{name}"
        case "value":
            return (text,)
    try:
        shown = repr(error)
    except Exception:
        shown = name
    return shown, f"{name}: {text}", f"{module}.{name}: {text}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an app's own, which cannot even be shown
        return ""


def _line(name: str, text: str) -> str:
    first = text.partition("\n")[0][:_VALUE_CHARS]
    return f"{name}: {first}" if first else name


def _random() -> float:
    # As in the gateway: the random module is no business of a worker that may never be recycled.
    return int.from_bytes(os.urandom(4)) / 2**32
