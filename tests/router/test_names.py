"""Names of upstreams are looked up beside the loop: what one holds up holds up nobody else."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

from emperor.router import names
from emperor.router.names import AT_ONCE, EACH, Names, look_up


class Server:
    """A name server. Of the names that hang nothing is heard until `let_go`."""

    def __init__(self, *hang: str) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self._hang = set(hang)
        self._gone = threading.Event()

    def let_go(self) -> None:
        self._gone.set()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host in self._hang:
            self._gone.wait(60)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.known[host]


def scene(play: Callable[[Names], Awaitable[None]], server: Server) -> None:
    async def run() -> None:
        try:
            async with asyncio.timeout(30):
                await play(Names(asyncio.get_running_loop(), server))
        finally:
            server.let_go()

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_the_first_waits_and_the_next_are_told_at_once() -> None:
    server = Server()
    server.known["a"] = ["10.0.0.1", "10.0.0.2"]

    async def play(found: Names) -> None:
        first = await asyncio.gather(*(found.first("a", "blog") for _ in range(3)))
        assert first == [("10.0.0.1", "10.0.0.2")] * 3
        assert (await found.first("a", "blog"), found.known("a", "blog")) == (first[0], first[0])
        assert server.asked == ["a"]

    scene(play, server)


def test_it_is_looked_up_again_and_what_is_known_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "AGAIN_S", 0.01)
    server = Server()
    server.known["a"] = ["10.0.0.1"]

    async def play(found: Names) -> None:
        await found.first("a", "blog")
        server.known["a"] = ["10.0.0.2"]
        await until(lambda: found.known("a", "blog") == ("10.0.0.2",))
        del server.known["a"]
        await until(lambda: found.known("a", "blog") and found.report()["failures"])
        assert found.known("a", "blog") == ("10.0.0.2",)

    scene(play, server)


def test_an_address_that_cannot_be_reached_is_asked_for_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "SOON_S", 0.0)
    server = Server()
    server.known["a"] = ["10.0.0.1"]

    async def play(found: Names) -> None:
        await found.first("a", "blog")
        server.known["a"] = ["10.0.0.2"]
        found.hurry("a")
        await until(lambda: found.known("a", "blog") == ("10.0.0.2",))

    scene(play, server)


def test_one_that_is_not_known_says_why_and_a_reader_that_goes_takes_nothing_along() -> None:
    server = Server("slow")
    server.known["slow"] = ["10.0.0.1"]

    async def play(found: Names) -> None:
        with pytest.raises(OSError, match="nowhere: Name or service not known"):
            await found.first("nowhere", "blog")
        left = asyncio.ensure_future(found.first("slow", "blog"))
        stays = asyncio.ensure_future(found.first("slow", "blog"))
        await until(lambda: "slow" in server.asked)
        left.cancel()
        await asyncio.sleep(0)
        server.let_go()
        assert await stays == ("10.0.0.1",)

    scene(play, server)


def test_an_app_whose_names_hang_holds_up_nobody_else() -> None:
    hang = [f"h{number}" for number in range(3 * EACH)]
    server = Server(*hang)
    server.known["good"] = ["10.0.0.1"]

    async def play(found: Names) -> None:
        waiting = [asyncio.ensure_future(found.first(host, "bad")) for host in hang]
        await until(lambda: len(server.asked) == EACH)
        assert await found.first("good", "blog") == ("10.0.0.1",)
        report = found.report()
        assert (report["under_way"], report["waiting"]) == (EACH, 2 * EACH)
        server.let_go()
        assert len(await asyncio.gather(*waiting, return_exceptions=True)) == len(hang)
        assert set(hang) <= set(server.asked)

    scene(play, server)


def test_there_is_an_end_to_lookups_at_once() -> None:
    hang = [f"h{number}" for number in range(2 * AT_ONCE)]
    server = Server(*hang)

    async def play(found: Names) -> None:
        waiting = [asyncio.ensure_future(found.first(host, host)) for host in hang]
        await until(lambda: len(server.asked) == AT_ONCE)
        assert found.report()["under_way"] == AT_ONCE
        server.let_go()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert found.report()["under_way"] == 0

    scene(play, server)


def test_the_system_is_asked() -> None:
    assert set(look_up("localhost")) & {"127.0.0.1", "::1"}


def test_many_names_and_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told so, in one turn and without depth."""
    hung = [f"hangs{number}" for number in range(AT_ONCE)]
    server = Server(*hung)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def play(found: Names) -> None:
        for number, host in enumerate(hung):
            found.known(host, f"owner {number}")
        for number in range(2000):
            found.known(f"waits{number}", "blog")
        assert found.report()["waiting"] == 2000
        monkeypatch.setattr(threading.Thread, "start", refuse)
        server.let_go()
        await until(lambda: found.report()["under_way"] == 0)
        assert (found.report()["waiting"], found.report()["failures"]) == (0, 2000 + AT_ONCE)

    scene(play, server)
