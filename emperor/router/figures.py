"""What an app says of itself, for the statistics and for who asks what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from emperor.protocol.scoreboard import now_ns
from emperor.router.overdue import told
from emperor.router.states import State

if TYPE_CHECKING:
    from emperor.router.app import App

RUNNING_LIMIT: Final = 1000
"""Requests that are told of one by one."""


def running(app: App) -> list[dict[str, Any]]:
    """The requests in workers' slots now, as the pages say, the oldest first."""
    now = now_ns()
    found: list[dict[str, Any]] = []
    for link in app.backplane.links.values():
        board = link.board
        for slot in range(0 if board is None else board.slots):
            stream, start = board.slot(link.seat, slot)  # type: ignore[union-attr]
            exchange = link.streams.get(stream) if stream else None
            if exchange is not None:
                found.append(
                    {
                        "generation": link.generation,
                        "seat": link.seat,
                        "pid": link.pid,
                        "request": told(exchange),
                        "ran_ms": max(0, now - (exchange.begun_ns if exchange.tunnel else start))
                        // 1_000_000,
                        "wanted": int(exchange.state != State.ABANDONED),
                    }
                )
    return sorted(found, key=lambda each: -each["ran_ms"])[:RUNNING_LIMIT]


def report(app: App) -> dict[str, Any]:
    """This app's part of the statistics. Integers and names only."""
    links = list(app.backplane.links.values())
    counts = app.counts
    return {
        "active": app.active,
        "available": int(app.entry.available),
        "receiving": len(app.receiving),
        "spooled": counts.spooled,
        "spool_bytes": app.core.spool.of_vassal[app.name],
        "queued": app.balancer.queued(),
        "queue_limit": app.queue.limit,
        "running": sum(min(link.in_flight, link.slots) for link in links),
        "on_deck": sum(max(0, link.waiting()) for link in links),
        "deck_depth": app.pool.depth(max((link.slots for link in links), default=1)),
        "service_us": app.pool.usual_ns // 1000,
        "requests": counts.requests,
        "responses": {f"{digit}xx": count for digit, count in enumerate(counts.answered) if count},
        "errors": dict(counts.errors),
        "rejected": dict(counts.rejected),
        "balancing": app.balancer.report(),
        "websockets": counts.websockets,
        "websockets_opened": counts.websockets_opened,
        "limits": {
            name: {"value": value, "hits": counts.hits[name], "now": now}
            for name, value, now in (
                ("body-limit", app.body_limit, 0),
                ("queue", app.queue.limit, len(app.queue)),
                ("queue-timeout", round(app.queue_timeout_s * 1000), app.balancer.waited_ms()),
                ("request-timeout", round(app.entry.request_timeout_s * 1000), 0),
                ("harakiri", round(app.entry.deadlines.harakiri_s * 1000), 0),
                ("poison-deaths", app.entry.deadlines.poison_deaths, 0),
                *app.balancer.values(),
                *(
                    (name, value, 0)
                    for name, value in (() if app.forwarding is None else app.forwarding.limits().items())
                ),
            )
        },
        "forwarded": 0 if app.forwarding is None else len(app.forwarding.attempts),
        "upstreams": [] if app.forwarding is None else app.forwarding.report(),
        "upstream_retries": {} if app.forwarding is None else app.forwarding.tries(),
        "upstream_retries_left": 0 if app.forwarding is None else app.forwarding.retries_left(),
        "poison": app.culprits.poison.report(app.core.loop.time()),
        "requeued": counts.requeued,
        "recovered": counts.recovered,
        "revoked": counts.revoked,
        "cancelled": counts.cancelled,
        "stale_records": counts.stale_records,
        "refused_hellos": counts.refused_hellos,
        "link_faults": counts.link_faults,
        "unasked_messages": app.backplane.unasked_total,
        "floods": app.backplane.remade,
        "mirrors": [] if app.mirrors is None else [app.mirrors.report()],
        "log_lines": app.logged[0] + (0 if app.access is None else app.access.lines),
        "log_dropped": app.logged[1] + (0 if app.access is None else app.access.lost),
        "links": [
            {
                "seat": link.seat,
                "generation": link.generation,
                "pid": link.pid,
                "ready": int(link.ready),
                "accepting": int(link.accepting),
                "slots": link.slots,
                "offered": link.own(),
                "fresh": int(link.fresh),
                "aside": int(link.aside),
                "free": max(0, link.slots - link.in_flight),
                "deck": max(0, link.waiting()),
                "requests": link.requests,
                "bell": int(link.is_rung()),
                **link.whereabouts(),
            }
            for link in sorted(links, key=lambda link: (link.generation, link.seat))
        ],
    }
