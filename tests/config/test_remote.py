"""Addresses of routers on other hosts."""

import pytest

from emperor.config.problems import Mistake
from emperor.config.remote import address, listening_address, router, weights
from emperor.config.spec import RemoteRouter


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("tcp://10.0.0.1:5555", "tcp://10.0.0.1:5555"),
        (" tcp://Front.Example.ORG:05555 ", "tcp://front.example.org:5555"),
        ("tcp://[::1]:5555", "tcp://[::1]:5555"),
        ("tcp://[0:0::1]:5555", "tcp://[::1]:5555"),
    ],
)
def test_one_spelling(text: str, spelled: str) -> None:
    assert address(text) == spelled


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1:5555", "no address of a router"),
        (None, "no address of a router"),
        ("ipc:///run/x", "no address of a router"),
        ("tcp://front", "has no port"),
        ("tcp://front:0", "has no port"),
        ("tcp://front:65536", "has no port"),
        ("tcp://front:٣", "has no port"),
        ("tcp://:5555", "names no host"),
        ("tcp://*:5555", "names no host"),
        ("tcp://a b:5555", "names no host"),
        ("tcp://[front]:5555", "names no host"),
        ("tcp://eth0;10.0.0.1:5555", "names no host"),
        ("tcp://::1:5555", "IPv6 address without brackets"),
    ],
)
def test_what_is_none(text: object, why: str) -> None:
    with pytest.raises(Mistake, match=why) as error:
        address(text)
    assert error.value.hint == "write tcp://HOST:PORT or tcp://[ADDRESS]:PORT"


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("tcp://Front:5555", "tcp://front:5555"),
        (" tcp://front:5555   weight=04 ", "tcp://front:5555 weight=4"),
        ("tcp://front:5555 weight=1", "tcp://front:5555 weight=1"),
        ("tcp://front:5555 weight=100", "tcp://front:5555 weight=100"),
    ],
)
def test_a_router_with_the_weight_of_this_host_there(text: str, spelled: str) -> None:
    assert router(text) == spelled


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tcp://front:5555 weight=0", "'weight=0' is out of range: a number from 1 to 100"),
        ("tcp://front:5555 weight=101", "out of range"),
        ("tcp://front:5555 weight=-1", "out of range"),
        ("tcp://front:5555 weight=٣", "out of range"),
        ("tcp://front:5555 weight=", "out of range"),
        ("tcp://front:5555 weight=" + "9" * 5000, "out of range"),
        ("tcp://front:5555 weight", "'weight' says nothing of a router"),
        ("tcp://front:5555 backup", "says nothing of a router"),
        ("tcp://front:5555 weight=1 weight=2", "says nothing of a router"),
        ("weight=4", "is no address of a router"),
        ("", "is no address of a router"),
        (7, "is no address of a router"),
    ],
)
def test_what_is_no_router(text: object, why: str) -> None:
    with pytest.raises(Mistake, match=why):
        router(text)


def test_the_weight_that_is_said_last_counts() -> None:
    said = ("tcp://a:1 weight=2", "tcp://b:1", "tcp://a:1", "tcp://b:1 weight=3", "tcp://b:1 weight=1")
    assert weights(said) == {"tcp://a:1": 2, "tcp://b:1": 1}


def test_a_router_listens_at_an_address_of_the_host() -> None:
    assert listening_address("tcp://0.0.0.0:5555") == "tcp://0.0.0.0:5555"
    with pytest.raises(Mistake, match="names a host"):
        listening_address("tcp://front:5555")


def test_what_a_worker_is_told_shows_no_secret() -> None:
    remote = RemoteRouter("tcp://front:5555", "S" * 40, "P" * 40, "x" * 40, "0" * 64)
    assert RemoteRouter.from_json(remote.to_json()) == remote
    assert "x" * 40 not in repr(remote)
    with pytest.raises(ValueError, match="secret: a string expected"):
        RemoteRouter.from_json({"address": "", "server": "", "public": "", "secret": 7})
    whole = remote.to_json()
    assert RemoteRouter.from_json({**whole, "weight": 100}).weight == 100
    assert RemoteRouter.from_json({key: whole[key] for key in whole if key != "weight"}).weight == 1
    for weight in (0, 101, "4", True, 1.5):
        with pytest.raises(ValueError, match="weight: a number from 1 to 100 expected"):
            RemoteRouter.from_json({**whole, "weight": weight})
    with pytest.raises(ValueError, match="an object expected"):
        RemoteRouter.from_json([])
