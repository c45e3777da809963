"""The page between two real processes, which really meet on its words."""

import itertools
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emperor.protocol import scoreboard
from emperor.protocol.scoreboard import CLAIMED, FREE, OFFERED, REVOKED, Board
from tests.protocol import other_side
from tests.protocol.other_side import DONE, GO, contend, stream_of, wait_until

ROOT = Path(__file__).parents[2]
LIMIT_S = 40


@contextmanager
def other(what: str, fd: int, *numbers: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, other_side.__file__, what, *map(str, (fd, *numbers, LIMIT_S))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE, env=environment) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_of_claim_and_revoke_exactly_one_wins_every_word() -> None:
    # On two processors they meet all along; on a busy machine only when one of them is interrupted, and so more is needed.
    deadline = time.monotonic() + LIMIT_S
    met = 0
    while met < 10:
        met += contest()
        assert time.monotonic() < deadline, f"they met only {met} times"


def contest() -> int:
    """How often the winner changed from one word to the next."""
    deck, rounds = 8192, 12
    fd = scoreboard.create(1, 2, 1, deck)
    board = Board(fd, 1, 2, 1, deck, check_seals=True)
    told = bytearray(deck * rounds)  # what revoke said, 0 for a word that it was not asked about
    left = bytearray(deck * rounds)  # what the word was in the end
    deadline = time.monotonic() + LIMIT_S
    with other("claims", fd, deck, rounds) as worker:
        for turn in range(rounds):
            for index in range(deck):
                assert board.offer(0, 0, index, stream_of(turn, index)), "a word did not come back free"

            def take(index: int, turn: int = turn) -> bool:
                outcome = board.revoke(0, 0, index, stream_of(turn, index))
                told[turn * deck + index] = outcome
                return outcome == REVOKED

            board.begin(0, GO, 2 * turn + 1)
            contend(deck, take)
            wait_until(lambda turn=turn: board.slot(0, DONE)[0] == 2 * turn + 1, deadline)  # type: ignore[misc]
            for index in range(deck):
                stream, left[turn * deck + index] = board.state(0, 0, index)
                assert stream == stream_of(turn, index)
                board.revoke(0, 0, index, stream)
            board.begin(0, GO, 2 * turn + 2)
            wait_until(lambda turn=turn: board.slot(0, DONE)[0] == 2 * turn + 2, deadline)  # type: ignore[misc]
            assert all(board.state(0, 0, index)[1] == FREE for index in range(deck))
        claimed, _ = worker.communicate(timeout=LIMIT_S)
        assert worker.returncode == 0
    board.close()
    os.close(fd)

    assert len(claimed) == len(told)
    for number, (won, outcome, state) in enumerate(zip(claimed, told, left, strict=True)):
        where = f"word {number % deck} of round {number // deck}"
        assert not (won and outcome == REVOKED), f"{where}: claimed and revoked"
        assert state == (CLAIMED if won else REVOKED if outcome == REVOKED else OFFERED), where
        assert outcome in (0, CLAIMED, REVOKED), where
    winners = bytes(state for state in left if state != OFFERED)
    return sum(one != another for one, another in itertools.pairwise(winners))


def test_a_slot_read_while_it_is_written_is_never_torn() -> None:
    fd = scoreboard.create(1, 2, 1, 1)
    board = Board(fd, 1, 2, 1, 1, check_seals=True)
    deadline = time.monotonic() + LIMIT_S
    seen: dict[int, int] = {}
    with other("slots", fd) as worker:
        board.begin(0, 1, 1)
        started = time.monotonic()
        # On one processor they meet only when one is interrupted: then fewer must do.
        while len(seen) < (50_000 if time.monotonic() - started < 2 else 30):
            for _ in range(1000):
                stream, start = board.slot(0, 0)
                if stream:
                    assert seen.setdefault(stream, start) == start, "two starts for one request"
                assert -1 <= board.running_ns(0, time.monotonic_ns()) < LIMIT_S * 10**9
            assert time.monotonic() < deadline, "the two were never there at the same time"
        board.begin(0, 1, 2)
        out, _ = worker.communicate(timeout=LIMIT_S)
        assert worker.returncode == 0
    board.close()
    os.close(fd)
    starts = array("Q", out)
    assert {stream: starts[stream - 1] for stream in seen} == seen
