"""Copies of a vassal's GETs and HEADs for another vassal (option ``mirror``): its answers are nobody's.

The original comes first in everything. It has been placed before it is copied, and whatever goes wrong with the copy is
counted here and costs it nothing. A copy is made only while the other vassal has an idle slot and nobody waits for one, and
while not too many copies are open: what is more is not copied, and counted. Nothing that has a body is copied, nor a
WebSocket, nor a copy: of two vassals that mirror each other each gets one, and over upstreams that lead back here none goes
round, since a copy bears a field, ``X-Mirrored-From``, by which it is known.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from emperor.config.sharing import Sharing
from emperor.protocol import packet
from emperor.protocol.chute import Chute
from emperor.protocol.errors import PacketError, ResponseError
from emperor.protocol.packet import RequestHead
from emperor.protocol.scoreboard import monotonic_s
from emperor.router.exchange import Client, Exchange

if TYPE_CHECKING:
    from emperor.router.app import App

MARK: Final = b"HTTP_X_MIRRORED_FROM"
"""By what an app knows a copy: the name of the vassal whose request it is of. A hint, since a client may send the field."""

MOST: Final = 64
"""Copies of one vassal's that are open at a time: an upstream, or a worker far away, takes more than it can do."""

Chance = Callable[[], float]


class Mirror:
    """What an app's requests are copied to. ``chance()`` is a number in [0, 1)."""

    def __init__(self, app: App, said: Sharing, chance: Chance) -> None:
        self.app = app
        self.said = said
        self.open = 0
        self.copied = 0
        self.answered = 0
        self.failed = 0  # 5xx, or none
        self.shed = 0
        self._chance = chance

    def copy(self, exchange: Exchange) -> None:
        """Of a request that has just been placed, if it is one of those that are copied."""
        head = exchange.head
        if (
            head.method not in (b"GET", b"HEAD")
            or head.content_length
            or head.websocket
            or MARK in head.packet
            or isinstance(exchange.front, Copy)
            or self._chance() * 100 >= self.said.mirror_share
        ):
            return
        target, _ = self._target()
        if target is None or not self._takes(target):
            self.shed += 1
            return
        try:
            self._send(exchange, head, target)
        except PacketError:
            self.shed += 1  # with the mark it would be too large
        except Exception as error:
            # Ours to mend; the request that was copied knows nothing of it.
            self.app.say(f"mirror {error!r}", "error", "".join(traceback.format_exception(error)))

    def _send(self, exchange: Exchange, head: RequestHead, target: App) -> None:
        made = packet.altered(head, {MARK: self.app.name.encode()})
        copy = Exchange(Copy(self), made, monotonic_s(), target)
        copy.access = target.access
        copy.retried = True  # nobody waits for it: it is not run a second time
        if target.request_id:
            copy.request_id = packet.identify(made, bool(exchange.request_id))
        self.copied += 1
        self.open += 1
        target.submit(copy)

    def _target(self) -> tuple[App | None, str]:
        """Who gets the copies; or nobody, and why."""
        name = self.said.mirror
        found = self.app.core.app(name)
        if found is None:
            return None, f"there is no vassal {name}"
        if found.entry.uid != self.app.entry.uid:
            # As unknown as another user's vassal is to a tenant; and it is not for him to give it work.
            return None, f"{name} runs as another user: only a vassal of the same user can be a mirror"
        return found, ""

    def _takes(self, target: App) -> bool:
        if self.open >= MOST or len(target.queue) or not target.ready():
            return False
        if target.forwards or target.far is not None or target.pool.free_slots() > 0:
            return True
        return target.short and target.sharing.idle_elsewhere()

    def over(self, exchange: Exchange, status: int, head_bytes: int, body_bytes: int, cut: bool) -> None:
        """A copy has ended."""
        self.open -= 1
        if status >= 500 or cut:
            self.failed += 1
        else:
            self.answered += 1
        if exchange.access is not None:
            access, exchange.access = exchange.access, None
            access.note(exchange, status, head_bytes, body_bytes, 0, cut)

    def report(self) -> dict[str, Any]:
        """For the statistics."""
        return {
            "to": self.said.mirror,
            "percent": round(self.said.mirror_share),
            "trouble": self._target()[1],
            "copied": self.copied,
            "open": self.open,
            "answered": self.answered,
            "failed": self.failed,
            "shed": self.shed,
        }


class Copy(Client):
    """In a client's place: takes all of an answer, and drops it."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._over = False
        self._status = 0
        self._head_bytes = 0
        self._body_bytes = 0

    def respond(self, exchange: Exchange, head: bytes, body: bytes, fin: bool) -> None:
        if not head[:3].isdigit() or not b"2" <= head[:1] <= b"5":
            raise ResponseError(f"{head[:20]!r} does not begin with a status")
        self._status = int(head[:3])
        self._head_bytes = len(head)
        self.more(exchange, body, fin)

    def more(self, exchange: Exchange, body: bytes, fin: bool) -> None:
        self._body_bytes += len(body)
        if fin:
            self._ended(exchange, False)
        elif body:
            exchange.app.written(exchange, len(body))

    def pour(self, exchange: Exchange, chute: Chute, most: int, ahead: bool) -> int:
        size = min(most, chute.held())
        if size:
            self._body_bytes += len(chute.take(size))
        return size

    def pour_all(self, exchange: Exchange, chute: Chute) -> None:
        while size := chute.held():
            self._body_bytes += len(chute.take(size))

    def fail(self, exchange: Exchange, status: int, reason: str, cause: str = "") -> None:
        self._status = self._status or status
        self._ended(exchange, True)

    def begun(self, exchange: Exchange) -> None:
        """It has no body that anybody would wait for."""

    def drained(self, exchange: Exchange) -> None:
        """The same."""

    def _ended(self, exchange: Exchange, cut: bool) -> None:
        if not self._over:
            self._over = True
            self.mirror.over(exchange, self._status, self._head_bytes, self._body_bytes, cut)
