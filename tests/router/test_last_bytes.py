"""The last bytes of a connection that closes. asyncio tells of a client that takes nothing only while more than 16 to 64 KiB
wait for it: the router itself has to see to what is less, and to an end that never passes for a whole answer."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from emperor.config.settings import RouterSettings
from emperor.protocol import records
from emperor.router.front import WRITE_HIGH, Front
from emperor.router.listener import KINDS
from emperor.router.main import Router
from tests.router.client import Connection, post
from tests.router.stage import Stage, open_stage
from tests.router.test_listeners import Tls, pem, secure

__all__ = ["pem"]  # a fixture

SHORT = RouterSettings(write_timeout_s=0.3, linger_timeout_s=0.3)

ENDS: dict[str, Callable[[Front], None]] = {
    "answered while it sends": lambda front: front.turn_away(),
    "at rest when the router leaves": lambda front: front.leave(),
    "at rest for too long": lambda front: setattr(front, "deadline", 0.001),
}


async def deaf(router: Router, kind: str, left: int) -> tuple[Front, socket.socket]:
    """A connection whose client takes nothing, with ``left`` bytes (or a few more) of ours that the kernel has no room for."""
    fronts: list[Front] = []

    def front() -> asyncio.Protocol:
        fronts.append(KINDS[kind](router))
        return fronts[0]  # type: ignore[return-value]

    sock, client = socket.socket(), socket.socket()
    # Of fixed size, so that the kernel does not make them larger as they fill.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.bind(("127.0.0.1", 0))
    server = await router.loop.create_server(front, sock=sock)
    client.setblocking(False)
    await router.loop.sock_connect(client, server.sockets[0].getsockname())
    while not fronts:
        await asyncio.sleep(0.01)
    server.close()
    transport, still = fronts[0].transport, 0
    while still < 10:
        # What the kernel takes at once it may hand on a moment later, and take more.
        still += 1
        if transport.get_write_buffer_size() < left:
            transport.write(bytes(4096))
            still = 0
        await asyncio.sleep(0.005)
    assert left <= transport.get_write_buffer_size() <= WRITE_HIGH
    return fronts[0], client


async def everything(client: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(client, 65536):
        pass


@pytest.mark.parametrize("left", [1, 8_000, 50_000])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_takes_them_not_is_cut_off(kind: str, end: str, left: int) -> None:
    async def cut_off() -> None:
        router = Router(asyncio.get_running_loop(), 0, SHORT)
        front, client = await deaf(router, kind, left)
        ENDS[end](front)
        async with asyncio.timeout(20):
            while router.fronts:
                await asyncio.sleep(0.05)
            with pytest.raises(ConnectionResetError):
                await everything(client)
        assert router.hits["write-timeout"] == 1
        client.close()
        router.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cut_off())


@pytest.fixture(scope="module")
def patient() -> Iterator[Stage]:
    """Much time to take an answer, hardly any to see it then."""
    with open_stage("--linger-timeout=0.1s", "--head-timeout=0.1s", "--write-timeout=60s") as stage:
        stage.vassal("neighbour")
        stage.open_for_business()
        yield stage


@pytest.fixture
def stage(patient: Stage) -> Iterator[Stage]:
    with patient.scene():
        yield patient


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_time_to_see_an_answer_begins_when_it_has_been_taken(
    stage: Stage, pem: Path, scheme: str, version: str
) -> None:
    """A stray line end behind the body makes the router linger; the client comes to the answer only after that time."""
    worker = stage.vassal("blog").active().worker()
    client: Connection = (
        stage.http() if scheme == "http" else stage.keep(Tls(secure(stage, "http", pem), pem))
    )
    sends = post(b"abc", "blog.localhost", "/", "Connection: close").replace(b"1.1", version.encode(), 1)
    client.send(sends + b"\r\n")
    taken = worker.take()
    worker.respond(taken, fin=False)
    credit, sent = 256 * 1024, 0
    while True:
        while credit >= 65536:
            worker.data(taken, bytes(65536))
            credit -= 65536
            sent += 65536
        got = worker.receive(0.2)
        if got is None:
            break  # the router's own memory holds a part of it now
        if got[0] == records.CREDIT and got[3] == taken.stream:
            credit += records.unpack_credit(got[4])
    worker.data(taken, fin=True)
    for _ in range(2):
        assert stage.http().end() == "closed"  # the router's clock has looked
    response = client.response()
    assert len(response.body) == sent
    assert client.end() == "closed"
