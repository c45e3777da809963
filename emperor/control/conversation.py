"""One side of a control connection in the poll loop: requests with their answers, and what the peer says
unasked.

Owns the channel and its place in the loop. The peer may be a tenant's process or of another version:
whatever it sends becomes a call with a dict, and an answer to nothing is dropped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from emperor.control.channel import Channel, ChannelClosed
from emperor.supervisor.loop import Loop

Message = dict[str, Any]
Answered = Callable[[Message], None]

FIRST_ID = 1_000_000  # above those that the channel's own blocking `request` uses


class Conversation:
    """`on_message(message)` gets what is no answer, `on_closed(why)` comes once, when the peer has hung up.
    Descriptors that nobody asked for are closed."""

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        on_message: Callable[[Message], None],
        on_closed: Callable[[str], None],
        last_id: int = FIRST_ID,
    ) -> None:
        """`last_id` is the last number that this connection has asked with, if another program did before us."""
        self._loop = loop
        self._channel = channel
        self._on_message = on_message
        self._on_closed = on_closed
        self._waiting: dict[int, Answered] = {}
        self._last_id = last_id
        self._open = True
        loop.watch_channel(channel, self._readable)
        # What a blocking request before us has left in the channel's queue would not show in a poll.
        loop.call_soon(self._readable)

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def unanswered(self) -> int:
        return len(self._waiting)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send without an answer. After the end it does nothing."""
        if self._open:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(message, fds)

    def request(
        self,
        message: Message,
        on_answer: Answered,
        fds: Sequence[int] = (),
        close: Callable[[int], None] = os.close,
    ) -> None:
        """Send, with `fds` and `close` as in `Channel.send`, and call `on_answer` with the answer: `ok` true or
        false, with `error`. Never called after the end."""
        if self._open:
            self._last_id += 1
            self._waiting[self._last_id] = on_answer
            with contextlib.suppress(ChannelClosed):
                self._channel.send({**message, "id": self._last_id}, fds, close)

    @property
    def flushed(self) -> bool:
        """True when everything said is in the socket."""
        return not self._channel.wants_write

    def hand_over(self) -> Message | None:
        """What another program in this process needs to go on with it; None if it cannot. What is unanswered stays so."""
        document = self._channel.hand_over() if self._open else None
        return None if document is None else {**document, "last_id": self._last_id}

    def close(self) -> None:
        """End it from our side; `on_closed` is not called. What is queued is sent as far as the socket
        takes it."""
        if self._open:
            self._open = False
            self._waiting.clear()
            self._loop.unwatch(self._channel.fileno())
            self._channel.flush()
            self._channel.close()

    def receive_now(self) -> None:
        """Take what has arrived. For a peer that has ended: its last words come before its end is acted
        on."""
        self._readable()

    def _readable(self) -> None:
        if not self._open:
            return
        try:
            messages = self._channel.receive()
        except ChannelClosed as closed:
            self.close()
            self._on_closed(str(closed))
            return
        for message, fds in messages:
            for fd in fds:
                os.close(fd)
            answered = self._waiting.pop(message["re"], None) if isinstance(message.get("re"), int) else None
            if answered is not None:
                answered(message)
            elif "re" not in message:
                self._on_message(message)
            if not self._open:
                return
