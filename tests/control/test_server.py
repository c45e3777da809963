"""The operator's socket and conversations: answers find their question, refusals say what to do, strangers
get none."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emperor.control.channel import Channel, ChannelClosed
from emperor.control.conversation import Conversation
from emperor.control.server import ControlServer, Refused, Reply
from emperor.supervisor import sockets
from emperor.supervisor.loop import Loop
from emperor.supervisor.sockets import Address


class Served:
    def __init__(self, path: Path) -> None:
        self.loop = Loop()
        self.path = str(path / "control.sock")
        self.later: list[Reply] = []
        self.server = ControlServer(
            self.loop,
            sockets.listen(Address(path=self.path), 0o600),
            {"echo": self.echo, "later": self.reply_later, "refuse": self.refuse},
        )
        self.clients: list[Channel] = []

    def echo(self, message: dict[str, Any], reply: Reply) -> None:
        reply({"said": message["text"]})

    def reply_later(self, _message: dict[str, Any], reply: Reply) -> None:
        self.later.append(reply)

    def refuse(self, _message: dict[str, Any], _reply: Reply) -> None:
        raise Refused("refuse: never: ask for something else")

    def connect(self) -> Channel:
        self.clients.append(Channel.connect(self.path))
        return self.clients[-1]

    def until(self, found: Callable[[], Any], deadline_s: float = 5.0) -> Any:
        end = self.loop.now() + deadline_s
        while not (result := found()):
            assert self.loop.now() < end, "it did not happen in time"
            self.loop.step(0.02)
        return result

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.close()
        self.loop.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


def test_answers_carry_the_number_of_their_question_in_any_order(served: Served) -> None:
    client = served.connect()
    client.send({"op": "later", "id": 1})
    client.send({"op": "echo", "id": 2, "text": "x"})
    assert served.until(client.receive) == [({"re": 2, "ok": True, "said": "x"}, [])]
    served.later[0]({"done": True})
    assert served.until(client.receive) == [({"re": 1, "ok": True, "done": True}, [])]


def test_a_refusal_and_an_unknown_operation_say_what_to_do(served: Served) -> None:
    client = served.connect()
    client.send({"op": "refuse", "id": 1})
    client.send({"op": "nonsense", "id": 2})
    client.send({"op": "nonsense"})  # nobody asks for an answer
    answers = [answer for answer, _ in served.until(client.receive)]
    while len(answers) < 2:
        answers += [answer for answer, _ in served.until(client.receive)]
    assert [answer["ok"] for answer in answers] == [False, False]
    assert answers[0]["error"].endswith("ask for something else")
    assert "'nonsense'" in answers[1]["error"] and "echo, later, refuse" in answers[1]["error"]


def test_a_client_that_left_before_its_answer_harms_nobody(served: Served) -> None:
    client = served.connect()
    client.send({"op": "later", "id": 1})
    served.until(lambda: served.later)
    client.close()
    for _ in range(5):
        served.loop.step(0.01)
    served.later[0]({"done": True})
    other = served.connect()
    other.send({"op": "echo", "id": 1, "text": "y"})
    assert served.until(other.receive)[0][0]["said"] == "y"


def test_who_waits_for_our_end_sees_it(served: Served) -> None:
    client = served.connect()
    client.send({"op": "echo", "id": 1, "text": "x"})
    served.until(client.receive)
    served.server.close()
    with pytest.raises(ChannelClosed):
        served.until(client.receive)


def test_a_conversation_tells_messages_from_answers_and_its_end_once() -> None:
    loop = Loop()
    ours, theirs = socket.socketpair()
    peer = Channel(theirs)
    messages: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    ends: list[str] = []
    conversation = Conversation(loop, Channel(ours), messages.append, ends.append)
    try:
        conversation.request({"op": "ask"}, answers.append)
        (question, _), *_ = peer.receive()
        peer.send({"op": "state", "state": "ready"})
        peer.send({"re": 5, "ok": True})  # to nothing that we asked
        peer.send({"re": question["id"], "ok": True})
        peer.send({"re": question["id"], "ok": True})  # and once more
        while not answers:
            loop.step(0.1)
        assert messages == [{"op": "state", "state": "ready"}]
        assert answers == [{"re": question["id"], "ok": True}]
        assert conversation.unanswered == 0
        conversation.request({"op": "ask"}, answers.append)
        peer.close()
        while not ends:
            loop.step(0.1)
        loop.step(0.0)
        assert len(ends) == 1 and not conversation.is_open and len(answers) == 1
        conversation.send({"op": "late"})
        conversation.request({"op": "late"}, answers.append)
    finally:
        conversation.close()
        peer.close()
        loop.close()
