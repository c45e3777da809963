"""One reading of a vassal's file: all that a generation is started from, apart from what makes it that
generation.

It is written into the state file before the spawn, so that an emperor that takes over knows what runs, and
can compare it with the file as it is now.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from emperor.config import announcing
from emperor.config.accesslog import AccessLog
from emperor.config.announcing import Announcing
from emperor.config.balancing import ORDINARY as AS_USUAL
from emperor.config.balancing import Balancing
from emperor.config.deadlines import NO_DEADLINES, Deadlines
from emperor.config.hooks import NONE, Hooks
from emperor.config.listening import NO_LISTENERS, Listening
from emperor.config.problems import Source
from emperor.config.recycling import NEVER, Recycling
from emperor.config.reloading import ORDINARY, Reloading
from emperor.config.sharing import ALONE, Sharing
from emperor.config.spec import ONE_AT_A_TIME, AppSpec, EngineSpec
from emperor.config.upstreams import NONE as NO_UPSTREAMS
from emperor.config.upstreams import Upstreams
from emperor.monitors.scan import Identity
from emperor.supervisor.names import Claim, claims_of

AHEAD = 64
"""The most requests that may wait on a worker's deck beyond those it runs: room for what the router's rule
(`emperor.router.deck`) finds worth it."""

SPARE_SEATS = 1
"""Rows of the page beyond those of the workers: where the next one starts before the one that it replaces leaves."""


def deck_words(slots: int) -> int:
    """Claim words of a worker that runs so many requests at once: each has one, and each that waits."""
    return slots + AHEAD


_PARTS: dict[str, Any] = {
    "listening": Listening,
    "announcing": Announcing,
    "engine": EngineSpec,
    "deadlines": Deadlines,
    "balancing": Balancing,
    "recycling": Recycling,
    "hooks": Hooks,
    "reloading": Reloading,
    "upstreams": Upstreams,
    "sharing": Sharing,
}
"""What is an object of its own in JSON, and may be missing: of an older version."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """`file` is the file's key (`monitors.places`), `identity` what it was when it was read. `others` are the further
    files that it was read from, by absolute paths, `others_digest` what they and the emperor's own settings for all
    vassals were then. `argv` is
    empty for a gateway that is forked from the spawner, else the program to execute."""

    name: str
    file: str
    path: str
    identity: Identity
    app: AppSpec
    uid: int | None
    gid: int | None
    processes: int
    engine: EngineSpec = ONE_AT_A_TIME
    domains: tuple[str, ...]
    default: bool
    need_app: bool
    argv: tuple[str, ...]
    queue: int
    queue_timeout_s: float
    request_timeout_s: float
    body_limit: int
    request_buffering: bool
    post_buffering: int
    response_buffer: int
    start_timeout_s: float
    stop_timeout_s: float
    access: AccessLog | None = None
    request_id: bool = False
    logto: str | None = None
    log_max_bytes: int = 0
    log_backup: str | None = None
    pidfile: str | None = None
    others: tuple[Source, ...] = ()
    others_digest: str = ""
    listening: Listening = NO_LISTENERS
    announcing: Announcing = announcing.NONE
    manage_script_name: bool = False
    deadlines: Deadlines = NO_DEADLINES
    balancing: Balancing = AS_USUAL
    recycling: Recycling = NEVER
    hooks: Hooks = NONE
    preload: bool = False
    warm_up: str = ""
    reloading: Reloading = ORDINARY
    routers: tuple[str, ...] = ()
    remote: bool = False
    upstreams: Upstreams = NO_UPSTREAMS
    sharing: Sharing = ALONE

    @property
    def elsewhere(self) -> bool:
        """It has no process here: others answer its requests."""
        return self.remote or bool(self.upstreams)

    @property
    def served_by(self) -> str:
        """Whom it has for its requests, for people."""
        if self.remote:
            return "workers of other hosts as they come"
        count, what = self.processes, "worker"
        if self.upstreams:
            count, what = len(self.upstreams.upstreams), "upstream"
        said = [f"{count} {what}{'s' * (count != 1)}"] * (count > 0)
        return " and ".join([*said, *["who subscribes"] * self.upstreams.subscriptions])

    @property
    def seats(self) -> int:
        """Rows of the page."""
        return self.processes + SPARE_SEATS

    @property
    def slots(self) -> int:
        """Requests at once that a worker has room for."""
        return self.engine.page_slots

    @property
    def claims(self) -> frozenset[Claim]:
        addresses = (each.address for each in self.listening.listeners if not each.any_port)
        return claims_of(
            self.name, self.domains, self.default, addresses, self.uid, shared=self.sharing.shares
        )

    def differs_in_sharing_alone(self, before: Reading) -> bool:
        """What differs from a reading before is what no process of the vassal's knows of."""
        if self.sharing == before.sharing:
            return False
        return before == replace(
            self, identity=before.identity, others_digest=before.others_digest, sharing=before.sharing
        )

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        document["identity"] = self.identity.to_json()
        document["app"] = self.app.to_json()
        document["listening"] = self.listening.to_json()
        document["announcing"] = self.announcing.to_json()
        document["access"] = None if self.access is None else self.access.to_json()
        document["engine"] = self.engine.to_json()
        document["deadlines"] = self.deadlines.to_json()
        document["balancing"] = self.balancing.to_json()
        document["recycling"] = self.recycling.to_json()
        document["hooks"] = self.hooks.to_json()
        document["reloading"] = self.reloading.to_json()
        document["upstreams"] = self.upstreams.to_json()
        document["sharing"] = self.sharing.to_json()
        return document

    @classmethod
    def from_json(cls, document: Any) -> Reading:
        """The inverse of `to_json`; what an older version did not know is the default. Raises ValueError naming the keys
        that a newer version has left, and what has a wrong type."""
        if not isinstance(document, dict):
            raise ValueError(
                f"a reading of a vassal's file: an object expected, not {type(document).__name__}"
            )
        newer = document.keys() - {field.name for field in fields(cls)}
        if newer:
            raise ValueError(
                f"a reading of a vassal's file: keys of a newer version: {', '.join(sorted(newer))}"
            )
        lacks = [each.name for each in fields(cls) if each.default is MISSING and each.name not in document]
        if lacks:
            raise ValueError(f"a reading of a vassal's file: missing: {', '.join(lacks)}")
        values = dict(document)
        values["identity"] = Identity.from_json(values["identity"])
        values["app"] = AppSpec.from_json(values["app"])
        if values.get("access") is not None:
            values["access"] = AccessLog.from_json(values["access"])
        for key, kind in _PARTS.items():
            if key in document:
                values[key] = kind.from_json(document[key])
        values.setdefault("others", [])
        values.setdefault("routers", [])
        for key in ("domains", "argv", "others", "routers"):
            if not isinstance(values[key], list):
                raise ValueError(f"a reading of a vassal's file: {key}: a list expected")
            values[key] = tuple(values[key])
        values["others"] = tuple(map(Source.from_json, values["others"]))
        return cls(**values)
