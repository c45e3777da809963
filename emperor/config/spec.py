"""What a worker needs to load one app and to run its requests, and nothing else.

The one part of a vassal's configuration that leaves this package: the loading step fills it in, it travels
inside the gateway's specification as JSON, and a worker reads it back. It therefore depends on nothing, so
that a worker that reads it imports no parser and no option table.
"""

from dataclasses import dataclass, fields
from typing import Any

_TEXTS = ("module", "wsgi_file", "callable", "chdir", "chdir_after", "virtualenv")
_LISTS = ("pythonpath", "imports", "unenv")
MOST_WEIGHT = 100
"""Of a host at a router on another one."""

_KEYS = frozenset((*_TEXTS, *_LISTS, "env", "umask"))


@dataclass(frozen=True)
class AppSpec:
    """Where an app is found and what surrounds it. All paths are absolute.

    `module` is ``pkg.mod``, ``pkg.mod:name`` or ``pkg.mod:factory()``; exactly one of it and `wsgi_file` is
    set in a specification made from a checked file. `callable` None means that the loader decides
    (``application``, then what it detects). `pythonpath` and `env` are in the order of the file; a later
    `env` pair overrides an earlier one. `imports` are modules that are imported before the app, `chdir_after`
    is entered after it. `unenv` are variables that no process of the app is to see.
    """

    module: str | None = None
    wsgi_file: str | None = None
    callable: str | None = None
    chdir: str | None = None
    virtualenv: str | None = None
    pythonpath: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    unenv: tuple[str, ...] = ()
    umask: int | None = None
    imports: tuple[str, ...] = ()
    chdir_after: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A dict of strings, None, lists of strings and lists of pairs, ready for `json.dumps`."""
        return {
            **{key: getattr(self, key) for key in _TEXTS},
            **{key: list(getattr(self, key)) for key in _LISTS},
            "umask": self.umask,
            "env": [list(pair) for pair in self.env],
        }

    @classmethod
    def from_json(cls, document: Any) -> "AppSpec":
        """The inverse of `to_json`. Raises ValueError naming the key that is missing, unknown or of a
        wrong type.
        """
        if not isinstance(document, dict):
            raise ValueError(f"app: an object expected, not {type(document).__name__}")
        for key in sorted(_KEYS - document.keys()):
            raise ValueError(f"app.{key}: missing")
        for key in sorted(map(str, document.keys() - _KEYS)):
            raise ValueError(f"app.{key}: unknown key")
        for key in _TEXTS:
            if document[key] is not None and not isinstance(document[key], str):
                raise ValueError(f"app.{key}: a string or null expected, not {type(document[key]).__name__}")
        for key in _LISTS:
            if not _is_list_of_text(document[key]):
                raise ValueError(f"app.{key}: a list of strings expected")
        if document["umask"] is not None and type(document["umask"]) is not int:
            raise ValueError("app.umask: a number or null expected")
        env = document["env"]
        if not isinstance(env, list) or not all(_is_list_of_text(pair) and len(pair) == 2 for pair in env):
            raise ValueError("app.env: a list of pairs of strings expected")
        return cls(
            **{key: document[key] for key in _TEXTS},
            pythonpath=tuple(document["pythonpath"]),
            imports=tuple(document["imports"]),
            unenv=tuple(document["unenv"]),
            umask=document["umask"],
            env=tuple((name, value) for name, value in env),
        )


@dataclass(frozen=True)
class EngineSpec:
    """How a worker runs requests: how many at once, in threads or (``gevent``) in greenlets.

    `interface` is ``wsgi``, ``asgi``, or empty where it is seen when the app is loaded. The rest of these is ASGI's: `soft` and
    `hard` limits, the event `loop`, `lifespan`, `lag_s`, after which a loop that is held up is reported (0: never), and what
    holds for WebSockets: the largest message, when a silent client is pinged, how long it has to answer, how long one may be
    idle (0: for ever), whether to compress.
    `on_loop`: the worker of a WSGI app has an event loop, too, and runs the app in its threads.

    `monkey_patch`: whether gevent replaces what blocks in the standard library before the app is imported.
    `thread_stack_bytes` 0 leaves the size to the system. `file_wrapper`: whether the app gets ``wsgi.file_wrapper``.
    """

    slots: int = 1
    gevent: bool = False
    monkey_patch: bool = True
    thread_stack_bytes: int = 0
    file_wrapper: bool = True
    interface: str = "wsgi"
    soft: int = 64
    hard: int = 256
    loop: str = "auto"
    lifespan: str = "auto"
    lag_s: float = 0.5
    on_loop: bool = False
    ws_most: int = 16 * 1024 * 1024
    ws_ping_interval_s: float = 20.0
    ws_ping_timeout_s: float = 20.0
    ws_idle_s: float = 0.0
    ws_deflate: bool = True

    @property
    def websocket(self) -> tuple[int, float, float, float, bool]:
        """The fields of `vassals.adapters.websocket.Rules`."""
        return (
            self.ws_most,
            self.ws_ping_interval_s,
            self.ws_ping_timeout_s,
            self.ws_idle_s,
            self.ws_deflate,
        )

    @property
    def page_slots(self) -> int:
        """Requests at once that a worker's row of the page has room for, whatever the app turns out to be."""
        if self.interface == "wsgi":
            return self.slots
        return self.hard if self.interface == "asgi" else max(self.slots, self.hard)

    def to_json(self) -> dict[str, Any]:
        """A dict of numbers and booleans, ready for `json.dumps`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, document: Any) -> "EngineSpec":
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong
        type or value."""
        if not isinstance(document, dict):
            raise ValueError(f"engine: an object expected, not {type(document).__name__}")
        known = {field.name: type(field.default) for field in fields(cls)}
        found = {key: value for key, value in document.items() if key in known}
        for key, value in found.items():
            if type(value) is not known[key]:
                raise ValueError(f"engine.{key}: {known[key].__name__} expected, not {type(value).__name__}")
        spec = cls(**found)
        if spec.slots < 1 or spec.thread_stack_bytes < 0:
            raise ValueError("engine: at least one slot and no negative stack expected")
        if not 1 <= spec.soft <= spec.hard or spec.lag_s < 0:
            raise ValueError("engine: a soft limit from 1 to the hard one and no negative lag expected")
        if spec.ws_most < 1 or min(spec.ws_ping_interval_s, spec.ws_ping_timeout_s, spec.ws_idle_s) < 0:
            raise ValueError("engine: WebSocket messages of at least one byte and no negative times expected")
        return spec


