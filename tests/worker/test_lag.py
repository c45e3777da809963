"""The thread that looks after an event loop ends when it is told to, at whatever moment."""

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from vassals.worker.lag import Watch

TIMEOUT_S = 20.0


class Closing(threading.Event):
    """Each time just before it is cleared the watch is closed: whoever closes it sets this one as well."""

    def __init__(self, close: Callable[[], None]) -> None:
        super().__init__()
        self._close = close

    def clear(self) -> None:
        self._close()
        super().clear()


class Loop:
    """One that is `stopped` calls nobody back: it is in `Watch.close`, and waits for the thread."""

    def __init__(self) -> None:
        self.stopped = False

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        if not self.stopped:
            call()


@pytest.mark.parametrize("which", ["_bell", "_heard"])
def test_it_ends_though_it_was_about_to_wait(which: str) -> None:
    loop = Loop()
    watch: Any = Watch(cast(Any, loop), 0.01, lambda _text: None)

    def close() -> None:
        loop.stopped = True
        for event in (watch._over, watch._bell, watch._heard):
            event.set()

    setattr(watch, which, Closing(close))
    watch.stir()
    watch._thread.join(TIMEOUT_S)
    assert not watch._thread.is_alive()
