"""A fault of the router's own costs the connection that set it off, and is told."""

from typing import Any

import pytest

from emperor.config.settings import RouterSettings
from emperor.router.app import App
from emperor.router.front import Door, Front
from emperor.router.http import HttpConnection
from emperor.router.routes import Routes
from tests.router.client import get, post


class Loop:
    def time(self) -> float:
        return 1.0

    def add_reader(self, fd: int, callback: Any) -> None:
        pass


class BrokenRoutes(Routes):
    def find(self, host: bytes, path: bytes) -> App | None:
        raise KeyError("a bug of ours")


class BrokenDoor(Door):
    """Its routes fail."""

    def __init__(self) -> None:
        super().__init__(Loop(), RouterSettings())  # type: ignore[arg-type]
        self.date = b"Date: Sun, 22 Nov 2026 14:00:00 GMT\r\n"
        self.routes = BrokenRoutes()
        self.errors: list[int] = []
        self.lines: list[str] = []

    def opened(self, front: Front) -> None:
        pass

    def count_error(self, status: int) -> None:
        self.errors.append(status)

    def log(self, level: str, text: str) -> None:
        self.lines.append(f"{level}: {text}")


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.ended = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> Any:
        return None


@pytest.mark.parametrize("sent", [get() * 2, post(b"body"), get()[:-1]])
def test_it_is_a_500_that_closes(sent: bytes) -> None:
    door, wire = BrokenDoor(), Wire()
    front = HttpConnection(door)
    front.connection_made(wire)  # type: ignore[arg-type]
    front.data_received(sent)
    if sent[-1:] == b"\r":
        assert not wire.sent
        front.data_received(b"\n")
    assert wire.sent.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"\r\nConnection: close\r\n" in wire.sent
    assert wire.sent.count(b"HTTP/1.1 ") == 1
    assert b"bug" not in wire.sent
    assert wire.ended
    assert door.errors == [500]
    assert any("Traceback" in line and "a bug of ours" in line for line in door.lines)


def test_what_is_repeated_is_told_once_a_second_and_counted() -> None:
    door = BrokenDoor()
    for number in range(5):
        door.complain("same", "info", f"line {number}")
    door.complain("other", "warning", "once")
    assert door.lines == ["info: line 0", "warning: once"]
    door.summarize(1.9)
    assert len(door.lines) == 2
    door.summarize(2.0)
    assert door.lines[2:] == ["info: line 4 (the last of 4 more such lines in a second)"]
    door.complain("same", "info", "again")
    door.complain("same", "info", "and again")
    assert len(door.lines) == 3  # within a second of the line before
    door.summarize_at_last()
    assert door.lines[3:] == ["info: and again (the last of 2 more such lines in a second)"]
