"""The router's side of the control protocol (docs/specs/control.md): it listens, the newest emperor is served.

Every operation of the emperor is one method named ``_op_*``; the table is the class.
"""

import asyncio
import os
import socket
from typing import Any, Final, Protocol

from emperor.control.channel import Channel, ChannelClosed

HANDOVER_FDS: Final = 200

_TAKES_FDS: Final = frozenset({"listen", "keys", "vassal", "generation", "access", "control", "backplane"})


class Commands(Protocol):
    """What the router does for an emperor: op name → method. A method returns the keys of the answer, or raises Refused."""

    def command(self, op: str, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Carry out ``op``; takes ownership of ``fds``. Raises Refused."""

    def handover(self) -> list[tuple[dict[str, Any], list[int]]]:
        """The answers of ``handover``: keys and descriptors, the last with ``last``."""

    def emperor_came(self, channel: Channel) -> None:
        """A new emperor is served from now on."""

    def emperor_left(self) -> None:
        """The connection ended."""


class Refused(Exception):
    """The command cannot be carried out; the text says what, why and what to do."""


class Control:
    """The listening control socket and its one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, commands: Commands) -> None:
        self.loop = loop
        self.sock = sock
        self.commands = commands
        self.channel: Channel | None = None
        self._writing = False
        self._reading = False
        sock.setblocking(False)
        sock.listen(4)
        loop.add_reader(sock.fileno(), self._accept)

    def listen_at(self, fd: int) -> None:
        """Listen at this socket from now on: nobody finds the one before any more. Its connection stays."""
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        sock.listen(4)
        self.loop.remove_reader(self.sock.fileno())
        self.sock.close()
        self.sock = sock
        self.loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self.sock.accept()
        except OSError:
            return
        channel = Channel(connection)
        uid = channel.peer()[1]
        if uid not in (0, os.getuid(), _OWNER_UID):
            channel.close()
            return
        self._drop()
        self.channel = channel
        self.loop.add_reader(channel.fileno(), self._readable)
        self.commands.emperor_came(channel)

    def _drop(self) -> None:
        channel = self.channel
        if channel is not None:
            self.channel = None
            self._stop_writing(channel)
            self.loop.remove_reader(channel.fileno())
            channel.close()

    def catch_up(self) -> None:
        """Carry out what the emperor has said and this loop has not come to yet.

        It tells of a generation before it starts it, so that whatever one of its workers does comes later; but that comes by
        another socket, and a loop that has slept finds both readable at once, in no order.
        """
        if self._reading:
            return  # asked from within a command: those before it are done, those behind it are in hand
        self._accept()
        self._readable()

    def _readable(self) -> None:
        channel = self.channel
        if channel is None or self._reading:
            return
        self._reading = True
        try:
            for message, fds in channel.receive():
                self._message(channel, message, fds)
                if self.channel is not channel:
                    return
        except ChannelClosed:
            self._drop()
            self.commands.emperor_left()
            return
        finally:
            self._reading = False
        self.want_write()

    def _message(self, channel: Channel, message: dict[str, Any], fds: list[int]) -> None:
        op = str(message.get("op"))
        answer: dict[str, Any]
        if op == "handover":
            for part, descriptors in self.commands.handover():
                channel.send({"re": message.get("id"), "ok": True, **part}, descriptors)
            return
        try:
            answer = {"ok": True, **self.commands.command(op, message, fds)}
        except Exception as error:
            # Whatever it was, the emperor waits for an answer, and no command may end the router.
            reason = f"{error.args[0]}: missing" if isinstance(error, KeyError) else error
            answer = {"ok": False, "error": f"router: {op}: {reason}"}
        if not answer["ok"] or op not in _TAKES_FDS:
            for fd in fds:
                _close_quietly(fd)
        if "id" in message:
            channel.send({"re": message["id"], **answer})
        elif not answer["ok"]:
            channel.send({"op": "log", "lines": [["error", answer["error"]]], "dropped": 0})

    def tell(self, message: dict[str, Any]) -> bool:
        """Send an event if an emperor is there and reads. False: it was dropped."""
        channel = self.channel
        if channel is None:
            return False
        sent = channel.send_droppable(message)
        self.want_write()
        return sent

    def want_write(self) -> None:
        """Go on writing when the socket is full."""
        channel = self.channel
        if channel is not None and channel.wants_write and not self._writing:
            self._writing = True
            self.loop.add_writer(channel.fileno(), self._writable, channel)

    def _writable(self, channel: Channel) -> None:
        if channel.flush():
            self._stop_writing(channel)

    def _stop_writing(self, channel: Channel) -> None:
        if self._writing:
            self._writing = False
            self.loop.remove_writer(channel.fileno())

    def close(self) -> None:
        """Flush what can be flushed, and end."""
        if self.channel is not None:
            self.channel.flush_wait(0.5)
        self._drop()
        self.loop.remove_reader(self.sock.fileno())
        self.sock.close()


_OWNER_UID: Final = os.getuid()
"""Who started this process, before it dropped privileges: the emperor's uid."""


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return
