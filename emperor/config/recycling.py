"""When a worker has served long enough and makes way for a fresh one: what the options say, as numbers. Pure.

It travels inside the gateway's specification, so it depends on nothing. What is decided from it is
`vassals.gateway.recycling` (by the gateway) and `vassals.worker.wear` (by the worker).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emperor.config import parts

SHARE = 10
"""Where a delta is not given it is a tenth of what it is added to: workers that were started in one instant must not
all be replaced in another (uWSGI adds nothing by default)."""

MERCY_S = 60.0
"""uWSGI's own default for a worker that is to leave."""


@dataclass(frozen=True)
class Recycling:
    """0 and empty are "never". A worker's own limit of requests and of life is the limit and a random part of its delta.

    `evil_*` are measured during requests, too, and the worker is killed. `mercy_s` is how long one that has been replaced
    may take to finish. `exception_types`, `exception_values` and `exception_reprs` name errors of the app after which a
    worker is replaced; with `on_exception` every one is.
    """

    max_requests: int = 0
    max_requests_delta: int = 0
    min_lifetime_s: float = 10.0
    max_lifetime_s: float = 0.0
    max_lifetime_delta_s: float = 0.0
    rss_bytes: int = 0
    as_bytes: int = 0
    evil_rss_bytes: int = 0
    evil_as_bytes: int = 0
    on_exception: bool = False
    exception_types: tuple[str, ...] = ()
    exception_values: tuple[str, ...] = ()
    exception_reprs: tuple[str, ...] = ()
    mercy_s: float = MERCY_S

    @property
    def measures_memory(self) -> bool:
        """Whether anybody has to look at the workers' memory."""
        return bool(self.rss_bytes or self.as_bytes or self.evil_rss_bytes or self.evil_as_bytes)

    @property
    def minds_exceptions(self) -> bool:
        """Whether the worker has to look at what its app raises."""
        return self.on_exception or bool(
            self.exception_types or self.exception_values or self.exception_reprs
        )

    def requests_of(self, random: float) -> int:
        """How many requests one worker may serve (0: any number); `random` is in [0, 1)."""
        return self.max_requests and self.max_requests + int((self.max_requests_delta + 1) * random)

    def life_of(self, random: float) -> float:
        """How many seconds one worker may live (0: for ever); `random` is in [0, 1)."""
        return self.max_lifetime_s and self.max_lifetime_s + self.max_lifetime_delta_s * random

    def to_json(self) -> dict[str, Any]:
        """A dict of numbers, booleans and lists of strings, ready for `json.dumps`."""
        return parts.json_of(self)

    @classmethod
    def from_json(cls, document: Any) -> Recycling:
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong type
        or value."""
        return cls(**parts.keys_of(cls, "recycling", document))


NEVER = Recycling()


def of_options(values: Mapping[str, Any]) -> Recycling:
    """What a vassal's options come to, by their names."""
    requests, life_s = values["max-requests"], values["max-worker-lifetime"]
    requests_delta, life_delta_s = values["max-requests-delta"], values["max-worker-lifetime-delta"]
    return Recycling(
        max_requests=requests,
        max_requests_delta=requests // SHARE if requests_delta is None else requests_delta,
        min_lifetime_s=values["min-worker-lifetime"],
        max_lifetime_s=life_s,
        max_lifetime_delta_s=life_s / SHARE if life_delta_s is None else life_delta_s,
        rss_bytes=values["reload-on-rss"],
        as_bytes=values["reload-on-as"],
        evil_rss_bytes=values["evil-reload-on-rss"],
        evil_as_bytes=values["evil-reload-on-as"],
        on_exception=values["reload-on-exception"],
        exception_types=tuple(values["reload-on-exception-type"]),
        exception_values=tuple(values["reload-on-exception-value"]),
        exception_reprs=tuple(values["reload-on-exception-repr"]),
        mercy_s=MERCY_S if values["worker-reload-mercy"] is None else values["worker-reload-mercy"],
    )
