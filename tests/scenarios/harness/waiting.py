"""Waiting for a condition, never for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], deadline_s: float, what: object = None, every_s: float = 0.02) -> T:
    """The first true value of `condition`, asked every `every_s` until `deadline_s` from now.

    Fails the test otherwise, with `what` (called, if it can be) to say what was there instead.
    """
    until = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= until:
            shown = what() if callable(what) else what
            raise AssertionError(f"not within {deadline_s:g} s: {shown or condition}; last value {value!r}")
        time.sleep(every_s)
