"""Clients that stay, and those that send little at a time, are read by lanes, and nobody sees a difference."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator

import pytest
import uvloop

from emperor.protocol import records
from emperor.router.front import DRIPS_FEW
from emperor.router.http import DRIP
from emperor.router.lane import Lane
from tests.router.client import Connection, get, post
from tests.router.stage import Stage, Vassal
from tests.router.worker import FakeWorker, Request, echo
from tests.scenarios.harness.waiting import wait_for

HEAD = get("blog.localhost")


def mirror(worker: FakeWorker, request: Request) -> None:
    """Answers with the body."""
    worker.respond(request, body=bytes(request.body + worker.rest_of_body(request)))


def dripping(stage: Stage) -> int:
    number: int = stage.stats()["dripping"]
    return number


def drip_until_apart(stage: Stage, client: Connection, pieces: Iterator[bytes], count: int = 1) -> None:
    """Sends pieces until the router reads `count` clients apart."""

    def sent() -> bool:
        client.send(next(pieces))
        return dripping(stage) == count

    wait_for(sent, 10, "the client to be read apart", every_s=0.03)


def fields() -> Iterator[bytes]:
    while True:
        yield b"X-Slow: 1\r\n"


def slow_head(stage: Stage, count: int = 1) -> Connection:
    client = stage.http(HEAD[:-2])
    drip_until_apart(stage, client, fields(), count)
    return client


def slow_body(stage: Stage, size: int) -> tuple[Connection, bytes]:
    """A client read apart in the middle of a body, and what is left of it."""
    whole = bytes(65 + number % 26 for number in range(size))
    client = stage.http(post(whole)[: -len(whole)])
    at = iter(range(size))
    drip_until_apart(stage, client, (whole[each : each + 1] for each in at))
    return client, whole[next(at) :]


def test_a_head_that_drips_is_read_to_its_end(stage: Stage, blog: Vassal) -> None:
    blog.active().answering(echo)
    client = slow_head(stage)
    assert client.send(b"\r\n").response().status == 200
    wait_for(lambda: dripping(stage) == 0, 10)
    # And is a connection like any other.
    assert client.send(HEAD, HEAD).response().status == 200
    assert client.response().status == 200


def test_a_head_ends_together_with_the_requests_behind_it(stage: Stage, blog: Vassal) -> None:
    blog.active().answering(echo)
    client = slow_head(stage).send(b"\r\n", HEAD, HEAD[:-2])
    assert [client.response().status for _ in range(2)] == [200, 200]
    assert client.send(b"\r\n").response().status == 200


def test_a_body_that_drips_is_read_to_its_end(stage: Stage, blog: Vassal) -> None:
    blog.active().answering(mirror)
    client, rest = slow_body(stage, 2000)
    for at in range(0, len(rest) - 5, 100):
        client.send(rest[at : at + 100])
    sent = (len(rest) - 5 + 99) // 100 * 100
    response = client.send(rest[sent:]).response()
    assert response.status == 200
    assert (len(response.body), response.body[-len(rest) :]) == (2000, rest)


def test_who_sends_more_is_read_as_the_others(stage: Stage, blog: Vassal) -> None:
    client, rest = slow_body(stage, 100_000)
    client.send(rest[: DRIP * 4])
    wait_for(lambda: dripping(stage) == 0, 10)
    blog.active().answering(mirror)
    assert client.send(rest[DRIP * 4 :]).response().body.endswith(rest)


def test_a_kept_connection_in_all_its_turns(stage: Stage, blog: Vassal) -> None:
    """A large body (reading stops and goes on), a drip, requests in one piece, and the end."""
    blog.active().answering(echo)
    client = stage.http(HEAD)
    assert client.response().status == 200
    body = b"0123456789abcdef" * 100_000
    assert client.send(post(body)).response().body == b"POST / 1600000"
    client.send(HEAD[:-2])
    drip_until_apart(stage, client, fields())
    assert client.send(b"\r\n", post(body), HEAD).response().status == 200
    assert client.response().body == b"POST / 1600000"
    assert client.response().status == 200
    client.half_close()
    assert client.end() == "closed"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_kept_client_that_leaves_is_gone(stage: Stage, blog: Vassal, how: str) -> None:
    before = stage.stats()["connections"]
    worker = blog.active().worker()
    client = stage.http(HEAD)
    worker.respond(worker.take())
    assert client.response().status == 200
    client.send(HEAD)
    request = worker.take()
    client.reset() if how == "reset" else client.close()
    if how == "reset":
        assert worker.expect(records.CANCEL)[3] == request.stream
    worker.respond(request)
    wait_for(lambda: stage.stats()["connections"] == before, 10)


def test_quick_pieces_are_no_drips(stage: Stage, blog: Vassal) -> None:
    blog.active().answering(echo)
    client = stage.http()
    for at in range(0, len(HEAD), 7):
        client.send(HEAD[at : at + 7])
    assert client.response().status == 200


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("where", ["head", "body"])
def test_who_leaves_is_gone(stage: Stage, blog: Vassal, how: str, where: str) -> None:
    before = stage.stats()["connections"]
    client = slow_head(stage) if where == "head" else slow_body(stage, 1000)[0]
    if how == "half":
        client.sock.shutdown(socket.SHUT_WR)
        assert client.end() == "closed"
    elif how == "reset":
        client.reset()
    else:
        client.close()
    wait_for(lambda: (dripping(stage), stage.stats()["connections"]) == (0, before), 10)
    # Its descriptor's number is the next client's, who is not taken for it.
    blog.active().answering(echo)
    other = slow_head(stage)
    assert other.send(b"\r\n").response().status == 200


def test_a_head_that_is_wrong_is_refused(stage: Stage, blog: Vassal) -> None:
    client = slow_head(stage).send(b"X Y: 1\r\n\r\n")
    assert client.response().status == 400
    assert client.end() == "closed"
    wait_for(lambda: dripping(stage) == 0, 10)


def test_the_deadline_is_for_them_too(short: Stage) -> None:
    with short.scene():
        client = short.http(HEAD[:-2])
        drip_until_apart(short, client, fields())
        assert client.response().status == 408
        assert client.end() == "closed"
        wait_for(lambda: dripping(short) == 0, 10)


def test_many_of_them(stage: Stage, blog: Vassal) -> None:
    """More than wake the router one by one."""
    blog.active().answering(echo)
    clients = [stage.http(HEAD[:-2]) for _ in range(DRIPS_FEW * 2)]

    def sent() -> bool:
        for client in clients:
            client.send(b"X-Slow: 1\r\n")
        return dripping(stage) == len(clients)

    wait_for(sent, 10, "all to be read apart", every_s=0.05)
    for client in clients:
        client.send(b"\r\n")
    assert {client.response().status for client in clients} == {200}
    wait_for(lambda: dripping(stage) == 0, 10)
    # And again few.
    assert slow_head(stage).send(b"\r\n").response().status == 200


class Reader:
    """Someone who is read by a lane, on a socket pair."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.sock, self.other = socket.socketpair()
        self.fd = self.sock.fileno()
        self.got: list[bytes] = []
        self.broke = 0
        self.errors: list[Exception] = []
        self.then: Callable[[], None] = lambda: None

    def data_received(self, data: bytes) -> None:
        self.got.append(data)
        self.then()

    def ended(self) -> None:
        self.got.append(b"")
        self.lane.drop(self.fd, self)

    def broken(self) -> None:
        self.broke += 1
        self.lane.drop(self.fd, self)

    def close(self) -> None:
        self.sock.close()
        self.other.close()

    def stumbled(self, error: Exception) -> None:
        self.errors.append(error)