@dataclass(frozen=True)
class RemoteRouter:
    """A router on another host as a worker knows it. `server` is the router's public key, `public` and `secret` are the
    worker's own; `gateway`, 64 hexadecimal digits, is what no other gateway has: by it, generation and seat a worker is known
    again; `weight` is its host's at that router. There is a secret in it, so it travels where nobody else reads, and its repr
    has none."""

    address: str
    server: str
    public: str
    secret: str
    gateway: str
    weight: int = 1

    def __repr__(self) -> str:
        return f"RemoteRouter({self.address!r})"

    def to_json(self) -> dict[str, str | int]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, document: Any) -> "RemoteRouter":
        """The inverse of `to_json`. Raises ValueError, which never shows a value."""
        if not isinstance(document, dict):
            raise ValueError(f"a router far away: an object expected, not {type(document).__name__}")
        texts = [each.name for each in fields(cls) if each.name != "weight"]
        for name in texts:
            if not isinstance(document.get(name), str):
                raise ValueError(f"a router far away: {name}: a string expected")
        weight = document.get("weight", 1)  # an emperor of the version before says none
        if type(weight) is not int or not 1 <= weight <= MOST_WEIGHT:
            raise ValueError(f"a router far away: weight: a number from 1 to {MOST_WEIGHT} expected")
        return cls(**{name: document[name] for name in texts}, weight=weight)


ONE_AT_A_TIME = EngineSpec()


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
