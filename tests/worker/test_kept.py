"""Answers that go together: how many, for how long, and who sends them."""

import threading
from collections.abc import Iterator

import pytest
import zmq

from emperor.protocol import records
from emperor.protocol.scoreboard import now_ns
from emperor.zeromq import Wire
from tests.scenarios.harness.waiting import wait_for
from vassals.worker.kept import KEEP_NS, MOST, Kept
from vassals.worker.late import LATE_NS, Watch

TIMEOUT_S = 20.0

HEAD = b"200 OK\r\n"


class Line:
    """A link's wire, and what arrives at its other end."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", name: str) -> None:
        self._here, self._there = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        self._here.bind(f"inproc://{name}")
        self._there.connect(f"inproc://{name}")
        self.wire = Wire(self._here)

    def messages(self) -> list[list[int]]:
        """The streams of the records of each that is there."""
        found = []
        while self._there.poll(0):
            found.append([record[3] for record in records.unpack(self._there.recv())])
        return found

    def close(self) -> None:
        self._here.close(0)
        self._there.close(0)


@pytest.fixture
def lines() -> Iterator[tuple[Line, Line]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    lines = (Line(context, "one"), Line(context, "other"))
    yield lines
    for line in lines:
        line.close()
    context.destroy(0)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """With the thread that looks after it."""
    watch = Watch()

    def look() -> None:
        while watch.late():
            pass

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield watch
    watch.close()
    thread.join(TIMEOUT_S)


def keep(kept: Kept, line: Line, stream: int, body: bytes = b"", took_us: int = 10, at: int = 0) -> bool:
    return kept.put(line.wire, stream, took_us, HEAD, body, at)


def test_so_many_are_kept_and_go_in_one_message(lines: tuple[Line, Line]) -> None:
    kept, (line, _) = Kept(), lines
    assert all(keep(kept, line, stream) for stream in range(1, MOST + 1))
    assert not keep(kept, line, 99)
    assert line.messages() == []
    kept.send()
    assert line.messages() == [list(range(1, MOST + 1))]
    kept.send()
    assert line.messages() == []


def test_a_large_one_is_not_kept(lines: tuple[Line, Line]) -> None:
    kept, (line, _) = Kept(), lines
    assert not keep(kept, line, 1, b"x" * 8192)
    assert keep(kept, line, 2, b"x" * 8000)
    assert not keep(kept, line, 3, b"x" * 200)
    assert [len(records.unpack(kept.take(line.wire)))] == [1]


def test_what_is_kept_for_another_link_goes_first(lines: tuple[Line, Line]) -> None:
    kept, (line, other) = Kept(), lines
    keep(kept, line, 1)
    assert kept.take(other.wire) == b""
    keep(kept, other, 2)
    assert (line.messages(), other.messages()) == ([[1]], [])
    kept.send()
    assert (line.messages(), other.messages()) == ([], [[2]])


def test_what_is_kept_for_a_link_that_is_lost_goes_nowhere(lines: tuple[Line, Line]) -> None:
    kept, (line, other) = Kept(), lines
    keep(kept, line, 1)
    kept.drop(other.wire)
    kept.drop(line.wire)
    kept.send()
    assert line.messages() == []


@pytest.mark.parametrize(
    ("age_ns", "took_us", "due"),
    [
        (0, 10, False),
        (KEEP_NS // 2, 99, False),
        (KEEP_NS // 2, 100, True),
        (0, 1000, True),
        (KEEP_NS, 0, True),
    ],
)
def test_none_is_kept_if_the_next_request_is_likely_to_take_too_long(
    lines: tuple[Line, Line], age_ns: int, took_us: int, due: bool
) -> None:
    kept, (line, _) = Kept(), lines
    assert not kept.is_due(0)
    keep(kept, line, 1, took_us=took_us, at=1000)
    assert kept.is_due(1000 + age_ns) == due


def test_as_many_as_may_be_are_due() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    line, kept = Line(context, "one"), Kept()
    for stream in range(MOST):
        assert not kept.is_due(0)
        keep(kept, line, stream, took_us=0)
    assert kept.is_due(0)
    line.close()
    context.destroy(0)


def test_what_is_left_for_too_long_is_sent_by_the_thread_that_looks(
    lines: tuple[Line, Line], watch: Watch
) -> None:
    line, _ = lines
    for stream in (1, 2):
        watch.kept.come_back()
        keep(watch.kept, line, stream, at=now_ns())
        watch.begins(now_ns())
        watch.kept.leave(True)
        wait_for(lambda stream=stream: line.messages() == [[stream]], TIMEOUT_S)  # type: ignore[misc]
        watch.ends()


def test_it_is_sent_as_well_where_one_was_late_for_long_before(
    lines: tuple[Line, Line], watch: Watch
) -> None:
    """The thread looks less and less often then."""
    line, _ = lines
    began = now_ns()
    watch.begins(began)
    wait_for(lambda: now_ns() - began > 50 * LATE_NS, TIMEOUT_S)
    watch.ends()
    keep(watch.kept, line, 1, at=now_ns())
    watch.begins(now_ns())
    watch.kept.leave(True)
    wait_for(lambda: line.messages() == [[1]], TIMEOUT_S)


def test_what_the_worker_has_is_not_sent_by_another(lines: tuple[Line, Line], watch: Watch) -> None:
    line, _ = lines
    keep(watch.kept, line, 1, at=now_ns() - 1000 * KEEP_NS)
    watch.begins(now_ns())
    began = now_ns()
    wait_for(lambda: now_ns() - began > 10 * LATE_NS, TIMEOUT_S)
    assert line.messages() == []
