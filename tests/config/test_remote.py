"""Addresses of routers on other hosts."""

import pytest

from emperor.config.problems import Mistake
from emperor.config.remote import address, listening_address
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


def test_a_router_listens_at_an_address_of_the_host() -> None:
    assert listening_address("tcp://0.0.0.0:5555") == "tcp://0.0.0.0:5555"
    with pytest.raises(Mistake, match="names a host"):
        listening_address("tcp://front:5555")


def test_what_a_worker_is_told_shows_no_secret() -> None:
    router = RemoteRouter("tcp://front:5555", "S" * 40, "P" * 40, "x" * 40, "0" * 64)
    assert RemoteRouter.from_json(router.to_json()) == router
    assert "x" * 40 not in repr(router)
    with pytest.raises(ValueError, match="secret: a string expected"):
        RemoteRouter.from_json({"address": "", "server": "", "public": "", "secret": 7})
    with pytest.raises(ValueError, match="an object expected"):
        RemoteRouter.from_json([])
