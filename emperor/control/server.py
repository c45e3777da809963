"""The operator's socket: `control.sock`, which the command line is a thin client of.

Owns the listening socket and its connections. Only root and the emperor's own user are served, whatever the
file's mode has become. What the operations do is the emperor's; here they only arrive and are answered.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from emperor.control.channel import Channel
from emperor.control.conversation import Conversation
from emperor.supervisor.accepting import Accepting
from emperor.supervisor.handover import Keep
from emperor.supervisor.loop import Loop

PEER = "peer"
"""The key of a message that says whose it is, as the kernel has it: (pid, uid)."""


class Reply:
    """The answer to one request: called with its keys, now or later, once. `conversation` and `number` name the request."""

    def __init__(
        self, conversation: Conversation, number: Any, answered: Callable[[Reply], None] | None = None
    ) -> None:
        self.conversation = conversation
        self.number = number
        self._answered = answered
        self._done = False

    def __call__(self, keys: dict[str, Any]) -> None:
        self._send({"ok": True, **keys})

    def refuse(self, text: str, **keys: Any) -> None:
        """Say no, and why."""
        self._send({"ok": False, "error": text, **keys})

    def _send(self, answer: dict[str, Any]) -> None:
        if self._done:
            return
        self._done = True
        if self._answered is not None:
            self._answered(self)
        if self.number is not None:
            self.conversation.send({"re": self.number, **answer})


Operation = Callable[[dict[str, Any], Reply], None]
"""Called with the message and how to answer it. Raises Refused."""


class Refused(Exception):
    """The operation cannot be done; the text says what, why and what to do."""


class ControlServer:
    """Answers on `sock`, listening already, by the table of operations."""

    def __init__(self, loop: Loop, sock: socket.socket, operations: dict[str, Operation]) -> None:
        self._loop = loop
        self._operations = operations
        self._open: dict[Conversation, tuple[int, int]] = {}
        self._unanswered: set[Reply] = set()
        self._sock = sock
        self._accepting = Accepting(loop, sock, self._accept)

    def listen_at(self, sock: socket.socket) -> None:
        """Listen there from now on: the path of the one before leads nowhere any more. Its connections stay."""
        self._accepting.close()
        self._sock = sock
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

        self._serve(channel, (pid, uid))

    def _serve(self, channel: Channel, peer: tuple[int, int]) -> Conversation:
        def said(message: dict[str, Any]) -> None:
            self._obey(conversation, {**message, PEER: peer})

        def closed(_why: str) -> None:
            self._open.pop(conversation, None)
            self._unanswered = {each for each in self._unanswered if each.conversation is not conversation}

        conversation = Conversation(self._loop, channel, said, closed)
        self._open[conversation] = peer
        return conversation

    def hand_over(self, keep: Keep, waiting: Mapping[str, Iterable[Reply]]) -> dict[str, Any]:
        """What another program in this process needs to go on: the socket, every connection, and of `waiting`, by any keys,
        whom an answer is owed."""
        numbers: dict[Conversation, int] = {}
        connections: list[dict[str, Any]] = []
        for conversation, peer in self._open.items():
            document = keep.part(conversation.hand_over())
            if document is not None:
                numbers[conversation] = len(connections)
                connections.append({**document, "peer": peer})
        owed = {
            key: [
                [numbers[each.conversation], each.number] for each in replies if each.conversation in numbers
            ]
            for key, replies in waiting.items()
        }
        return {"fd": keep(self._sock.fileno()), "connections": connections, "owed": owed}

    def resume(self, document: dict[str, Any]) -> dict[str, list[Reply]]:
        """Go on with the connections that `hand_over` gave, and answer whom it owed."""
        found = [self._serve(Channel.resume(each), tuple(each["peer"])) for each in document["connections"]]
        return {
            key: [self._owe(found[connection], number) for connection, number in owed]
            for key, owed in document["owed"].items()
        }

    def refuse_waiting(self, text: str, but: Iterable[Reply]) -> None:
        """Say no to all who wait for an answer, but to these: they may ask again."""
        for each in self._unanswered - set(but):
            each.refuse(text, again=True)

    def _owe(self, conversation: Conversation, number: Any) -> Reply:
        reply = Reply(conversation, number, self._unanswered.discard)
        self._unanswered.add(reply)
        return reply

    def _obey(self, conversation: Conversation, message: dict[str, Any]) -> None:
        reply = self._owe(conversation, message.get("id"))
        try:
            operation = self._operations.get(str(message.get("op")))
            if operation is None:
                known = ", ".join(sorted(self._operations))
                raise Refused(f"the emperor has no operation {message.get('op')!r}; it has {known}")
            operation(message, reply)
        except Refused as refused:
            reply.refuse(str(refused))
        except BaseException:
            self._unanswered.discard(reply)
            raise
