"""The two chutes of one link (``protocol.chute``): whose body is in which, and how it moves on.

Down, a worker says BY-CHUTE for a stream, and from then on its bytes stand in the chute until the client takes them. What the
client does not take stays there, so that a worker waits for a slow client with one chute of memory and nothing else; only once
that has lasted for ``PATIENCE_S`` is some of it taken off (``response-buffer``), as clients that keep up stop for a moment all
the time. Up, the router says BY-CHUTE, and fills it from memory, or from the file that a body waits in.
"""

from typing import Final

from emperor.protocol import chute, records
from emperor.protocol.chute import Chute
from emperor.protocol.scoreboard import DOWN, UP, Board, monotonic_s
from emperor.router.exchange import Exchange

TURN: Final = 128 * 1024
"""Bytes that are moved one way for one worker in one turn of the loop: others have their turn, too."""

PATIENCE_S: Final = 0.02

LIFTED: Final = records.BODY_LIMIT
"""Of a request's body so much is a record or two. What is more goes by chute."""


class Chutes:
    """``sender``: whose response comes down. ``taker``: whose request goes up. ``stuck``: the client takes no more now.
    ``ahead``: it has not for so long that its response is taken off its worker; ``relieved``: that is planned, or done."""

    def __init__(self, board: Board, seat: int, router: int) -> None:
        self.down = Chute(board, seat, router, DOWN)
        self.up = Chute(board, seat, router, UP)
        self.down.clear()
        self.up.clear()
        self.sender: Exchange | None = None
        self.taker: Exchange | None = None
        self.stuck = False
        self.ahead = False
        self.relieved = False
        self.since = 0.0  # monotonic seconds, of ``stuck``
        self._left = False  # the taker's bytes are not wanted any more
        self._at = 0  # in the first of the taker's chunks

    def active(self) -> bool:
        """There is something to look for in each turn."""
        taker = self.taker
        return (self.sender is not None and not self.stuck) or (
            taker is not None and not taker.fin_sent and not self._left
        )

    # Down

    def begin(self, exchange: Exchange) -> None:
        """Its bytes come down from now on."""
        self.sender = exchange
        self.stuck = self.ahead = self.relieved = False
        self.down.lend(exchange.stream)

    def pour(self) -> int:
        """Pass on to the client what it takes. Returns how many bytes. Raises RecordError."""
        exchange = self.sender
        if exchange is None or self.stuck:
            return 0
        moved = exchange.front.pour(exchange, self.down, TURN, self.ahead)
        if moved < 0:
            self.stuck = True
            self.since = monotonic_s()
            self.down.quiet(True)
            return 0
        return moved

    def empty(self) -> None:
        """More, or the end, has come another way: first all that is in there."""
        exchange = self.sender
        assert exchange is not None
        front = exchange.front
        while self.sender is exchange and self.down.held():
            if front.pour(exchange, self.down, self.down.size, False) <= 0:
                front.pour_all(exchange, self.down)

    def unstick(self, ahead: bool) -> None:
        """The client takes bytes again, or is to be waited for no longer."""
        self.stuck = False
        self.ahead = ahead
        self.down.quiet(False)

    # Up

    def lend(self, exchange: Exchange) -> None:
        """The rest of its body goes up."""
        self.taker = exchange
        self._left = False
        self._at = 0
        self.up.lend(exchange.stream)

    def lift(self) -> int:
        """Write into the chute what there is and what goes in. Returns how many bytes. Raises RecordError."""
        exchange = self.taker
        if exchange is None or exchange.fin_sent or self._left:
            return 0
        moved = 0
        while exchange.chunks and moved < TURN:
            piece = exchange.chunks[0]
            count = self.up.put(piece, self._at)
            self._at += count
            moved += count
            if self._at < len(piece):
                break
            exchange.chunks.popleft()
            self._at = 0
        exchange.buffered -= moved
        if exchange.rest and not exchange.chunks and moved < TURN:
            moved += self._from_disk(exchange)
        if exchange.body_done and not exchange.chunks and not exchange.rest:
            exchange.fin_sent = True
        self.up.quiet(not exchange.chunks and not self._on_disk(exchange))
        return moved

    @staticmethod
    def _on_disk(exchange: Exchange) -> bool:
        """More of it can be had from there by asking: nothing is under way of which we are told anyhow."""
        return bool(exchange.rest) and exchange.spooled is not None and not exchange.spooled.busy

    def _from_disk(self, exchange: Exchange) -> int:
        assert exchange.spooled is not None
        space = self.up.space()
        if not space:
            return 0
        count = exchange.spooled.pour(space)
        if count:
            self.up.filled(count)
            exchange.rest -= count
        else:
            exchange.spooled.pull()
        return count

    # Both

    def rest(self) -> bool:
        """We are about to wait to be called. True: there is something to do after all."""
        if self.sender is not None and not self.stuck and self.down.held():
            return True
        taker = self.taker
        if taker is None or taker.fin_sent or self._left or not (taker.chunks or self._on_disk(taker)):
            return False
        return 2 * self.up.room() >= self.up.size

    def leave(self, exchange: Exchange) -> bool:
        """Nobody waits for it any more: its worker need not either. True: it has to be told by a message."""
        tell = False
        if self.sender is exchange:
            self.stuck = True
            self.down.quiet(True)
            tell = self.down.end(chute.GONE)
        if self.taker is exchange:
            self._left = True
            self.up.quiet(True)
            tell = self.up.end(chute.GONE) or tell
        return tell

    def release(self, exchange: Exchange) -> None:
        """Its worker has ended it, or is gone."""
        if self.sender is exchange:
            self.sender = None
            self.down.clear()
        if self.taker is exchange:
            self.taker = None
            self.up.clear()
