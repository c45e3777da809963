"""Clients that send little at a time are read apart from the others, and nobody sees a difference."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import uvloop

from emperor.router import drips
from emperor.router.drips import Drips
from emperor.router.http import DRIP
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
    clients = [stage.http(HEAD[:-2]) for _ in range(drips.FEW * 2)]

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


@dataclass
class Reader:
    """Someone who is read apart, on a socket pair."""

    drips: Drips
    pair: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    got: bytes = b""
    done: Callable[[], None] = lambda: None

    @property
    def fd(self) -> int:
        return self.pair[0].fileno()

    def drip(self) -> None:
        self.got += os.read(self.fd, 10)
        self.done()


async def in_turns(until: Callable[[], bool]) -> int:
    turns = 0
    async with asyncio.timeout(10):
        while not until():
            turns += 1
            await asyncio.sleep(0)
    return turns


@contextlib.contextmanager
def readers(drips_: Drips, count: int) -> Iterator[list[Reader]]:
    made = [Reader(drips_) for _ in range(count)]
    try:
        for reader in made:
            drips_.take(reader.fd, reader)
        yield made
    finally:
        for reader in made:
            drips_.drop(reader.fd, reader)
            for sock in reader.pair:
                sock.close()


@pytest.mark.parametrize("count", [drips.FEW, drips.FEW * 3])
def test_others_come_in_between(count: int) -> None:
    """What thousands have sent is not read in one turn of the loop."""

    async def main() -> None:
        apart = Drips(asyncio.get_running_loop())
        with readers(apart, count) as made:
            most = 0
            for reader in made:
                reader.pair[1].send(b"x")
            seen = 0

            def all_read() -> bool:
                nonlocal most, seen
                now = sum(bool(reader.got) for reader in made)
                most, seen = max(most, now - seen), now
                return now == count

            await in_turns(all_read)
            assert most <= drips.TURN

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_one_may_drop_another_of_the_same_turn() -> None:
    async def main() -> None:
        apart = Drips(asyncio.get_running_loop())
        with readers(apart, 2) as (first, second):
            first.done = lambda: apart.drop(second.fd, second)
            second.done = lambda: apart.drop(first.fd, first)
            for reader in (first, second):
                reader.pair[1].send(b"x")
            await in_turns(lambda: len(apart) == 1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert sorted((first.got, second.got)) == [b"", b"x"]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_number_that_is_another_ones_by_now_is_left_alone() -> None:
    async def main() -> None:
        apart = Drips(asyncio.get_running_loop())
        with readers(apart, 1) as (reader,):
            apart.drop(reader.fd, Reader(apart, reader.pair))
            assert len(apart) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
