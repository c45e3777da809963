"""The other process of tests/protocol/test_scoreboard_race.py: a worker on a page that it got as a descriptor.

``python other_side.py claims FD DECK ROUNDS SECONDS`` and ``python other_side.py slots FD SECONDS``. What it saw goes
to its standard output.
"""

import os
import sys
import time
from array import array
from collections.abc import Callable

from emperor.protocol.scoreboard import Board

GO, DONE = 0, 1  # slots by which the two sides wait for each other: router's, worker's


def wait_until(condition: Callable[[], bool], deadline: float) -> None:
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the other side does not come")
        os.sched_yield()


def contend(deck: int, take: Callable[[int], bool]) -> None:
    """Walk over the deck so that two who do this meet on many words: who came too late jumps ahead of the other."""
    index = 0
    while index < deck:
        index += 1 if take(index) else 2


def stream_of(turn: int, index: int) -> int:
    return turn << 32 | index + 1


def claims(fd: int, deck: int, rounds: int, seconds: float) -> None:
    """Claims all words in each round, and frees them when the router has looked."""
    deadline = time.monotonic() + seconds
    board = Board(fd, 1, 2, 1, deck)
    out = bytearray(deck * rounds)
    for turn in range(rounds):
        wait_until(lambda turn=turn: board.slot(0, GO)[0] == 2 * turn + 1, deadline)  # type: ignore[misc]

        def take(index: int, turn: int = turn) -> bool:
            claimed = board.claim(0, 0, index, stream_of(turn, index))
            out[turn * deck + index] = claimed
            return claimed

        contend(deck, take)
        board.begin(0, DONE, 2 * turn + 1)
        wait_until(lambda turn=turn: board.slot(0, GO)[0] == 2 * turn + 2, deadline)  # type: ignore[misc]
        for index in range(deck):
            board.free(0, 0, index)
        board.begin(0, DONE, 2 * turn + 2)
    board.close()
    sys.stdout.buffer.write(out)


def slots(fd: int, seconds: float) -> None:
    """Begins and ends requests on slot 0 until slot 1 says 2, and tells the start of each."""
    deadline = time.monotonic() + seconds
    board = Board(fd, 1, 2, 1, 1)
    wait_until(lambda: board.slot(0, 1)[0] == 1, deadline)
    starts = array("Q")
    while board.slot(0, 1)[0] == 1 and time.monotonic() < deadline:
        for stream in range(len(starts) + 1, len(starts) + 257):
            board.begin(0, 0, stream)
            starts.append(board.slot(0, 0)[1])
            board.end(0, 0)
    board.close()
    sys.stdout.buffer.write(starts.tobytes())


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    if what == "claims":
        claims(*map(int, numbers))
    else:
        slots(*map(int, numbers))
