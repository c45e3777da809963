"""What workers that serve routers on other hosts are given of the keys of this host."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from emperor.config.keys import HOST, KeyStore, Pair
from emperor.supervisor.keyring import REMOTES_MOST, Keyring


class Said:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, text: str) -> None:
        raise AssertionError(text)

    def error(self, text: str) -> None:
        self.errors.append(text)


def address(number: int) -> str:
    return f"tcp://front{number}:5555"


def generation(*routers: str) -> Any:
    return SimpleNamespace(name="shop", token="ab" * 32, reading=SimpleNamespace(routers=routers, path="/"))


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    store = KeyStore(str(tmp_path))
    store.add(HOST, Pair(*(half.decode() for half in zmq.curve_keypair())))
    return store


def know(store: KeyStore, *numbers: int) -> None:
    for number in numbers:
        store.allow(zmq.curve_keypair()[0].decode(), [address(number)])


def keyring(store: KeyStore, said: Said, *routers: str) -> Keyring:
    return Keyring(None, store.directory, routers, said, None)  # type: ignore[arg-type]


def test_routers_of_the_host_and_of_the_vassal(store: KeyStore) -> None:
    know(store, 1, 2)
    said = Said()
    found = keyring(store, said, address(1)).remotes(generation(f"{address(2)} weight=3"))
    assert [(each.address, each.weight) for each in found] == [(address(1), 1), (address(2), 3)]
    assert said.errors == []


def test_one_whose_key_is_not_known_is_left_out_and_said_once(store: KeyStore) -> None:
    know(store, 1)
    said = Said()
    ring = keyring(store, said)
    for _ in range(2):
        found = ring.remotes(generation(address(1), address(2)))
        assert [each.address for each in found] == [address(1)]
    (error,) = said.errors
    assert f"the key of the router at {address(2)} is not known" in error
    assert error.endswith(f"; its workers serve this host and {address(1)} until then")


def test_where_none_is_known_only_this_host_is_served(store: KeyStore) -> None:
    said = Said()
    assert keyring(store, said).remotes(generation(address(1))) == ()
    assert said.errors[0].endswith("; its workers serve only this host until then")


def test_there_are_no_more_than_a_worker_can_hear(store: KeyStore) -> None:
    numbers = range(REMOTES_MOST + 1)
    know(store, *numbers)
    said = Said()
    found = keyring(store, said).remotes(generation(*map(address, numbers)))
    assert [each.address for each in found] == [address(number) for number in numbers[:-1]]
    assert "33 routers on other hosts, and a worker serves 32 at most: name fewer" in said.errors[0]
