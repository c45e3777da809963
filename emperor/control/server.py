"""The operator's socket: `control.sock`, which the command line is a thin client of.

Owns the listening socket and its connections. Only root and the emperor's own user are served, whatever the
file's mode has become. What the operations do is the emperor's; here they only arrive and are answered.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from emperor.control.channel import Channel
from emperor.control.conversation import Conversation
from emperor.supervisor.accepting import Accepting
from emperor.supervisor.loop import Loop

PEER = "peer"
"""The key of a message that says whose it is, as the kernel has it: (pid, uid)."""

Reply = Callable[[dict[str, Any]], None]
Operation = Callable[[dict[str, Any], Reply], None]
"""Called with the message and a function that takes the keys of the answer, now or later, once. Raises
Refused."""


class Refused(Exception):
    """The operation cannot be done; the text says what, why and what to do."""


class ControlServer:
    """Answers on `sock`, listening already, by the table of operations."""

    def __init__(self, loop: Loop, sock: socket.socket, operations: dict[str, Operation]) -> None:
        self._loop = loop
        self._operations = operations
        self._open: set[Conversation] = set()
        self._accepting = Accepting(loop, sock, self._accept)

    def listen_at(self, sock: socket.socket) -> None:
        """Listen there from now on: the path of the one before leads nowhere any more. Its connections stay."""
        self._accepting.close()
        self._accepting = Accepting(self._loop, sock, self._accept)

    def close(self) -> None:
        """Close the socket and every connection: whoever waits for our end sees it now."""
        self._accepting.close()
        for conversation in list(self._open):
            conversation.close()
        self._open.clear()

    def _accept(self, connection: socket.socket) -> None:
        channel = Channel(connection)
        pid, uid, _ = channel.peer()
        if uid not in (0, os.geteuid()):
            channel.close()
            return

        def said(message: dict[str, Any]) -> None:
            self._obey(conversation, {**message, PEER: (pid, uid)})

        def closed(_why: str) -> None:
            self._open.discard(conversation)

        conversation = Conversation(self._loop, channel, said, closed)
        self._open.add(conversation)

    def _obey(self, conversation: Conversation, message: dict[str, Any]) -> None:
        number = message.get("id")

        def reply(keys: dict[str, Any]) -> None:
            if number is not None:
                conversation.send({"re": number, "ok": True, **keys})

        try:
            operation = self._operations.get(str(message.get("op")))
            if operation is None:
                known = ", ".join(sorted(self._operations))
                raise Refused(f"the emperor has no operation {message.get('op')!r}; it has {known}")
            operation(message, reply)
        except Refused as refused:
            if number is not None:
                conversation.send({"re": number, "ok": False, "error": str(refused)})
