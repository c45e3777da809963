"""How soon the router or the spawner is replaced. Pure.

At once: nothing works without them, and neither has state that could have killed it. Only when one dies
again and again within moments of its start, which is a fault of the installation, is there a growing wait.
"""

from __future__ import annotations

QUICK_S = 2.0
CAP_S = 5.0


class Replacing:
    """The deaths of one process that is always replaced."""

    def __init__(self) -> None:
        self._quick = 0
        self.count = 0

    def died(self, lived_s: float) -> float:
        """It died after `lived_s`; the wait in seconds: 0, 0, then 0.1, 0.2, … up to 5."""
        self.count += 1
        self._quick = self._quick + 1 if lived_s < QUICK_S else 0
        return 0.0 if self._quick <= 2 else min(CAP_S, 0.1 * 2.0 ** min(self._quick - 3, 30))