async def in_turns(until: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not until():
            await asyncio.sleep(0)


@contextlib.contextmanager
def readers(lane: Lane, count: int) -> Iterator[list[Reader]]:
    made = [Reader(lane) for _ in range(count)]
    try:
        for reader in made:
            lane.take(reader.fd, reader)
        yield made
    finally:
        for reader in made:
            lane.drop(reader.fd, reader)
            reader.close()


def run(main: Callable[[Lane], Coroutine[None, None, None]], *shape: int) -> None:
    """With a lane of this shape: turn, size, few."""

    async def with_lane() -> None:
        await main(Lane(asyncio.get_running_loop(), *shape))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(with_lane())


@pytest.mark.parametrize(("count", "few"), [(64, 64), (200, 64), (200, 0)])
def test_others_come_in_between(count: int, few: int) -> None:
    """What thousands have sent is not read in one turn of the loop."""

    async def main(lane: Lane) -> None:
        most = seen = 0
        with readers(lane, count) as made:
            assert len(lane) == count
            for reader in made:
                reader.other.send(b"x")

            def all_read() -> bool:
                nonlocal most, seen
                now = sum(len(reader.got) for reader in made)
                most, seen = max(most, now - seen), now
                return now == count

            await in_turns(all_read)
            assert most <= 16
        assert len(lane) == 0

    run(main, 16, 4096, few)


def test_many_that_have_sent_at_once_leave_the_core_to_others() -> None:
    """Between two of its looks by the clock the loop has time to sleep."""

    async def main(lane: Lane) -> None:
        loop = asyncio.get_running_loop()
        with readers(lane, 200) as made:
            looks: list[float] = []

            def looked() -> None:
                looks.append(loop.time())

            for reader in made:
                reader.then = looked
                reader.other.send(b"x")
            await in_turns(lambda: len(looks) == 200)
            # The loop's time stands still within a turn.
            assert len(set(looks)) >= 200 // 16

    run(main, 16, 4096, 64)


def test_from_many_to_few_and_back() -> None:
    """Whoever is left is read, by the clock or not."""

    async def main(lane: Lane) -> None:
        with readers(lane, 1) as (stays,):
            for number in range(1, 4):
                with readers(lane, 100):
                    stays.other.send(b"x")
                    await in_turns(lambda number=number: len(stays.got) == 2 * number - 1)
                stays.other.send(b"x")
                await in_turns(lambda number=number: len(stays.got) == 2 * number)

    run(main, 16, 4096, 64)


def test_one_may_drop_another_of_the_same_turn() -> None:
    async def main(lane: Lane) -> None:
        with readers(lane, 2) as (first, second):
            first.then = lambda: lane.drop(second.fd, second)
            second.then = lambda: lane.drop(first.fd, first)
            for reader in (first, second):
                reader.other.send(b"x")
            await in_turns(lambda: len(lane) == 1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert sorted((first.got, second.got)) == [[], [b"x"]]

    run(main, 16, 4096)


def test_a_number_that_is_another_ones_by_now_is_left_alone() -> None:
    async def main(lane: Lane) -> None:
        with readers(lane, 1) as (reader,):
            with contextlib.closing(Reader(lane)) as other:
                lane.drop(reader.fd, other)
            assert len(lane) == 1
            lane.drop(-1, reader)
            lane.drop(100_000, reader)
            assert len(lane) == 1

    run(main, 16, 4096)


def test_a_reset_is_told_once() -> None:
    async def main(lane: Lane) -> None:
        with readers(lane, 1) as (reader,):
            reader.sock.send(b"never read")  # a unix socket that is closed over it resets the other
            reader.other.close()
            await in_turns(lambda: bool(reader.broke))
            assert (reader.broke, reader.got, len(lane)) == (1, [], 0)

    run(main, 16, 4096)


def test_the_end_is_told_once() -> None:
    async def main(lane: Lane) -> None:
        with readers(lane, 1) as (reader,):
            reader.other.send(b"last")
            reader.other.close()
            await in_turns(lambda: reader.got == [b"last", b""])
            assert len(lane) == 0

    run(main, 16, 4096)


def test_no_more_than_its_size_at_once() -> None:
    async def main(lane: Lane) -> None:
        with readers(lane, 1) as (reader,):
            reader.other.send(b"x" * 25)
            await in_turns(lambda: sum(map(len, reader.got)) == 25)
            assert [len(piece) for piece in reader.got] == [10, 10, 5]

    run(main, 16, 10)


def test_one_that_stumbles_stops_nobody() -> None:
    async def main(lane: Lane) -> None:
        def stumble() -> None:
            raise ValueError("no")

        with readers(lane, 3) as made:
            made[0].then = made[1].then = stumble
            for reader in made:
                reader.other.send(b"x")
            await in_turns(lambda: all(reader.got for reader in made))
            assert [len(reader.errors) for reader in made] == [1, 1, 0]

    run(main, 16, 4096)


def test_what_is_no_socket_of_ours_is_refused() -> None:
    async def main(lane: Lane) -> None:
        with contextlib.closing(Reader(lane)) as reader, pytest.raises(OSError, match="epoll_ctl"):
            lane.take(100_000, reader)
        assert len(lane) == 0

    run(main, 16, 4096)
