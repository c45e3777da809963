"""The files of keys: what is written is read again, and what cannot be believed is refused with its file and the next step."""

import os
import stat
from pathlib import Path

import pytest
import zmq
import zmq.utils.z85
from hypothesis import given
from hypothesis import strategies as st

from emperor.config.keys import (
    KeysError,
    KeyStore,
    Pair,
    default_directory,
    format_allowed,
    is_key,
    may_serve,
    parse_allowed,
    parse_pair,
    sorted_out,
    to_bytes,
    to_text,
)

FRONT, APP1, APP2 = (to_text(bytes([each]) * 32) for each in (1, 2, 3))


def made() -> Pair:
    public, secret = zmq.curve_keypair()
    return Pair(public.decode(), secret.decode())


@given(st.binary(min_size=32, max_size=32))
def test_a_key_as_text_is_libzmqs(raw: bytes) -> None:
    text = to_text(raw)
    assert text == zmq.utils.z85.encode(raw).decode()
    assert is_key(text) and to_bytes(text) == raw


@pytest.mark.parametrize("text", ["", "a" * 39, "a" * 41, "a" * 39 + "_", "#####" * 8, "ä" * 40])
def test_what_is_no_key(text: str) -> None:
    # Five times `#` is a number above 32 bits.
    assert not is_key(text)
    with pytest.raises(ValueError, match="no key"):
        to_bytes(text)


def test_a_pair_is_kept_and_shows_no_secret(tmp_path: Path) -> None:
    store, pair = KeyStore(str(tmp_path / "keys")), made()
    store.add("host", pair)
    assert store.pair("host") == pair and store.names() == ["host"] and store.has("host")
    assert pair.secret not in repr(pair)
    assert stat.S_IMODE(os.stat(tmp_path / "keys").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "keys" / "host.key").st_mode) == 0o600
    with pytest.raises(KeysError, match=r"host\.key is there already.*--force"):
        store.add("host", made())
    assert store.pair("host") == pair
    other = made()
    store.add("host", other, replace=True)
    assert store.pair("host") == other


@pytest.mark.parametrize("name", ["", "../x", ".x", "a/b"])
def test_a_name_that_is_no_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeysError, match="can be no name of a key"):
        KeyStore(str(tmp_path)).add(name, made())


def test_one_that_is_missing_says_how_to_make_it(tmp_path: Path) -> None:
    store = KeyStore(str(tmp_path))
    with pytest.raises(KeysError, match=rf"no such key \(emperor keys new --keys-dir {tmp_path}\)"):
        store.pair("host")
    with pytest.raises(KeysError, match="emperor keys new shop"):
        store.pair("shop")
    assert KeyStore(str(tmp_path / "none")).names() == []
    assert KeyStore(str(tmp_path / "none")).allowed() == {}


def test_a_file_that_others_may_read_is_not_believed(tmp_path: Path) -> None:
    store = KeyStore(str(tmp_path))
    store.add("host", made())
    os.chmod(tmp_path / "host.key", 0o640)
    with pytest.raises(KeysError, match=r"mode 640 \(chmod 600"):
        store.pair("host")


def test_a_link_is_not_followed_and_a_pipe_not_waited_for(tmp_path: Path) -> None:
    store = KeyStore(str(tmp_path))
    (tmp_path / "host.key").symlink_to("/etc/hostname")
    with pytest.raises(KeysError, match=r"host\.key"):
        store.pair("host")
    os.mkfifo(tmp_path / "shop.key", 0o600)
    with pytest.raises(KeysError, match="no plain file"):
        store.pair("shop")


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"public = {FRONT}\n",
        f"public = {FRONT}\npublic = {FRONT}\n",
        f"public = {FRONT}\nsecret = secret-words\n",
        f"public={FRONT}\nsecret={FRONT}\n",
    ],
)
def test_a_broken_pair_names_the_file_and_shows_nothing(text: str) -> None:
    with pytest.raises(KeysError, match=r"^/k/host\.key.*emperor keys new --force") as error:
        parse_pair(text, "/k/host.key")
    assert "secret-words" not in str(error.value) and FRONT not in str(error.value)


def test_what_is_allowed_adds_up_and_is_taken_away(tmp_path: Path) -> None:
    store = KeyStore(str(tmp_path))
    assert store.allow(APP1, ["shop"]) == ("shop",)
    assert store.allow(APP1, ["blog", "shop"]) == ("shop", "blog")
    assert store.allow(FRONT, ["tcp://Front:05555"]) == ("tcp://front:5555",)
    found = sorted_out(store.allowed(), store.allowed_path)
    assert found.apps == {APP1: ("shop", "blog")} and found.routers == {"tcp://front:5555": FRONT}
    assert store.revoke(APP1, ["shop"]) == ("blog",)
    assert store.revoke(APP1) == ()
    assert store.allowed() == {FRONT: ("tcp://front:5555",)}
    with pytest.raises(KeysError, match="not allowed anything"):
        store.revoke(APP1)
    assert stat.S_IMODE(os.stat(store.allowed_path).st_mode) == 0o600


def test_a_list_is_read_as_it_is_written() -> None:
    key = to_text(b"\xff" * 32)
    assert key == "%nSc0" * 8
    text = f"; of app1\n\n{key} shop *\n"
    assert parse_allowed(text, "/k/allowed") == {key: ("shop", "*")}
    assert parse_allowed(format_allowed({key: ("shop", "*")}), "") == {key: ("shop", "*")}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nokey shop\n", r"/k/allowed:1: 'nokey' is no key"),
        (f"{APP1} shop\n{APP1} blog\n", r"/k/allowed:2: this key has a line already"),
        (f"{APP1} tcp://front\n", r"/k/allowed:1: .*has no port"),
        (f"{APP1} a/b\n", r"/k/allowed:1: 'a/b' is neither the name"),
        (
            f"{APP1} tcp://f:1\n{APP2} tcp://f:1\n",
            r"two keys for the router at tcp://f:1 \(emperor keys revoke",
        ),
    ],
)
def test_what_is_wrong_with_the_list_is_said_by_line(text: str, why: str) -> None:
    with pytest.raises(KeysError, match=why):
        parse_allowed(text, "/k/allowed")


def test_a_wish_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    store = KeyStore(str(tmp_path))
    store.allow(FRONT, ["tcp://front:5555"])
    for key, wishes in ((APP1, ["tcp://front:5555"]), (APP1, ["tcp://x:0"]), ("short", ["shop"])):
        with pytest.raises(KeysError):
            store.allow(key, wishes)
    assert store.allowed() == {FRONT: ("tcp://front:5555",)}


def test_who_may_serve_what() -> None:
    assert may_serve(("shop", "blog"), "blog") and may_serve(("*",), "blog")
    assert not may_serve((), "blog") and not may_serve(("blo", "blogs"), "blog")


def test_where_keys_are_by_default() -> None:
    assert default_directory(0, {}) == "/etc/emperor/keys"
    assert default_directory(7, {"HOME": "/h"}) == "/h/.config/emperor/keys"
    assert default_directory(7, {"HOME": "/h", "XDG_CONFIG_HOME": "/c"}) == "/c/emperor/keys"
