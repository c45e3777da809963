"""Whether anybody answers for a vassal of which nothing runs here, from what the routers say of it. Pure.

Such a vassal is READY as soon as the router knows of it: nothing of it starts here. What its upstreams do is seen by requests
and health checks, and of one that has failed by connections that are tried: so one that nobody has asked yet counts as one
that answers. Workers of other hosts are there or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

ALL: Final = "all"
SOME: Final = "some"
NONE: Final = "none"

MOST_NAMED: Final = 2
"""Upstreams that are named with what is wrong; of more the count is told."""


def answering(apps: Sequence[Mapping[str, Any]], path: str, subscriptions: bool) -> tuple[str, str]:
    """`ALL`, `SOME` or `NONE`, and what is wrong, with the next step. `apps`: the vassal's part of what each router says that
    lets clients in. Empty text: nothing is known, or nothing is wrong. The worst of what the routers say counts."""
    found: dict[str, str] = {}
    alive = len(apps) > 0
    known: dict[str, None] = {}
    for app in apps:
        wrong = {spelled(each): fault(each) for each in app.get("upstreams", ())}
        known |= dict.fromkeys(wrong)
        found |= {name: text for name, text in wrong.items() if text}
        alive = alive and not (wrong and all(wrong.values()))
    if not known:
        if apps and subscriptions:
            return NONE, "no node has subscribed: requests are answered 503 until one does"
        return "", ""
    if not found:
        return ALL, ""
    named = [f"{name} {text}" for name, text in list(found.items())[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        named.append(f"and {len(found) - MOST_NAMED} more")
    if alive:
        said = f"{len(found)} of {len(known)} upstreams {'do' if len(found) > 1 else 'does'} not answer"
    else:
        said = "no upstream answers" if len(known) > 1 else "its upstream does not answer"
    return SOME if alive else NONE, f"{said}: {'; '.join(named)} (start what listens there, or edit {path})"


def workers_elsewhere(apps: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The same of one that has workers on other hosts alone (``remote = true``)."""
    if not apps:
        return "", ""
    if any(each.get("host") and each["ready"] for app in apps for each in app.get("links", ())):
        return ALL, ""
    return NONE, (
        "no worker of another host is here: requests wait, and are answered 503 after queue-timeout (start them there; where "
        "they run, `emperor keys show` on both hosts)"
    )


def spelled(upstream: Mapping[str, Any]) -> str:
    """An upstream's address, with where its name leads."""
    ip = upstream.get("ip")
    return f"{upstream['address']} ({ip})" if ip else str(upstream["address"])


def fault(upstream: Mapping[str, Any]) -> str:
    """Why it is taken for one that does not answer; empty: it is not."""
    why = upstream["last_failure"]
    if upstream["state"] == "down":
        return f"does not pass its health check: {why.removeprefix('health check: ')}"
    if upstream["state"] == "ejected":
        return f"has failed {upstream['failures_in_a_row']} times in a row: {why}"
    times = upstream["failures_in_a_row"]
    if not times or upstream.get("reached"):
        return ""
    what = "its last request" if times == 1 else f"{times} times in a row"
    return f"has failed {what}, {upstream.get('failed_s', 0)} s ago: {why}"
