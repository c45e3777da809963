"""The documents that cross a process border of the control plane, as types: what a gateway is started with,
and what a router knows of a vassal.

Both are written by the emperor and read by another process, perhaps of another version of this package:
reading is strict about the type of every key it knows, so that a mistake is named where it is made, and
ignores keys that it does not know. `docs/specs/control.md` says which messages carry them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emperor.config.accesslog import AccessLog
from emperor.config.balancing import ORDINARY, Balancing
from emperor.config.deadlines import NO_DEADLINES, Deadlines
from emperor.config.hooks import NONE, Hooks
from emperor.config.recycling import NEVER, Recycling
from emperor.config.sharing import ALONE, Sharing
from emperor.config.spec import ONE_AT_A_TIME, AppSpec, EngineSpec, RemoteRouter
from emperor.config.upstreams import NONE as NO_UPSTREAMS
from emperor.config.upstreams import Upstreams

_REQUIRED: Any = object()


@dataclass(frozen=True, kw_only=True)
class GatewaySpec:
    """All that one gateway, and each worker it forks, is told. It travels in a memfd, since `token` is a
    secret.

    `uid` and `gid` None: stay what the starter is. `processes` is the number of workers; the page has rows for `spares`
    more, which are replaced by (docs/decisions/0023-one-seat-more.md). `recycling` says when, `slots` the
    requests one worker runs at once, `engine` in what way, `deck` the claim words per worker and router seat, `routers` the
    router seats of the page. `endpoint` is the ipc path of the backplane of router seat 0; `token` is 64
    hexadecimal digits. `title` names the vassal in process titles. `logto` None: the app's output goes to the
    emperor's log; `off`: nowhere; else to this file, which is moved away to `log_backup` at `log_max_bytes` (0: never).
    `deadlines`: how long requests may hold a worker.
    `orphan_timeout_s` after an emperor was last connected the gateway drains: a minute after its router would.
    `ready_path` is asked of each worker, as `ready_host`, before it counts as loaded; empty: nothing is.
    `code_s`, `code_ignore` and `watched`: what the worker of seat 0 looks at for changes (`emperor.config.reloading`).
    `seats_at_first`: so many seats are open at the start, 0 for all. `bells`: so many seats have one, which come with the
    router's as descriptors. `remotes`: the routers on other hosts that the workers serve as well, with the secret key of the
    workers.
    """

    name: str
    generation: int
    app: AppSpec
    uid: int | None = None
    gid: int | None = None
    processes: int
    spares: int = 0
    slots: int = 1
    deck: int = 32
    routers: int = 1
    router_seat: int = 0
    engine: EngineSpec = ONE_AT_A_TIME
    endpoint: str
    token: str
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 8.0
    orphan_timeout_s: float = 3660.0
    need_app: bool = True
    config_path: str
    title: str
    logto: str | None = None
    log_max_bytes: int = 0
    log_backup: str | None = None
    pidfile: str | None = None
    deadlines: Deadlines = NO_DEADLINES
    recycling: Recycling = NEVER
    hooks: Hooks = NONE
    preload: bool = False
    warm_up: str = ""
    ready_path: str = ""
    ready_host: str = ""
    code_s: float = 0.0
    code_ignore: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    seats_at_first: int = 0
    bells: int = 0
    remotes: tuple[RemoteRouter, ...] = ()

    @property
    def seats(self) -> int:
        """Rows of the page."""
        return self.processes + self.spares

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        return {
            key: value.to_json()
            if isinstance(value, AppSpec | EngineSpec | Deadlines | Recycling | Hooks)
            else [each.to_json() if isinstance(each, RemoteRouter) else each for each in value]
            if isinstance(value, tuple)
            else value
            for key, value in ((key, getattr(self, key)) for key in _GATEWAY_KEYS)
        }

    @classmethod
    def from_json(cls, document: Any) -> GatewaySpec:
        """The inverse of `to_json`. Raises ValueError naming the key that is missing or has a wrong type or
        value."""
        spec = cls(**_read(document, _GATEWAY_KEYS, "gateway specification"))
        if len(spec.token) != 64 or set(spec.token) - set("0123456789abcdef"):
            raise ValueError("gateway specification: token: 64 lower-case hexadecimal digits expected")
        for key in ("generation", "processes", "slots", "routers"):
            if getattr(spec, key) < 1:
                raise ValueError(
                    f"gateway specification: {key}: at least 1 expected, not {getattr(spec, key)}"
                )
        return spec


@dataclass(frozen=True, kw_only=True)
class RouterEntry:
    """What a router knows of a vassal before, between and after its generations.

    `domains` are the names it answers to; `default`: it takes what no route matches; `only`: it is the only
    vassal from the start; `available`: it has been ready and is not in BACKOFF or GIVEN_UP, so requests may
    wait for it; `reason` is for the log, never for a client; `queue` is the most requests that wait;
    `body_limit` in bytes, 0 for none. `access` None: its requests are not logged. `script_name`: the path of
    a domain goes from PATH_INFO to SCRIPT_NAME.
    `request_buffering`: bodies are read to their end before a worker is asked, the first `post_buffering` bytes of one in
    memory, the rest on disk; `response_buffer` bytes of a response are taken off its worker ahead of a slow client.
    `request_id`: every request has one. `paused`: `refuse` (503), `hold` (they wait in the queue), or empty. `deadlines`: how
    long requests may take, by their paths. `balancing`: how they are shared out, and which are turned away. `upstreams`:
    where they go instead of to workers, if there are any. `sharing`: which part of what comes for its domains is its own, and
    who gets copies, if that runs as the same `uid`.
    """

    name: str
    domains: tuple[str, ...] = ()
    default: bool = False
    only: bool = False
    available: bool = False
    reason: str = ""
    queue: int = 1024
    queue_timeout_s: float = 10.0
    request_timeout_s: float = 0.0
    body_limit: int = 0
    access: AccessLog | None = None
    script_name: bool = False
    request_buffering: bool = False
    post_buffering: int = 256 * 1024
    response_buffer: int = 0
    request_id: bool = False
    paused: str = ""
    deadlines: Deadlines = NO_DEADLINES
    balancing: Balancing = ORDINARY
    upstreams: Upstreams = NO_UPSTREAMS
    sharing: Sharing = ALONE
    uid: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        return {
            key: list(value)
            if isinstance(value, tuple)
            else value.to_json()
            if isinstance(value, AccessLog | Deadlines | Balancing | Upstreams | Sharing)
            else value
            for key, value in ((key, getattr(self, key)) for key in _ROUTER_KEYS)
        }

    @classmethod
    def from_json(cls, document: Any) -> RouterEntry:
        """The inverse of `to_json`. Raises ValueError naming the key that is missing or of a wrong type."""
        return cls(**_read(document, _ROUTER_KEYS, "router entry"))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a string expected, not {type(value).__name__}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"true or false expected, not {type(value).__name__}")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"an integer, 0 or more, expected, not {value!r}")
    return value


def _optional_number(value: Any) -> int | None:
    return None if value is None else _number(value)


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise ValueError(f"a number of seconds, 0 or more, expected, not {value!r}")
    return float(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of strings expected")
    return tuple(value)


def _remotes(value: Any) -> tuple[RemoteRouter, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of routers expected")
    return tuple(map(RemoteRouter.from_json, value))


def _access(value: Any) -> AccessLog | None:
    return None if value is None else AccessLog.from_json(value)


_Keys = dict[str, tuple[Callable[[Any], Any], Any]]
"""Key → (how its JSON is read, what it is when absent)."""

_GATEWAY_KEYS: _Keys = {
    "name": (_text, _REQUIRED),
    "generation": (_number, _REQUIRED),
    "app": (AppSpec.from_json, _REQUIRED),
    "uid": (_optional_number, None),
    "gid": (_optional_number, None),
    "processes": (_number, _REQUIRED),
    "spares": (_number, 0),
    "slots": (_number, 1),
    "deck": (_number, 32),
    "routers": (_number, 1),
    "router_seat": (_number, 0),
    "engine": (EngineSpec.from_json, ONE_AT_A_TIME),
    "endpoint": (_text, _REQUIRED),
    "token": (_text, _REQUIRED),
    "start_timeout_s": (_seconds, 60.0),
    "stop_timeout_s": (_seconds, 8.0),
    "orphan_timeout_s": (_seconds, 3660.0),
    "need_app": (_flag, True),
    "config_path": (_text, _REQUIRED),
    "title": (_text, _REQUIRED),
    "logto": (_optional_text, None),
    "log_max_bytes": (_number, 0),
    "log_backup": (_optional_text, None),
    "pidfile": (_optional_text, None),
    "deadlines": (Deadlines.from_json, NO_DEADLINES),
    "recycling": (Recycling.from_json, NEVER),
    "hooks": (Hooks.from_json, NONE),
    "preload": (_flag, False),
    "warm_up": (_text, ""),
    "ready_path": (_text, ""),
    "ready_host": (_text, ""),
    "code_s": (_seconds, 0.0),
    "code_ignore": (_texts, ()),
    "watched": (_texts, ()),
    "seats_at_first": (_number, 0),
    "bells": (_number, 0),
    "remotes": (_remotes, ()),
}

_ROUTER_KEYS: _Keys = {
    "name": (_text, _REQUIRED),
    "domains": (_texts, ()),
    "default": (_flag, False),
    "only": (_flag, False),
    "available": (_flag, False),
    "reason": (_text, ""),
    "queue": (_number, 1024),
    "queue_timeout_s": (_seconds, 10.0),
    "request_timeout_s": (_seconds, 0.0),
    "body_limit": (_number, 0),
    "access": (_access, None),
    "script_name": (_flag, False),
    "request_buffering": (_flag, False),
    "post_buffering": (_number, 256 * 1024),
    "response_buffer": (_number, 0),
    "request_id": (_flag, False),
    "paused": (_text, ""),
    "deadlines": (Deadlines.from_json, NO_DEADLINES),
    "balancing": (Balancing.from_json, ORDINARY),
    "upstreams": (Upstreams.from_json, NO_UPSTREAMS),
    "sharing": (Sharing.from_json, ALONE),
    "uid": (_optional_number, None),
}


def _read(document: Any, keys: _Keys, what: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError(f"{what}: an object expected, not {type(document).__name__}")
    values: dict[str, Any] = {}
    for key, (read, absent) in keys.items():
        if key not in document:
            if absent is _REQUIRED:
                raise ValueError(f"{what}: {key}: missing")
            values[key] = absent
            continue
        try:
            values[key] = read(document[key])
        except ValueError as error:
            raise ValueError(f"{what}: {key}: {error}") from None
    return values
