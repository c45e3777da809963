"""What a worker is told, and by when it is to have left."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from vassals.worker.orders import Orders


@pytest.fixture
def told() -> Iterator[tuple[Orders, socket.socket]]:
    ours, gateways = socket.socketpair()
    with ours, gateways:
        yield Orders(ours, 8.0), gateways


def say(gateways: socket.socket, orders: Orders, **order: object) -> None:
    gateways.send(json.dumps(order).encode() + b"\n")
    orders.take()


def test_a_router_on_another_host_and_its_successors(told: tuple[Orders, socket.socket]) -> None:
    """Each has a seat that nobody had, by which it is still known at which of two doors it is."""
    orders, gateways = told
    orders.reach((0, "here"), ((1000, "tcp://a"), (1001, "tcp://b")))
    assert orders.turn() == ((0, "here"), (1000, "tcp://a"), (1001, "tcp://b"))
    orders.follow(1001)
    assert orders.turned
    (next_b,) = {seat for seat, _ in orders.turn()} - {0, 1000, 1001}
    assert dict(orders.turn())[next_b] == "tcp://b" and (next_b - 1001) % 2 == 0
    orders.forget(1001)
    assert orders.turned
    orders.follow(next_b)
    orders.follow(1000)
    orders.forget(next_b)
    found = orders.turn()
    assert [endpoint for _, endpoint in found] == ["here", "tcp://a", "tcp://b", "tcp://a"]
    assert len({seat for seat, _ in found}) == 4 and 1001 not in dict(found)
    assert not orders.turned
    # One that has gone has no successor, and does not go again.
    orders.follow(1001)
    orders.forget(1001)
    assert not orders.turned
    say(gateways, orders, op="routers", routers=[[1, "here-1"]])
    assert orders.turn() == ((1, "here-1"), *found[1:])


def test_the_latest_word_on_how_long_it_may_take_counts(told: tuple[Orders, socket.socket]) -> None:
    orders, gateways = told
    assert (orders.leave, orders.leave_by) == ("", None)
    say(gateways, orders, op="drain")
    assert (orders.leave, orders.leave_by) == ("the gateway asked", None)
    for within_s in (300, 2.5):
        before = time.monotonic()
        say(gateways, orders, op="drain", within_s=within_s)
        assert orders.leave_by is not None
        assert before + within_s <= orders.leave_by <= time.monotonic() + within_s
    kept = orders.leave_by
    say(gateways, orders, op="drain", within_s="soon")
    assert orders.leave_by == kept
