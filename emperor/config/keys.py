"""CURVE keys of this host and of those it knows: who a router on another host is, and which workers of other hosts may serve
which apps (docs/guides/remote-workers.md).

All of it is a directory of small files, 0700 and 0600, that people may read and edit:

```
host.key      a pair of this host's: `public = KEY` and `secret = KEY`. It is who its router is, and who its workers are
NAME.key      the same for the workers of the vassal NAME alone, which then have no other
allowed       a line for each key of others: the key, then what it may be: names of apps that it may serve (`*` is all), or
              `tcp://HOST:PORT`, the router that is met there. A line that begins with `;` says nothing
```

A key is 40 characters of Z85 (ZeroMQ RFC 32), which are 32 bytes.
Files are written whole beside the old ones and renamed, under a lock on the directory, so that whoever reads meets no half of
one.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from emperor.config.problems import Mistake
from emperor.config.remote import address, is_address

HOST = "host"
"""The pair that is everybody's who has no other."""

ANY_APP = "*"
ALLOWED = "allowed"
KEY_CHARS = 40
KEY_BYTES = 32
SIZE_LIMIT = 1 << 20

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_VALUES = {character: value for value, character in enumerate(_Z85)}


class KeysError(Exception):
    """A key or a file of keys that cannot be used; the text names it, why, and what to do."""


@dataclass(frozen=True)
class Pair:
    """Both halves, as they are written. The repr has no secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"Pair({self.public!r})"


@dataclass(frozen=True)
class Allowed:
    """What the keys of others may be: of each key names of apps, and of each address of a router its key."""

    apps: Mapping[str, tuple[str, ...]]
    routers: Mapping[str, str]


NOBODY = Allowed({}, {})


def is_key(text: str) -> bool:
    """Whether it is the text of a key: 40 characters of Z85, each five of which are a number of 32 bits."""
    if len(text) != KEY_CHARS or not _VALUES.keys() >= set(text):
        return False
    return all(_number(text[start : start + 5]) < 1 << 32 for start in range(0, KEY_CHARS, 5))


def to_bytes(key: str) -> bytes:
    """The 32 bytes. Raises ValueError."""
    if not is_key(key):
        raise ValueError("no key: 40 characters of Z85 expected")
    return b"".join(_number(key[start : start + 5]).to_bytes(4, "big") for start in range(0, KEY_CHARS, 5))


def to_text(raw: bytes) -> str:
    """The inverse of `to_bytes`. Raises ValueError."""
    if len(raw) != KEY_BYTES:
        raise ValueError(f"a key of {len(raw)} bytes, {KEY_BYTES} expected")
    characters = []
    for start in range(0, KEY_BYTES, 4):
        number = int.from_bytes(raw[start : start + 4], "big")
        characters += [_Z85[number // 85**power % 85] for power in (4, 3, 2, 1, 0)]
    return "".join(characters)


def _number(five: str) -> int:
    number = 0
    for character in five:
        number = number * 85 + _VALUES[character]
    return number


def may_serve(apps: Sequence[str], name: str) -> bool:
    """Whether a key that may serve these may serve the app `name`."""
    return name in apps or ANY_APP in apps


def default_directory(uid: int, environ: Mapping[str, str]) -> str:
    """Where the keys are unless `keys-dir` says otherwise: /etc/emperor/keys for root, else below the user's configuration."""
    if uid == 0:
        return "/etc/emperor/keys"
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "/nonexistent", ".config")
    return os.path.join(config, "emperor", "keys")


# -- pure: what stands in the files -----------------------------------------------------------------------


