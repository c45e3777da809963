"""Whether somebody is at the other end, asked of the real kernel."""

import socket
import time
from collections.abc import Iterator

import pytest

from emperor.router.otherend import OtherEnd, other_end


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and the server's end of its connection."""
    mapped = request.param.startswith("::ffff:")
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind(("::" if mapped else request.param, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listener.listen()
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1" if mapped else request.param, port))
        server, _ = listener.accept()
        with client, server:
            yield client, server


def test_who_only_stops_sending_still_holds_it_and_who_closes_does_not(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, server = ends
    assert other_end(server) is OtherEnd.HELD
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    assert other_end(server) is OtherEnd.HELD
    client.close()
    until = time.monotonic() + 10
    while other_end(server) is OtherEnd.HELD and time.monotonic() < until:
        time.sleep(0.01)
    assert other_end(server) is OtherEnd.GONE


class Far:
    """A socket whose other end no process of this host has."""

    family = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.1", 40000


def test_of_another_host_nothing_is_known() -> None:
    assert other_end(Far()) is OtherEnd.ELSEWHERE
    one, other = socket.socketpair()
    with one, other:
        assert other_end(one) is OtherEnd.ELSEWHERE
