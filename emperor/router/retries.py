"""Which requests are sent to a second worker when the first one is lost, and how many. Pure; time comes in as seconds.

| what is known of it | what happens | counted as |
| --- | --- | --- |
| not begun: returned, or its worker is gone | back to its place in the queue, always | `returned`, `unbegun` |
| begun, no byte of an answer, idempotent, its body still in hand | it is run again, once | `again` |
| the same, and it has been run again already | 502 | `no_second` |
| the same, and the budget is spent | 502 | `no_budget` |
| begun, and not idempotent (RFC 9110, 9.2.2) | 502 | `not_idempotent` |
| begun, and part of its body has gone | 502 | `no_body` |
| begun, and its client has had a byte of the answer, or an interim one | its connection is ended | `answering` |

The budget is for the day when everything dies: without it, retries would double the load of whatever is left. It is
a fifth of the requests, and ten a second besides, for apps with few (finagle's ``RetryBudget``). A request that has ended
two workers is not given a third: it has been run twice then, and ``poison`` knows it.
"""

from typing import Final

from emperor.router.exchange import Exchange

SHARE: Final = 0.2
PER_S: Final = 10.0
SAVED_S: Final = 10.0
"""So many seconds' worth of it may be saved up."""

NO_SECOND: Final = "no_second"
NO_BUDGET: Final = "no_budget"
NOT_IDEMPOTENT: Final = "not_idempotent"
NO_BODY: Final = "no_body"
ANSWERING: Final = "answering"
AGAIN: Final = "again"
UNBEGUN: Final = "unbegun"
RETURNED: Final = "returned"

CAUSES: Final = (RETURNED, UNBEGUN, AGAIN, NO_SECOND, NO_BUDGET, NOT_IDEMPOTENT, NO_BODY, ANSWERING)


class Budget:
    """A bucket of retries. It is filled when somebody asks, by the requests and the seconds since, so that a request that needs
    none costs nothing."""

    __slots__ = ("_at", "_left", "_recent", "_requests")

    def __init__(self, now: float, requests: int = 0) -> None:
        self._at = now
        self._requests = requests
        self._recent = 0.0  # requests of the last seconds, as far as is known
        self._left = PER_S * SAVED_S

    def left(self, now: float, requests: int) -> float:
        """How many may be taken; ``requests`` have come in all."""
        passed_s = max(0.0, now - self._at)
        came = max(0, requests - self._requests)
        # They are thought to have come evenly.
        self._recent *= max(0.0, 1.0 - passed_s / SAVED_S)
        self._recent += came if passed_s <= SAVED_S else came * SAVED_S / passed_s
        self._at, self._requests = now, requests
        earned = SHARE * came + PER_S * passed_s
        self._left = min(self._left + earned, PER_S * SAVED_S + SHARE * self._recent)
        return self._left

    def take(self, now: float, requests: int) -> bool:
        """One, if there is one."""
        if self.left(now, requests) < 1.0:
            return False
        self._left -= 1.0
        return True


def objection(exchange: Exchange, answering: bool) -> str:
    """Why a request that a lost worker had begun is not to be run again, as a cause of ``CAUSES``; empty: it may be, as far as
    the budget allows."""
    if answering or exchange.interims or exchange.tunnel:
        return ANSWERING
    if not exchange.head.idempotent:
        return NOT_IDEMPOTENT
    if exchange.retried:
        return NO_SECOND
    if not exchange.whole_in_hand:
        return NO_BODY
    return ""
