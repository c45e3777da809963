"""A gateway's end of its control socket: where emperors connect, one at a time, and what is sent to the one that has.

The emperor may die: its connection ends and workers do not notice. The next one that connects is served as the first was; when
none has come for so long that none will, whoever asked for it is told.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from emperor.control.channel import Channel, ChannelClosed
from emperor.log import ChannelSink
from emperor.supervisor.loop import Loop, Timer

from .recycler import Note

NO_ROOM_S = 0.5
"""How long nobody is accepted when there is no descriptor left."""

_CREDENTIALS = struct.Struct("3i")


class ControlEnd:
    """`obey(message)` is called with what an emperor says; `nobody_came()` when one that had said hello has been gone for
    `orphan_timeout_s`. Only users of `trusted_uids` are listened to."""

    def __init__(
        self,
        listener: socket.socket,
        trusted_uids: frozenset[int],
        orphan_timeout_s: float,
        loop: Loop,
        sink: ChannelSink,
        note: Note,
        obey: Callable[[dict[str, Any]], None],
        nobody_came: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._trusted_uids = trusted_uids
        self._orphan_timeout_s = orphan_timeout_s
        self._loop = loop
        self._sink = sink
        self._note = note
        self._obey = obey
        self._nobody_came = nobody_came
        self._channel: Channel | None = None
        self._greeted = False
        self._forgotten: Timer | None = None
        self.ever_greeted = False

    def start(self) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(8)
        self._loop.watch(self._listener.fileno(), self._accept)

    def greet(self) -> None:
        """The emperor that is connected has said hello, and been answered: from now on it is told what changes."""
        assert self._channel is not None
        self._greeted = self.ever_greeted = True
        if self._forgotten is not None:
            self._forgotten.cancel()
            self._forgotten = None
        self._sink.attach(self._channel)

    def tell(self, message: dict[str, Any]) -> None:
        # Before its hello an emperor would get changes to a state that it has not been told.
        if self._greeted and self._channel is not None:
            self._channel.send(message)

    def answer(self, message: dict[str, Any], answer: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        if "id" in message and self._channel is not None:
            self._channel.send({"re": message["id"], **answer}, fds)

    def answer_later(self, message: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
        """To be called with the answer. It goes nowhere when whoever has asked is gone by then."""
        asker = self._channel

        def answer(said: dict[str, Any]) -> None:
            if self._channel is asker:
                self.answer(message, said)

        return answer

    def close(self, flush_s: float) -> None:
        """Let what was said arrive, and hang up."""
        if self._channel is not None:
            self._channel.flush_wait(flush_s)
            self._channel.close()

    def forget(self) -> None:
        """In a fork: nothing of this is ours. A socket that closes when it is collected would close whatever has its number by
        then."""
        self._listener.detach()
        if self._channel is not None:
            self._channel.forget()

    # -- inside ------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # No descriptor for it; the socket stays readable, and we would do nothing but fail.
                self._note("error", f"no emperor can connect: {error.strerror} (ulimit -n, LimitNOFILE?)")
                self._loop.unwatch(self._listener.fileno())
                self._loop.call_later(NO_ROOM_S, self._accept_again)
                return
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(credentials)
            if uid not in self._trusted_uids:
                sock.close()
                self._note("warning", f"refused a control connection from pid {pid}, uid {uid}")
                continue
            self._hang_up()
            self._channel = Channel(sock)
            self._loop.watch_channel(self._channel, self._receive)

    def _accept_again(self) -> None:
        own = self._listener.fileno()
        self._loop.unwatch(own)  # where it was replaced meanwhile
        self._loop.watch(own, self._accept)

    def _hang_up(self) -> None:
        """Forget the emperor that was connected."""
        if self._channel is None:
            return
        self._loop.unwatch(self._channel.fileno())
        self._channel.close()
        self._channel = None
        self._sink.attach(None)
        if self._greeted:
            self._greeted = False
            self._forgotten = self._loop.call_later(self._orphan_timeout_s, self._nobody_came)

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            messages = self._channel.receive()
        except ChannelClosed:
            self._hang_up()
            return
        for message, fds in messages:
            if message.get("op") == "control" and len(fds) == 1:
                self._listen_at(fds[0])
                self.answer(message, {"ok": True})
            else:
                self._obey(message)
            for fd in fds:
                os.close(fd)

    def _listen_at(self, fd: int) -> None:
        """Listen at this socket from now on: nobody finds the one before any more. The connection that we have stays."""
        own = self._listener.fileno()
        self._loop.unwatch(own)
        os.dup2(fd, own, inheritable=False)
        self.start()
