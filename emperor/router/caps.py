"""How many client connections there may be, in all and from one address. Pure.

The router's descriptors are for clients, workers, bodies on disk and the emperor. A flood of clients must not take those of the
others: what is beyond a cap is told so and closed (503; 429 where it is its own address's), what is far beyond it is reset, and
all of it is counted.
"""

import ipaddress
from collections import Counter
from enum import Enum
from typing import Final

SHARE_OF_DESCRIPTORS: Final = 3 / 4
"""Of the process's descriptors, unless ``max-connections`` says how many; an eighth is for bodies on disk."""

SHARE_OF_ONE_ADDRESS: Final = 1 / 2
"""Of ``max-connections``, unless ``max-connections-per-address`` says: one client alone leaves room for others, and a
proxy that nobody has named as trusted still has plenty."""

MARGIN: Final = 1 / 16
"""So many more are told why they are refused, which takes a descriptor for a moment; the rest is reset."""


class Verdict(Enum):
    ADMITTED = "admitted"
    FULL = "max-connections"
    FULL_ADDRESS = "max-connections-per-address"
    RESET = "reset"


class Caps:
    """Counts. Call ``came`` for each connection, and ``left`` for each that has ended, refused or not."""

    def __init__(self, descriptors: int, most: int = 0, most_each: int = 0) -> None:
        self.use(descriptors, most, most_each)
        self.open = 0
        self.reached = ""  # the setting that the last one that was refused went beyond
        self.refused: Counter[Verdict] = Counter()
        self._of: Counter[str] = Counter()

    def use(self, descriptors: int, most: int = 0, most_each: int = 0) -> None:
        """From now on; who is in stays. 0: what the descriptors allow."""
        self.most = most or max(1, int(descriptors * SHARE_OF_DESCRIPTORS))
        self.most_each = most_each or max(1, int(self.most * SHARE_OF_ONE_ADDRESS))
        self.margin = max(1, int(self.most * MARGIN))

    def came(self, address: str, *, told: bool = True) -> Verdict:
        """``address`` is empty for one that counts only in all: a unix socket, a trusted proxy. ``told`` False: it cannot be
        told anything yet (there is a handshake before its request), and is reset if it is refused."""
        self.open += 1
        each = 0
        if address:
            each = self._of[address] = self._of[address] + 1
        if self.open > self.most:
            verdict, far = Verdict.FULL, self.open > self.most + self.margin
        elif each > self.most_each:
            verdict, far = Verdict.FULL_ADDRESS, each > self.most_each + self.margin
        else:
            return Verdict.ADMITTED
        self.reached = verdict.value
        if far or not told:
            verdict = Verdict.RESET
        self.refused[verdict] += 1
        return verdict

    def left(self, address: str) -> None:
        """The same address as when it came."""
        self.open -= 1
        if address:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]

    def report(self) -> dict[str, int]:
        """For the statistics."""
        return {
            "limit": self.most,
            "limit_per_address": self.most_each,
            "refused": self.refused[Verdict.FULL],
            "refused_per_address": self.refused[Verdict.FULL_ADDRESS],
            "reset": self.refused[Verdict.RESET],
        }


def whose(address: str) -> str:
    """What counts as one address: of IPv6 the first half, since whoever has one has that many."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False).network_address)