def parse_pair(text: str, path: str) -> Pair:
    """Raises KeysError, which never shows what stands there."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(";"):
            continue
        name, separator, value = line.partition(" = ")
        if not separator or name not in ("public", "secret") or name in found or not is_key(value.strip()):
            raise KeysError(
                f"{path}:{number}: neither `public = KEY` nor `secret = KEY` (make another: emperor keys new --force)"
            )
        found[name] = value.strip()
    if len(found) != 2:
        raise KeysError(
            f"{path}: a public and a secret key expected (make another: emperor keys new --force)"
        )
    return Pair(found["public"], found["secret"])


def format_pair(pair: Pair) -> str:
    return f"public = {pair.public}\nsecret = {pair.secret}\n"


def parse_allowed(text: str, path: str) -> dict[str, tuple[str, ...]]:
    """What each key may be, in the order of the file. Raises KeysError."""
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith(";"):
            continue
        key, *wishes = words
        if not is_key(key):
            raise KeysError(
                f"{path}:{number}: {key[:KEY_CHARS]!r} is no key (40 characters of Z85, as `emperor keys show` has)"
            )
        if key in found:
            raise KeysError(f"{path}:{number}: this key has a line already (keep one)")
        try:
            found[key] = tuple(dict.fromkeys(_wish(each) for each in wishes))
        except Mistake as mistake:
            raise KeysError(f"{path}:{number}: {_said(mistake)}") from None
    _routers(found, path)
    return found


def format_allowed(allowed: Mapping[str, Sequence[str]]) -> str:
    return "".join(f"{' '.join((key, *wishes))}\n" for key, wishes in allowed.items())


def _wish(text: str) -> str:
    """One thing that a key may be, in its one spelling. Raises Mistake."""
    if is_address(text):
        return address(text)
    if text != ANY_APP and any(character in text for character in "/*; \t"):
        raise Mistake(
            f"{text!r} is neither the name of an app nor the address of a router",
            "NAME, `*` or tcp://HOST:PORT",
        )
    return text


def _said(mistake: Mistake) -> str:
    return f"{mistake.reason} ({mistake.hint})" if mistake.hint else mistake.reason


def _routers(allowed: Mapping[str, Sequence[str]], path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, wishes in allowed.items():
        for each in wishes:
            if is_address(each) and found.setdefault(each, key) != key:
                raise KeysError(
                    f"{path}: two keys for the router at {each} (emperor keys revoke KEY {each} takes one away)"
                )
    return found


def sorted_out(allowed: Mapping[str, Sequence[str]], path: str) -> Allowed:
    """The same by what is asked. Raises KeysError for two keys of one router."""
    apps = {
        key: names
        for key, wishes in allowed.items()
        if (names := tuple(each for each in wishes if not is_address(each)))
    }
    return Allowed(apps, _routers(allowed, path))


# -- the directory ----------------------------------------------------------------------------------------


class KeyStore:
    """One directory of keys. Every method raises KeysError for what cannot be read, written or believed."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, name: str) -> str:
        """The file of a pair. Raises KeysError for what can be no file's name."""
        if not name or "/" in name or name.startswith(".") or "\0" in name:
            raise KeysError(f"{name!r} can be no name of a key: it is a file's name, too")
        return os.path.join(self.directory, f"{name}.key")

    @property
    def allowed_path(self) -> str:
        return os.path.join(self.directory, ALLOWED)

    def names(self) -> list[str]:
        """Of the pairs that there are."""
        try:
            return sorted(each[:-4] for each in os.listdir(self.directory) if each.endswith(".key"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeysError(
                f"{self.directory}: {error.strerror} (who may read keys: its owner, and root)"
            ) from error

    def pair(self, name: str) -> Pair:
        path = self.path(name)
        text = self._read(path)
        if text is None:
            option = "" if name == HOST else f" {name}"
            raise KeysError(
                f"{path}: there is no such key (emperor keys new{option} --keys-dir {self.directory})"
            )
        return parse_pair(text, path)

    def has(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def add(self, name: str, pair: Pair, replace: bool = False) -> None:
        """Write a pair that is new, or with `replace` another in its place."""
        path = self.path(name)
        with self._locked():
            if os.path.lexists(path) and not replace:
                raise KeysError(
                    f"{path} is there already: whoever knows its key would have to be told of another (--force makes one)"
                )
            self._write(path, format_pair(pair))

    def allowed(self) -> dict[str, tuple[str, ...]]:
        """What each key of others may be, as it is written."""
        text = self._read(self.allowed_path)
        return {} if text is None else parse_allowed(text, self.allowed_path)

    def allow(self, key: str, wishes: Sequence[str]) -> tuple[str, ...]:
        """Let a key be these as well. Returns all that it may be now."""
        asked = self._asked(key, wishes)
        with self._locked():
            allowed = self.allowed()
            allowed[key] = tuple(dict.fromkeys((*allowed.get(key, ()), *asked)))
            _routers(allowed, self.allowed_path)
            self._write(self.allowed_path, format_allowed(allowed))
        return allowed[key]

    def revoke(self, key: str, wishes: Sequence[str] = ()) -> tuple[str, ...]:
        """Take these away from a key, or without any the key itself. Returns what it may still be."""
        asked = self._asked(key, wishes)
        with self._locked():
            allowed = self.allowed()
            if key not in allowed:
                raise KeysError(
                    f"{self.allowed_path}: this key is not allowed anything (emperor keys show lists those that are)"
                )
            left = tuple(each for each in allowed[key] if asked and each not in asked)
            if left:
                allowed[key] = left
            else:
                del allowed[key]
            self._write(self.allowed_path, format_allowed(allowed))
        return left

    @staticmethod
    def _asked(key: str, wishes: Sequence[str]) -> tuple[str, ...]:
        if not is_key(key):
            raise KeysError(
                f"{key[:KEY_CHARS]!r} is no key: 40 characters of Z85, as `emperor keys show` prints on the other host (in "
                "single quotes, since a shell reads some of them)"
            )
        try:
            return tuple(_wish(each) for each in wishes)
        except Mistake as mistake:
            raise KeysError(_said(mistake)) from None

    def _read(self, path: str) -> str | None:
        """None: there is no such file."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeysError(f"{path}: {error.strerror} (who may read keys: their owner, and root)") from error
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise KeysError(f"{path}: no plain file (remove it, and make the key again)")
            if status.st_uid not in (0, os.geteuid()):
                raise KeysError(
                    f"{path}: belongs to user {status.st_uid}, who could change it (chown it to root or to us)"
                )
            if status.st_mode & 0o077:
                raise KeysError(
                    f"{path}: others may read or write it, mode {status.st_mode & 0o777:o} (chmod 600 {path})"
                )
            content = file.read(SIZE_LIMIT + 1)
        if len(content) > SIZE_LIMIT:
            raise KeysError(f"{path}: larger than {SIZE_LIMIT} bytes (it should have a line for each key)")
        try:
            return content.decode("ascii")
        except UnicodeDecodeError:
            raise KeysError(f"{path}: holds more than ASCII (keys and names are written in it)") from None

    def _write(self, path: str, text: str) -> None:
        made = f"{path}.new"
        try:
            fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "w", encoding="ascii") as file:
                os.fchmod(fd, 0o600)
                file.write(text)
                file.flush()
                os.fsync(fd)
            os.rename(made, path)
        except (OSError, UnicodeEncodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "keys and names are ASCII"
            raise KeysError(f"{path}: {why}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else changes a file meanwhile. Makes the directory."""
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KeysError(f"{self.directory}: {error.strerror} (--keys-dir names another)") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
