"""Turning a loop until something has happened, and a log that remembers."""

from collections.abc import Callable

from emperor.supervisor.loop import Loop


class Told:
    """What was said, a line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = error = info


def turn_until(loop: Loop, condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    end = loop.now() + deadline_s
    while not condition():
        assert loop.now() < end, "it did not happen in time"
        loop.step(0.05)
