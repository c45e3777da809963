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
