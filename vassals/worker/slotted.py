"""A `Link` of several slots: which of them are free, and what runs in which.

What threads and event loops have in common beyond a link of one request. A request whose connection was lost keeps its slot
until the app returns.
"""

from typing import Any

from emperor.protocol import records
from vassals.worker.link import Exchange, Leaver, Link


class SlottedLink(Link):
    """As many requests at a time as there are slots."""

    def __init__(self, orders: Leaver, slots: int, **link: Any) -> None:
        Link.__init__(self, orders=orders, slots=slots, **link)
        self._free_slots = list(range(slots - 1, -1, -1))
        self._running: dict[int, Exchange] = {}
        self._left: list[Exchange] = []  # that ran when their connection was lost

    def _reserve(self) -> int:
        free = self._free_slots
        for at in range(len(free) - 1, -1, -1):
            if self._enter_slot(free[at]):
                return free.pop(at)
        return -1

    def _forgo(self, slot: int) -> None:
        self._free_slots.append(slot)
        Link._forgo(self, slot)

    def _occupy(self, exchange: Exchange, slot: int) -> None:
        exchange.slot = slot
        self._running[exchange.stream] = exchange

    def _vacate(self, exchange: Exchange, last: bytes, body: bytes | None) -> None:
        slot = exchange.slot
        exchange.slot = -1
        self._free_slots.append(slot)
        found = self._running.pop(exchange.stream, None)
        wanted = found is exchange
        if not wanted and found is not None:
            self._running[exchange.stream] = found  # another connection's
        self._conclude(exchange, slot, last, body, wanted and self._connected)
        if not wanted and self._connected and not self._far:
            self._transmit(records.pack_grant(1))

    def _free(self) -> int:
        return len(self._free_slots)

    def busy(self) -> list[int]:
        free = self._free_slots[:]
        return [slot for slot in range(self._slots) if slot not in free]

    def _left_running(self) -> list[Exchange]:
        self._left = [exchange for exchange in self._left if exchange.slot >= 0]
        return self._left

    def _find(self, stream: int) -> Exchange | None:
        return self._running.get(stream)

    def _lose(self) -> None:
        lost = list(self._running.values())
        self._running.clear()
        self._left += lost
        Link._lose(self)
        for exchange in lost:
            exchange.cut_off()
            self._announce(exchange)
