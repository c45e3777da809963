"""Every value of the document is described, every description is of a value, and the page is generated."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from emperor.router.upstreams import Upstreams
from emperor.stats.model import FIELDS, EmperorReport, RouterReport, SpawnerReport, document, reference
from emperor.supervisor.fleet import Vassal
from emperor.supervisor.restart import Backoff

from ..supervisor.test_supervisor import Emperor

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "stats.md"

MAPS = {
    "routers[].apps",
    "routers[].subscribed",
    "routers[].remote.refusals",
    "routers[].subscriptions.refused",
    "routers[].errors",
    "routers[].limits",
    "routers[].apps.*.responses",
    "routers[].apps.*.errors",
    "routers[].apps.*.rejected",
    "routers[].apps.*.balancing.retries",
    "routers[].apps.*.upstream_retries",
    "routers[].apps.*.limits",
    "vassals[].traffic.responses",
    "vassals[].traffic.errors",
}

NODE = {
    **dict.fromkeys(("host", "address", "into", "sni_key", "sni_crt", "sni_ca", "vassal", "sender"), "x"),
    **dict.fromkeys(("modifier1", "modifier2", "cores", "load", "weight", "backup", "signed"), 1),
    **dict.fromkeys(("pid", "uid", "gid", "age", "silent"), 1),
}
LINK = dict.fromkeys(
    (
        "seat",
        "host",
        "weight",
        "rtt_us",
        "left_alone_s",
        "generation",
        "pid",
        "ready",
        "accepting",
        "slots",
        "offered",
        "fresh",
        "aside",
        "free",
        "deck",
        "requests",
        "bell",
    ),
    1,
) | {"host": ""}
APP_COUNTS = (
    "active", "available", "receiving", "spooled", "spool_bytes", "queued", "queue_limit",
    "running", "on_deck", "deck_depth", "service_us", "requests", "recovered", "requeued", "revoked",
    "cancelled", "stale_records", "refused_hellos", "link_faults", "websockets", "websockets_opened",
    "unasked_messages", "floods", "log_lines", "log_dropped", "forwarded",
)  # fmt: skip
MIRROR: dict[str, Any] = {
    **dict.fromkeys(("percent", "copied", "open", "answered", "failed", "shed"), 1),
    "to": "next",
    "trouble": "",
}
UPSTREAMS = Upstreams(lambda: 0.0, lambda: 0.0)
UPSTREAMS.add("uwsgi://10.0.0.2:3031")
BODIES = dict.fromkeys(
    (
        "memory_bytes",
        "memory_limit",
        "disk_bytes",
        "disk_limit",
        "files",
        "files_limit",
        "carried_bytes",
        "refused",
    ),
    1,
)
CAPS = dict.fromkeys(("limit", "limit_per_address", "refused", "refused_per_address", "reset"), 1)
BALANCING: dict[str, Any] = {
    **dict.fromkeys(
        ("mean_us", "queue_limit_ms", "overloaded", "overloads", "fresh", "aside", "set_aside"), 1
    ),
    **dict.fromkeys(("retries_left", "addresses", "addresses_limit", "addresses_forgotten"), 1),
    "policy": "slots",
    "retries": {"again": 1},
    "parts": [dict.fromkeys(("limit", "reserved", "now", "queued", "refused"), 1) | {"path": "/slow"}],
}
NAMES = dict.fromkeys(
    ("names", "unknown", "lookups", "failures", "under_way", "under_way_limit", "waiting", "oldest_s"), 1
)
SAID: dict[str, Any] = {
    "seat": 0, "pid": 5, "state": "running", "started": 1, "connections": 1, "dripping": 0, "accepted": 1, "errors": {"400": 1},
    "bodies": BODIES, "caps": CAPS, "names": NAMES, "responses_ahead": 1, "responses_ahead_limit": 1,
    "log_dropped": 0, "limits": {"head-limit": {"value": 1, "hits": 0}}, "stdout_log_dropped": 0, "listeners": [
        {"kind": "http", "address": "127.0.0.1:80", "vassal": "", "bound": "127.0.0.1:80", "tls": 0}
    ],
    "shares": [{"route": "x.example", "by": "cookie", "members": [
        {"name": "blog", "weight": 0, "percent": 0, "ready": 1, "chosen": 1, "cookie": "3f2a"}]}],
    "remote": {"address": "127.0.0.1:5555",
        **dict.fromkeys(("keys", "links", "admitted", "lost", "refused", "handshakes", "hung_up", "banned", "remade"), 1),
        "refusals": {"key": 1}},
    "subscriptions": {"kept": 1, "taken": 1, "refused": {"held": 1}, "nodes": [NODE]}, "subscribed": {"old.test": 1},
    "apps": {"blog": {**dict.fromkeys(APP_COUNTS, 1), "responses": {"2xx": 1}, "errors": {"502": 1},
        "rejected": {"overload": 1}, "balancing": BALANCING,
        "limits": {"queue": {"value": 1, "hits": 0, "now": 0}}, "links": [LINK],
        "announced": [{"server": "127.0.0.1:7000", "key": "a.example", "address": "", "signed": 0, "sent": 0, "error": ""}],
        "mirrors": [MIRROR],
        "upstreams": UPSTREAMS.report(), "upstream_retries": {"unsent": 1}, "upstream_retries_left": 1,
        "poison": {"found": 1, "refused": 1, "banned": [{"fingerprint": "3f2a", "seconds": 9}]}}},
}  # fmt: skip


def places(value: Any, place: str = "") -> set[str]:
    """The places of all leaves, as FIELDS writes them."""
    if isinstance(value, dict):
        if place in MAPS:
            return {found for each in value.values() for found in places(each, f"{place}.*")}
        prefix = f"{place}." if place else ""
        return {found for key, each in value.items() for found in places(each, f"{prefix}{key}")}
    if isinstance(value, list):
        return {found for each in value for found in places(each, f"{place}[]")}
    return {place}


def example() -> dict[str, Any]:
    """A document with something in every list, to change as one likes."""
    from emperor.supervisor.fleet import Worker

    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.put("bad.ini", "/v/bad.ini: no app")
    blog = emperor.supervisor.vassals["blog.ini"]
    blog.warnings = ("a warning",)
    assert blog.current is not None
    blog.current.troubles = ("pidfile: /p",)
    blog.current.workers[0] = Worker(0, 7, "ready", 1, 1, "killed by signal 9 (SIGKILL)")
    report = EmperorReport(
        1,
        0,
        "/v",
        "/run/v",
        1,
        1,
        0,
        "running",
        0,
        0,
        0,
        "",
        [{"kind": "http", "address": "127.0.0.1:80"}],
        "",
    )
    return document(
        report,
        SpawnerReport(3, 0, ""),
        [(RouterReport(0, 5, "running", 0, ""), deepcopy(SAID))],
        emperor.supervisor.vassals.values(),
        emperor.now,
        {
            "blog": [
                {
                    "kind": "http",
                    "address": "127.0.0.1:0",
                    "bound": "127.0.0.1:4711",
                    "state": "open",
                    "reason": "",
                }
            ]
        },
    )


def test_every_value_is_described_and_nothing_else_is() -> None:
    described = {field.place for field in FIELDS}
    found = places(example())
    assert found - described == set()
    assert described - found == {"vassals[].gateway"} - found


def test_numbers_are_integers() -> None:
    def check(value: Any, place: str) -> None:
        assert isinstance(value, dict | list | str | int | None) and not isinstance(value, bool), place
        for key, each in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            check(each, f"{place}.{key}")

    check(example(), "")


def test_a_silent_router_is_in_the_document_all_the_same() -> None:
    found = document(
        EmperorReport(1, 0, "/v", "/r", 1, 1, 0, "running", 0, 0, 0, "", [], ""),
        SpawnerReport(0, 2, "exited with code 1"),
        [(RouterReport(0, 0, "down", 3, "killed by signal 9 (SIGKILL)"), None)],
        [],
        0.0,
    )
    assert found["routers"] == [
        {
            "seat": 0,
            "pid": 0,
            "state": "down",
            "restarts": 3,
            "last_exit": "killed by signal 9 (SIGKILL)",
            "serves": 1,
            "silent": 1,
        }
    ]
    assert found["spawner"] == {"pid": 0, "restarts": 2, "last_exit": "exited with code 1"}


def test_what_routers_have_counted_of_a_vassal_is_summed() -> None:
    blog = {"requests": 3, "queued": 1, "running": 2, "responses": {"2xx": 2}, "errors": {"502": 1}}
    other = {**blog, "responses": {"2xx": 1, "4xx": 2}, "errors": {}}
    reports = [RouterReport(seat, 5, "running", 0, "") for seat in range(3)]
    found = document(
        EmperorReport(1, 0, "/v", "/r", 1, 1, 0, "running", 0, 0, 0, "", [], ""),
        SpawnerReport(0, 0, ""),
        zip(reports, [{"apps": {"blog": blog}}, {"apps": {"blog": other}}, None], strict=True),
        [Vassal("blog.ini", "blog", "/v/blog.ini", Backoff(clock=lambda: 0.0, random=lambda: 0.0))],
        0.0,
    )
    assert found["vassals"][0]["traffic"] == {
        "requests": 6, "queued": 2, "running": 4, "responses": {"2xx": 3, "4xx": 2}, "errors": {"502": 1},
    }  # fmt: skip


def test_a_vassal_that_is_refused_says_why() -> None:
    bad = next(each for each in example()["vassals"] if each["name"] == "bad")
    assert (bad["state"], bad["reason"], bad["gateway"]) == ("REFUSED", "/v/bad.ini: no app", None)


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference()
    assert not [field for field in FIELDS if re.search(r"[|\n]", field.says)]
