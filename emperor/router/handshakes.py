"""How many connections to the port for workers of other hosts have not yet proved who they are. Pure: time is given.

Each holds a descriptor, and who is silent holds it until libzmq gives up (`HANDSHAKE_S`). So there is a bound, and beyond it
the newest is ended. libzmq says that a handshake has come about or failed, not whose: the oldest counts as that one, and what
is older than any handshake can be counts no more. So where that was wrong it is right again within `HANDSHAKE_S`.
"""

from collections import deque
from typing import Final

HANDSHAKE_S: Final = 3.0

MOST: Final = 512
"""A handshake takes some milliseconds: as many workers as come at once when their router has been replaced find room, or come
again after a moment."""


class Handshakes:
    def __init__(self, most: int = MOST) -> None:
        self.refused = 0
        self._most = most
        self._began: deque[float] = deque()
        self._ended = 0  # by us, of whose failure we have not heard yet

    def begun(self, now: float) -> bool:
        """Somebody has connected. False: there are too many, it is to go."""
        if self.waiting(now) >= self._most:
            self.refused += 1
            self._ended += 1
            return False
        self._began.append(now)
        return True

    def came_about(self) -> None:
        if self._began:
            self._began.popleft()

    def failed(self) -> bool:
        """One has. False: it is one that we have ended."""
        if self._ended:
            self._ended -= 1
            return False
        self.came_about()
        return True

    def waiting(self, now: float) -> int:
        """How many go on."""
        while self._began and self._began[0] <= now - HANDSHAKE_S:
            self._began.popleft()
        if not self._began:
            self._ended = 0
        return len(self._began)
