"""`emperor status` for people: one row per vassal, then what is wrong, in full."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from emperor.stats import answering
from emperor.stats.answering import spelled

RECENT_S = 60.0
"""How long the reason shows a worker's death after another one has taken its seat."""

_STYLES = {
    "READY": "green",
    "STARTING": "cyan",
    "RELOADING": "cyan",
    "ROLLING": "cyan",
    "PROVING": "cyan",
    "DRAINING": "yellow",
    "BACKOFF": "yellow",
    "GIVEN_UP": "bold red",
    "REFUSED": "bold red",
    "DEGRADED": "yellow",
    "UNREACHABLE": "bold red",
}

_READY_AND: Final = {answering.SOME: "DEGRADED", answering.NONE: "UNREACHABLE"}
"""What READY is of a vassal with upstreams of which only some answer, or none."""

HANGS_S: Final = 3
"""A lookup of a name that takes longer is worth a line."""


def show(document: dict[str, Any], console: Console | None = None) -> None:
    """Print the document as a table and notes."""
    console = console or Console(highlight=False)
    emperor = document["emperor"]
    up = _span(time.time() - emperor["started"])
    if emperor.get("upgrades"):
        up += f", of this version for {_span(time.time() - emperor['since'])}"
    console.print(
        Text(
            f"emperor {document['version']}, pid {emperor['pid']}, {emperor['state']}, {emperor['directory']}, up {up}"
        )
    )
    for router in document["routers"]:
        said = f"router {router['seat']}, pid {router['pid']}, {router['state']}"
        if _is_mute(router):
            said += ", does not answer"
        if "connections" in router:
            said += f", {router['connections']} connections"
        addresses = ", ".join(f"{each['kind']} {each['address']}" for each in emperor["listeners"])
        if not router.get("serves", router is document["routers"][0]):
            addresses = (
                "finishes what it has" if router["state"] == "draining" else "is to take the place of one"
            )
        console.print(Text(f"{said}; {addresses}", "bold red" if _is_mute(router) else ""))
    for lost in _lost_lines(document):
        console.print(Text(lost, "yellow"), soft_wrap=True)
    subscribed = _subscribed_lines(document)
    if not document["vassals"]:
        for line in subscribed:
            console.print(Text(line), soft_wrap=True)
        console.print(Text(f"no vassal yet: put NAME.ini or NAME.toml into {emperor['directory']}"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (
        ("vassal", "left"),
        ("state", "left"),
        ("for", "right"),
        ("gen", "right"),
        ("workers", "right"),
        ("requests", "right"),
        ("queued", "right"),
        ("reason", "left"),
    ):
        # Names and states are what the table is for: they are never cut to make room for a reason.
        table.add_column(column, justify=justify, no_wrap=column != "reason")  # type: ignore[arg-type]
    for vassal in document["vassals"]:
        table.add_row(*_row(vassal, document))
    console.print(table)
    for line in subscribed:
        console.print(Text(line), soft_wrap=True)
    for line in _share_lines(document):
        console.print(Text(line), soft_wrap=True)
    for line in _idle_shares(document):
        console.print(Text(line, "yellow"), soft_wrap=True)
    for line in _poison_lines(document):
        console.print(Text(line, "yellow"), soft_wrap=True)
    for line in _weight_lines(document):
        console.print(Text(line), soft_wrap=True)
    for line in _upstream_lines(document):
        console.print(Text(line, "yellow"), soft_wrap=True)
    for vassal in document["vassals"]:
        for warning in vassal["warnings"]:
            console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)


def _serving(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The routers that let clients in."""
    routers = document["routers"]
    return [each for each in routers if each.get("serves", each is routers[0])]


def _is_mute(router: dict[str, Any]) -> bool:
    """It is there, and said nothing when it was asked: its counts are not known."""
    return bool(router["silent"] and router["pid"])


def _lost_lines(document: dict[str, Any]) -> list[str]:
    """Which logs have lost lines, if any."""
    emperor, routers = document["emperor"], document["routers"]
    lost = {
        "the emperor's log": emperor["log_dropped"],
        "output of apps": emperor["vassal_log_dropped"],
        "access logs on standard output": sum(each.get("stdout_log_dropped", 0) for each in routers),
    }
    for router in routers:
        # A line for the standard output that found no room is counted for its vassal, too.
        for name, app in router.get("apps", {}).items():
            lost[f"the access log of {name}"] = lost.get(f"the access log of {name}", 0) + app["log_dropped"]
    return [f"{count} lines of {what} were dropped" for what, count in lost.items() if count]


def _subscribed_lines(document: dict[str, Any]) -> list[str]:
    """Hosts that somebody has subscribed to, and by how many nodes they are served now."""
    lines: dict[str, str] = {}
    for router in reversed(document["routers"]):
        if "subscriptions" not in router:
            continue
        hosts: dict[str, list[str]] = {host: [] for host in router["subscribed"]}
        into: dict[str, str] = {}
        for node in router["subscriptions"]["nodes"]:
            hosts.setdefault(node["host"], []).append(node["address"])
            into[node["host"]] = node["into"]
        for host, nodes in hosts.items():
            where = f" (into {into[host]})" if into.get(host) else ""
            lines[host] = f"subscribed: {host}{where}: {', '.join(nodes[:4]) or 'no node now'}"
            if len(nodes) > 4:
                lines[host] += f" and {len(nodes) - 4} more"
    return [lines[host] for host in sorted(lines)]


def _share_lines(document: dict[str, Any]) -> list[str]:
    """Who shares a domain, and who gets copies, as the first router sees it."""
    lines = []
    for router in document["routers"][:1]:
        for each in router.get("shares", ()):
            members = ", ".join(
                f"{one['name']} {one['percent']} %{'' if one['ready'] or not one['weight'] else ' (not ready)'}"
                for one in each["members"]
            )
            lines.append(f"shared: {each['route'] or 'the default'} by {each['by']}: {members}")
    mirrored: dict[tuple[str, str], Counter[str]] = {}
    for router in document["routers"]:
        for name, app in router.get("apps", {}).items():
            for each in app.get("mirrors", ()):
                if not each["trouble"]:
                    counts = {key: each[key] for key in ("copied", "failed", "shed")}
                    mirrored.setdefault((name, each["to"]), Counter()).update(counts)
    return lines + [
        f"{name}: mirrored to {to}: {sums['copied']} copied, {sums['failed']} failed, {sums['shed']} not copied"
        for (name, to), sums in mirrored.items()
    ]


def _idle_shares(document: dict[str, Any]) -> list[str]:
    """Domains that are shared by nobody, and mirrors that get nothing."""
    router = document["routers"][0] if document["routers"] else {}
    lines = []
    for each in router.get("shares", ()):
        if not any(one["weight"] for one in each["members"]):
            names = ", ".join(one["name"] for one in each["members"])
            route = each["route"] or "the default"
            lines.append(
                f"shared: {route} is answered 503: every weight of {names} is 0: set one that is not"
            )
    return lines + [
        f"{name}: mirror: {each['trouble']}: no copies are made"
        for name, app in router.get("apps", {}).items()
        for each in app.get("mirrors", ())
        if each["trouble"]
    ]


def _poison_lines(document: dict[str, Any]) -> list[str]:
    """Which requests are not given to workers, by the fingerprints that the log has too."""
    left: dict[tuple[str, str], int] = {}
    for router in document["routers"]:
        for name, app in router.get("apps", {}).items():
            for each in app.get("poison", {}).get("banned", ()):
                what = (name, each["fingerprint"])
                left[what] = max(left.get(what, 0), each["seconds"])
    return [
        f"{name}: poison {fingerprint} is answered 500 for {seconds} s more, since it has ended workers (the log has the "
        "request)"
        for (name, fingerprint), seconds in left.items()
        if seconds
    ]


def _weight_lines(document: dict[str, Any]) -> list[str]:
    """Which weights other hosts have said for their workers, as the router that lets clients in sees them."""
    weights = {
        (name, each["host"]): each["weight"]
        for router in document["routers"][:1]
        for name, app in router.get("apps", {}).items()
        for each in app.get("links", ())
        if each.get("host") and each["ready"] and each.get("weight", 1) != 1
    }
    return [
        f"{name}: workers on {host} have weight {weight}" for (name, host), weight in sorted(weights.items())
    ]


def _upstream_lines(document: dict[str, Any]) -> list[str]:
    """Which upstreams get no requests or no more, as any router that lets clients in sees them, and which names hang."""
    why = {
        "ejected": "is left out for {out_for_s} s more after failures in a row",
        "down": "is left out until its health check passes",
    }
    told: dict[tuple[str, str], str] = {}
    for router in _serving(document):
        for name, app in router.get("apps", {}).items():
            for each in app.get("upstreams", ()):
                who, state = f"{name}: upstream {spelled(each)}", each["state"]
                if state in why:
                    text = f"{who} {why[state].format(**each)}: {each['last_failure']}"
                    told.setdefault((who, "out"), text)
                most = each.get("max_connections")
                if most and each["outstanding"] >= most and app["queued"]:
                    text = f"has all the {most} connections that it may have (max-connections), {app['queued']} requests wait"
                    told.setdefault((who, "full"), f"{who} {text}")
    lines = list(told.values())
    for names in [router.get("names") or {} for router in document["routers"][:1]]:
        if names.get("oldest_s", 0) >= HANGS_S:
            lines.append(
                f"names of upstreams: {names['under_way']} lookups under way, the oldest for {names['oldest_s']} s, "
                f"{names['waiting']} wait behind them; {names['unknown']} names are not known (resolv.conf)"
            )
    return lines


def _workers(vassal: dict[str, Any], apps: list[dict[str, Any]]) -> str:
    """How many of those that are wanted are there: workers, or upstreams. Beside the own workers those of other hosts."""
    far = sum(
        bool(each.get("host")) and bool(each["ready"]) for app in apps[:1] for each in app.get("links", ())
    )
    return f"{_own_workers(vassal, apps)}+{far}" if far else _own_workers(vassal, apps)


def _own_workers(vassal: dict[str, Any], apps: list[dict[str, Any]]) -> str:
    upstreams = [(spelled(each), answering.fault(each)) for app in apps for each in app.get("upstreams", ())]
    if upstreams and not vassal["processes"]:
        known, faulty = {who for who, _ in upstreams}, {who for who, fault in upstreams if fault}
        return f"{len(known - faulty)}/{len(known)}"
    return f"{sum(worker['state'] == 'ready' for worker in vassal['workers'])}/{vassal['processes']}"


def _row(vassal: dict[str, Any], document: dict[str, Any]) -> list[Text]:
    apps = [router.get("apps", {}).get(vassal["name"], {}) for router in document["routers"]]
    serving = [router.get("apps", {}).get(vassal["name"], {}) for router in _serving(document)]
    unknown = any(_is_mute(router) for router in document["routers"])
    state = vassal["state"]
    if state == "READY":
        state = _READY_AND.get(vassal.get("answering", ""), state)
    return [
        Text(vassal["name"]),
        Text(state, _STYLES.get(state, "")),
        Text(_span(time.time() - vassal["since"])),
        Text(str(vassal["generation"] or "-")),
        Text(_workers(vassal, serving)),
        Text("?" if unknown else str(sum(app.get("requests", 0) for app in apps))),
        Text("?" if unknown else str(sum(app.get("queued", 0) for app in apps))),
        Text(_why(vassal)),
    ]


def _why(vassal: dict[str, Any]) -> str:
    parts = []
    if vassal["reason"]:
        parts.append(vassal["reason"])
    if vassal["retry_in"]:
        parts.append(f"next start in {vassal['retry_in']} s")
    if vassal.get("canary"):
        name = vassal["name"]
        parts.append(
            f"gets {vassal['canary']} % of the requests, the generation before it the others: "
            f"`emperor promote {name}` or `emperor rollback {name}`"
        )
    elif vassal["state"] == "PROVING":
        parts.append("on probation: the generation before it is kept")
    if vassal["paused"]:
        how = "requests wait" if vassal["paused"] == "hold" else "requests are answered 503"
        parts.append(f"paused: {how} until `emperor resume {vassal['name']}`")
    if vassal["pending"]:
        parts.append(vassal["pending"])
    if vassal["problem"]:
        parts.append(f"the last edit is not in effect: {vassal['problem']}")
    parts += [each["reason"] for each in vassal["listeners"] if each["reason"]]
    parts += vassal["troubles"]
    # What the file does not say: which port the kernel chose.
    parts += [
        f"{each['kind']} at {each['bound']}"
        for each in vassal["listeners"]
        if each["bound"] and each["address"].endswith(":0")
    ]
    if vassal["draining"]:
        parts.append(f"{vassal['draining']} former generation{'s' * (vassal['draining'] != 1)} draining")
    parts += _lost_workers(vassal["workers"], time.time())
    return "; ".join(parts)


def _lost_workers(workers: list[dict[str, Any]], now: float) -> list[str]:
    """One part for the worker that was lost last, with how many others were lost lately; none if none was."""
    lost = [
        worker
        for worker in workers
        if worker["last_exit"]
        and (worker["state"] in ("dead", "starting") or now - worker["started"] < RECENT_S)
    ]
    if not lost:
        return []
    # One that nobody has replaced yet explains more than one that is back.
    last = max(lost, key=lambda worker: (worker["state"] == "dead", worker["started"]))
    others = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    times = f", restarted {_times(last['restarts'])}" if last["restarts"] else ""
    return [f"worker {last['seat']}{others}: {last['last_exit']}{times}"]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _span(seconds: float) -> str:
    """ "42s", "7m", "3h", "12d": one number says enough."""
    left = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if left >= 2 * length:
            return f"{left // length}{unit}"
    return f"{left}s"
