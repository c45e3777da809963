"""The control connection on real socketpairs: framing, descriptors, and peers that misbehave."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.control import channel as module
from emperor.control.channel import AskAgain, Channel, ChannelClosed, ControlError


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(sock) for sock in socket.socketpair())
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Channel]]:
    sock, other = socket.socketpair()
    channel = Channel(other)
    yield sock, channel
    sock.close()
    channel.close()


def frame(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def same_file(one: int, other: int) -> bool:
    return os.path.sameopenfile(one, other)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(st.dictionaries(st.text().filter(lambda key: key != "fds"), json_values), max_size=5))
def test_messages_arrive_whole_and_in_order(messages: list[dict[str, Any]]) -> None:
    one, other = (Channel(sock) for sock in socket.socketpair())
    try:
        for message in messages:
            one.send(message)
        assert [message for message, _ in other.receive()] == messages
    finally:
        one.close()
        other.close()


def test_a_message_fed_byte_by_byte_is_one_message(raw: tuple[socket.socket, Channel]) -> None:
    sock, channel = raw
    received = []
    for byte in frame(b'{"op":"hello"}') + frame(b'{"op":"bye"}') + frame(b"{}")[:3]:
        sock.send(bytes([byte]))
        received.append([message["op"] for message, _ in channel.receive()])
    assert [ops for ops in received if ops] == [["hello"], ["bye"]]
    assert received[4 + len(b'{"op":"hello"}') - 1] == ["hello"]


def test_descriptors_come_with_their_message(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    files = [
        os.open("/dev/null", os.O_RDONLY),
        os.open("/etc/hostname", os.O_RDONLY),
        os.open("/", os.O_RDONLY),
    ]
    one.send({"op": "a"}, files[:2])
    one.send({"op": "b"})
    one.send({"op": "c"}, files[2:])
    received = other.receive()
    assert [message["op"] for message, _ in received] == ["a", "b", "c"]
    got = [fd for _, fds in received for fd in fds]
    assert [len(fds) for _, fds in received] == [2, 0, 1]
    assert all(same_file(*both) for both in zip(files, got, strict=True))
    assert not any(os.get_inheritable(fd) for fd in got)
    for fd in files + got:
        os.close(fd)


def test_the_caller_may_close_its_descriptors_at_once(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    one.send({"pad": "x" * 2_000_000})
    fd = os.open("/etc/hostname", os.O_RDONLY)
    one.send({"op": "queued"}, [fd])
    os.close(fd)
    assert one.wants_write
    received: list[Any] = []
    while len(received) < 2:
        received += other.receive()
        one.flush()
    ((kept,),) = [fds for _, fds in received[1:]]
    assert os.read(kept, 1)
    os.close(kept)


def test_the_most_descriptors_of_a_message_arrive(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    one.send({"op": "many"}, [0] * module.MAX_FDS)
    ((_, fds),) = other.receive()
    assert len(fds) == module.MAX_FDS
    for fd in fds:
        os.close(fd)
    with pytest.raises(ValueError, match="at most 200"):
        one.send({}, [0] * (module.MAX_FDS + 1))


def test_a_message_larger_than_the_socket_takes_goes_on_when_it_is_read(
    pair: tuple[Channel, Channel],
) -> None:
    one, other = pair
    asked: list[bool] = []
    one.on_wants_write = lambda: asked.append(True)
    message = {"text": "x" * 3_000_000}
    one.send(message)
    assert one.wants_write and one.queued_bytes > 0 and asked == [True]
    writer = threading.Thread(target=one.flush_wait, args=(10.0,))
    writer.start()
    assert other.receive_wait(10)[0] == message
    writer.join()
    assert not one.wants_write and one.queued_bytes == 0


def test_a_message_over_the_limit_is_refused_on_both_sides(raw: tuple[socket.socket, Channel]) -> None:
    sock, channel = raw
    with pytest.raises(ValueError, match="at most 4194304"):
        channel.send({"text": "x" * module.MAX_MESSAGE})
    sock.send(struct.pack("!I", module.MAX_MESSAGE + 1))
    with pytest.raises(ChannelClosed, match="announced a control message of 4194305 bytes"):
        channel.receive()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"nonsense", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"fds":1}', "names 1 descriptors and 0 came"),
        (b'{"fds":-1}', "names -1 descriptors"),
        (b'{"fds":true}', "names True descriptors"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_message_ends_the_connection_after_what_came_before(
    raw: tuple[socket.socket, Channel], text: bytes, why: str
) -> None:
    sock, channel = raw
    sock.sendall(frame(b'{"op":"good"}') + frame(text))
    assert channel.receive() == [({"op": "good"}, [])]
    poller = select.poll()
    poller.register(channel.fileno(), select.POLLIN)
    assert poller.poll(0), "an owner that only polls must meet the end too"
    with pytest.raises(ChannelClosed, match=why):
        channel.receive()


def test_the_end_comes_after_the_last_message(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    one.send({"op": "last"})
    one.close()
    assert other.receive() == [({"op": "last"}, [])]
    with pytest.raises(ChannelClosed, match="the peer closed"):
        other.receive()


def test_what_a_peer_wrote_before_it_went_is_still_read(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    one.send({"op": "last"})
    one.close()
    other.send({"op": "into the void"})
    other.send({"op": "again"})
    assert not other.wants_write
    assert other.receive() == [({"op": "last"}, [])]


def test_an_end_in_the_middle_says_so(raw: tuple[socket.socket, Channel]) -> None:
    sock, channel = raw
    sock.send(frame(b"{}")[:5])
    sock.close()
    with pytest.raises(ChannelClosed, match="in the middle of a message"):
        channel.receive()


def test_droppable_messages_are_dropped_when_nobody_reads(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    line = {"op": "log", "lines": ["x" * 10_000]}
    taken = 0
    while one.send_droppable(line):
        taken += 1
        assert one.queued_bytes <= module.DROPPABLE_BOUND
        assert taken < 1000
    one.send({"op": "state"})  # what matters still goes
    got: list[Any] = []
    while len(got) < taken + 1:
        got += other.receive()
        one.flush()
    assert got[-1][0] == {"op": "state"}
    one.close()
    assert one.send_droppable(line) is False
    with pytest.raises(ChannelClosed):
        one.send(line)


def test_a_peer_that_never_reads_counts_as_gone(
    pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = pair
    monkeypatch.setattr(module, "QUEUE_BOUND", 1_000_000)
    for _ in range(20):
        one.send({"text": "x" * 100_000})
    assert one.queued_bytes == 0
    with pytest.raises(ChannelClosed, match="stopped reading"):
        one.receive()


def test_close_leaves_no_descriptor_behind() -> None:
    before = open_fds()
    one, other = (Channel(sock) for sock in socket.socketpair())
    one.send({"pad": "x" * 2_000_000})
    one.send({"op": "queued"}, [0, 1])
    other.send({"op": "unread"}, [0, 1])
    assert one.request is not None and not other.wants_write
    other.send({"re": 1, "ok": True}, [0])
    one._read_nowait()  # received, not yet handed out
    one.close()
    one.close()
    other.close()
    assert open_fds() == before


def answering(channel: Channel, *answers: dict[str, Any]) -> threading.Thread:
    def answer() -> None:
        message, _ = channel.receive_wait(10)
        for text in answers:
            channel.send({"re": message["id"], **text} if "ok" in text else text)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_a_request_gets_its_answer_and_keeps_what_came_between(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    thread = answering(other, {"op": "log"}, {"ok": True, "pid": 7}, {"op": "after"})
    answer, _ = one.request({"op": "spawn"}, timeout_s=10)
    thread.join()
    assert answer["pid"] == 7
    assert [message["op"] for message, _ in one.receive()] == ["log", "after"]


def test_a_refusal_is_an_error_with_its_reason(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    thread = answering(other, {"ok": False, "error": "no such vassal"})
    with pytest.raises(ControlError) as caught:
        one.request({"op": "reload"}, timeout_s=10)
    thread.join()
    assert caught.value.reason == "no such vassal"


def test_waiting_ends(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    with pytest.raises(TimeoutError, match=r"no answer to 'hello' within 0\.05 s"):
        one.request({"op": "hello"}, timeout_s=0.05)
    with pytest.raises(TimeoutError):
        one.receive_wait(0.05)
    other.close()
    with pytest.raises(ChannelClosed):
        one.receive_wait(10)


def test_the_peer_is_known(pair: tuple[Channel, Channel]) -> None:
    assert pair[0].peer() == (os.getpid(), os.getuid(), os.getgid())


def test_connecting_to_nobody_names_the_path(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"nobody\.sock"):
        Channel.connect(str(tmp_path / "nobody.sock"))


def test_another_program_goes_on_with_it_in_the_middle_of_a_message(
    raw: tuple[socket.socket, Channel],
) -> None:
    sock, channel = raw
    sock.sendall(frame(b'{"op":"first"}') + frame(b'{"op":"second"}') + frame(b'{"op":"third"}')[:7])
    channel.receive_wait(1.0)  # the second one is read with it, and was not taken
    document = json.loads(json.dumps(channel.hand_over()))
    document["fd"] = os.dup(document["fd"])
    after = Channel.resume(document)
    sock.sendall(frame(b'{"op":"third"}')[7:])
    assert [message["op"] for message, _ in after.receive()] == ["second", "third"]
    after.close()


def test_what_is_half_done_cannot_go_on_elsewhere(raw: tuple[socket.socket, Channel]) -> None:
    sock, channel = raw
    assert channel.hand_over() is not None
    while not channel.wants_write:
        channel.send({"op": "x" * 100_000})
    assert channel.hand_over() is None
    while channel.wants_write:
        sock.recv(1 << 20)
        channel.flush()
    assert channel.hand_over() is not None
    read_end, write_end = os.pipe()
    socket.send_fds(sock, [frame(b'{"op":"x","fds":1}')], [read_end])
    os.close(read_end)
    os.close(write_end)
    with pytest.raises(TimeoutError):
        channel.request({"op": "y"}, timeout_s=0.05)
    assert channel.hand_over() is None, "a descriptor waits in it"
    sock.close()
    channel.receive()
    with pytest.raises(ChannelClosed):
        channel.receive()
    assert channel.hand_over() is None


def test_an_answer_may_say_ask_again(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    other.send({"re": 1, "ok": False, "error": "not now", "again": True})
    with pytest.raises(AskAgain, match="not now"):
        one.request({"op": "x"}, timeout_s=1.0)
