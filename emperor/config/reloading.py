"""How a vassal's next generation takes over from the one before: what makes it ready. Pure.

Beside `spec`, since a worker reads none of it but what its gateway's specification repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emperor.config import parts
from emperor.config.problems import Mistake


@dataclass(frozen=True)
class Reloading:
    """`ready_path` is asked of each worker before it counts as ready, as `ready_host`; empty: to have loaded the app is
    enough. `touch` are files whose touch starts it anew. `code_s`: so often a worker looks whether the files of its modules
    have changed, 0 never, but those of `code_ignore`; `watched` are files and directories that it looks at as well.
    `mercy_s`: how long a generation that was replaced may take to finish, 0 as `stop-timeout` says. `probation_s`: how long
    the one before is kept, 0 not at all. `style` is overlap or rolling, and rolling for the touch of one of `touch_chain`;
    `worker_mercy_s` is how long each worker may take to finish then, 0 as `stop-timeout` says. `fifos` are where letters
    come in, one of them at a time. `canary_share` in a hundred requests it gets first, for `canary_s`."""

    ready_path: str = ""
    ready_host: str = ""
    touch: tuple[str, ...] = ()
    code_s: float = 0.0
    code_ignore: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    mercy_s: float = 0.0
    probation_s: float = 0.0
    style: str = "overlap"
    touch_chain: tuple[str, ...] = ()
    worker_mercy_s: float = 0.0
    fifos: tuple[str, ...] = ()
    canary_share: float = 0.0
    canary_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        return parts.json_of(self)

    @classmethod
    def from_json(cls, document: Any) -> Reloading:
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong type."""
        return cls(**parts.keys_of(cls, "reloading", document))


ORDINARY = Reloading()


def of_options(values: Mapping[str, Any], domains: Sequence[str]) -> Reloading:
    """What a vassal's options come to, by their names; `domains` are its routes."""
    path = values["ready-path"] or ""
    mercies = _mercies(values)
    return Reloading(
        ready_path=path,
        ready_host=_host(domains) if path else "",
        touch=tuple(dict.fromkeys(values["touch-reload"])),
        code_s=values["py-autoreload"],
        code_ignore=tuple(values["py-auto-reload-ignore"]),
        watched=tuple(dict.fromkeys(values["fs-reload"])),
        mercy_s=min(mercies, default=0.0),
        probation_s=values["probation"],
        canary_share=(values["canary"] or (0.0, 0.0))[0],
        canary_s=(values["canary"] or (0.0, 0.0))[1],
        style=values["reload-style"],
        fifos=tuple(dict.fromkeys(values["master-fifo"])),
        touch_chain=tuple(dict.fromkeys(values["touch-chain-reload"])),
        worker_mercy_s=mercies[-1] if mercies else 0.0,
    )


def _mercies(values: Mapping[str, Any]) -> list[float]:
    """What is said, that of a worker last. A generation drains all its workers at once: of the two the shorter counts."""
    said = (values["reload-mercy"], values["worker-reload-mercy"])
    return [max(each, 0.001) for each in said if each is not None]


def _host(domains: Sequence[str]) -> str:
    hosts = (each.partition("/")[0] for each in domains)
    return next((each for each in hosts if not each.startswith("*")), "localhost")


def ready_path(text: str) -> str:
    """A path of the app's, with a query if that is wanted. Raises Mistake."""
    if not text.startswith("/"):
        raise Mistake(
            f"{text!r} is no path of the app", "write /healthz or the like: who asks is no client of any host"
        )
    if not text.isascii() or any(character <= " " or character in "#\x7f" for character in text):
        raise Mistake(f"{text!r} cannot stand in a request line", "write it percent-encoded, as in a URL")
    return text


def auto_reload(text: str) -> str:
    """`MODE`, or `PLACE=MODE` for one place. Raises Mistake."""
    place, equals, mode = text.rpartition("=")
    mode = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}.get(mode, mode)
    if mode not in ("on", "off", "validate-only"):
        raise Mistake(f"{mode!r} is none of on, off, validate-only")
    if equals and not place.startswith("/"):
        raise Mistake(f"{place!r} is no place that is served", "write its whole path, as /etc/vassals=off")
    return f"{place}={mode}" if equals else mode
