"""The rows of the bench, with the floors and goals of the issues "Fast" and "ASGI and WebSocket" (below a floor we have not
kept our word)."""

from __future__ import annotations

import upstream_rows
import websocket_rows
from afar import EmperorAfar
from bulk import Bulk
from closed import Closed, Routes
from crash import Crash
from fleet import Fleet
from hosts import SLOWER, Apart, EmperorHosts, Failing, OneSlow, Slower, TwoHosts
from idle import Idle
from mixed import Mixed
from overload import Overload
from row import Goal, Row
from slow import Slow
from stacks import (
    STACKS,
    Emperor,
    Granian,
    GranianAsgi,
    Gunicorn,
    HaproxyGranian,
    HaproxyGranianAsgi,
    HaproxyUvicorn,
    NginxUwsgi,
    Site,
    UwsgiEmperor,
    UwsgiHttp,
)
from streams import Streams

PEERS = (*STACKS, EmperorAfar, EmperorHosts, *SLOWER, *websocket_rows.STACKS, *upstream_rows.STACKS)
"""Every kind of stack that some row measures."""

FRONTS = (HaproxyGranian.name, NginxUwsgi.name)
NGINX = (NginxUwsgi.name,)
ALL = (Emperor, HaproxyGranian, NginxUwsgi, UwsgiHttp, Granian, Gunicorn)
BESIDE = (Emperor, HaproxyGranian, NginxUwsgi)

WRK = "`wrk -t1`, keep-alive, after a second of warming up."

ROWS: tuple[Row, ...] = (
    Closed(
        "hello-c1",
        "hello, 1 connection",
        Site("hello"),
        ALL,
        (Goal("p50_ms", NGINX, 1.4, 1.0, most=True),),
        WRK,
        connections=1,
    ),
    Closed(
        "hello",
        "hello, 64 connections",
        Site("hello"),
        ALL,
        (
            Goal("requests_per_s", FRONTS, 1.7, 2.5),
            Goal("requests_per_s", (UwsgiHttp.name,), 3.5, 5.0),
            Goal("requests_per_s", (Granian.name,), 1.2, 1.8),
            Goal("cpu_us", (), 28.0, 20.0, most=True),
            Goal("p99_ms", FRONTS, 0.5, 0.333, most=True),
        ),
        WRK,
    ),
    Closed(
        "hello-c512",
        "hello, 512 connections",
        Site("hello"),
        ALL,
        (Goal("requests_per_s", FRONTS, None),),
        WRK,
        connections=512,
    ),
    # Enough connections that the one worker never waits for a client, few enough that their queue stays far below
    # the 2 s after which wrk gives up, and that what is in flight when a run ends is little of the whole.
    Closed(
        "wait02",
        "0.2 ms app, 16 connections",
        Site("wait02"),
        BESIDE,
        (Goal("requests_per_s", NGINX, None),),
        WRK,
        connections=16,
    ),
    Closed(
        "wait2",
        "2 ms app, 16 connections",
        Site("wait2"),
        BESIDE,
        (Goal("requests_per_s", NGINX, 0.97, 1.0),),
        WRK,
        connections=16,
    ),
    Closed(
        "wait20",
        "20 ms app, 8 connections",
        Site("wait20"),
        BESIDE,
        (Goal("requests_per_s", NGINX, None),),
        WRK,
        connections=8,
    ),
    Closed(
        "wait20-w8",
        "20 ms app, 8 workers, 64 connections",
        Site("wait20", workers=8),
        BESIDE,
        (Goal("requests_per_s", NGINX, 1.0),),
        WRK,
        connections=64,
    ),
    Closed(
        "curve",
        "2 ms app by 2 workers on another host, 16 connections",
        Site("wait2", workers=2),
        (Emperor, EmperorAfar),
        (Goal("requests_per_s", (Emperor.name,), 0.8, ours=EmperorAfar.name),),
        WRK + " CPU: of the processes of both hosts, over tcp with CURVE.",
        connections=16,
    ),
    Closed(
        "curve-hello",
        "hello by a worker on another host, 64 connections",
        Site("hello"),
        (Emperor, EmperorAfar),
        (
            Goal("requests_per_s", (Emperor.name,), None, ours=EmperorAfar.name),
            Goal("cpu_us", (Emperor.name,), None, ours=EmperorAfar.name, most=True),
        ),
        WRK + " As above.",
        connections=64,
    ),
    Mixed(
        "mixed",
        "mixed load, 4 workers",
        Site("mixed", workers=4),
        ALL,
        (
            Goal("p99_ms", NGINX, 1.1, 1.0, most=True),
            Goal("p99_ms", (Granian.name, Gunicorn.name), 0.4, most=True),
        ),
        "Open loop: Poisson arrivals at 400/s, the same for all; 2 % sleep 200 ms, the rest 0.5 ms. Latency of the fast ones, "
        "from the instant for which each was scheduled.",
        rounds_least=5,
    ),
    Overload(
        "overload",
        "150 % of what 4 workers can do",
        Site("wait20", workers=4, queue_target="500ms"),
        (Emperor,),
        (
            Goal("goodput_percent", (), 95.0),
            # The target, the 20 ms of the app, and what a client's own clock adds.
            Goal("p99_ms", (), 550.0, most=True),
        ),
        "Open loop: Poisson arrivals at 1.5 times what 16 clients that wait for their answers got just before; the app takes "
        "20 ms, `queue-target = 500ms`. Latency of what is answered 200, from the instant for which it was scheduled; what "
        "comes out is counted while requests come, but for the first tenth of the time.",
    ),
    Apart(
        "hosts-hello",
        "hello by 3 hosts for 2 routers, 64 connections",
        Site("hello", workers=3),
        (Emperor, EmperorHosts),
        (
            Goal("requests_per_s", (Emperor.name,), None, 0.8, ours=EmperorHosts.name),
            Goal("cpu_us", (Emperor.name,), None, 1.25, ours=EmperorHosts.name, most=True),
        ),
        WRK
        + " In network namespaces with veth, half of the connections at each router; 1.25 times the processor time is 0.8 of "
        "the throughput per core. A new stack for each run.",
        connections=64,
        fresh=True,
        rounds_most=3,
    ),
    Apart(
        "hosts-wait2",
        "2 ms app by 3 hosts for 2 routers, 16 connections",
        Site("wait2", workers=3),
        (Emperor, EmperorHosts),
        (Goal("requests_per_s", (Emperor.name,), 0.8, ours=EmperorHosts.name),),
        "As above; the app sleeps.",
        connections=16,
        fresh=True,
        rounds_most=3,
    ),
    Apart(
        "hosts-work2",
        "2 ms of computing by 3 hosts for 2 routers, 16 connections",
        Site("work2", workers=3),
        (Emperor, EmperorHosts),
        (Goal("cpu_us", (Emperor.name,), 1.25, ours=EmperorHosts.name, most=True),),
        "As above; the app computes.",
        connections=16,
        fresh=True,
        rounds_most=3,
    ),
    Slower(
        "hosts-slow",
        "one slow host of three",
        Site("hosted", workers=4),
        SLOWER,
        (Goal("p99_ms", (TwoHosts.name,), 1.1, ours=OneSlow.name, most=True),),
        "Open loop: Poisson arrivals at 200/s, half of what the two others can do, at one router; 4 workers on each host, "
        "the app takes 20 ms. Latency of what the two others answer, after a second of warming up, and the share of the "
        "third. A new stack for each run.",
        fresh=True,
        rounds_least=5,
        rounds_most=5,
    ),
    Failing(
        "failing",
        "one of 4 workers fails at once",
        Site("failing", workers=4),
        (Emperor,),
        (Goal("share_percent", (), 5.0, most=True),),
        "Open loop: Poisson arrivals at 300/s, half of what the three others can do; the app takes 5 ms, and one worker "
        "answers 500 in no time. Its share of the requests, and the latency of what the others answer.",
    ),
    Bulk(
        "down",
        "1 GB down",
        Site("bulk"),
        ALL,
        (Goal("mb_per_s", NGINX, 1.0, 1.5),),
        "One response of 10⁹ bytes with Content-Length, in pieces of 64 KiB.",
    ),
    Bulk(
        "up",
        "1 GB up",
        Site("bulk"),
        ALL,
        (Goal("mb_per_s", NGINX, 1.0, 1.5),),
        "One POST of 10⁹ bytes with Content-Length, read by the app in pieces of 64 KiB.",
        up=True,
    ),
    Routes(
        "routes",
        "10,000 routes against 1",
        Site("hello"),
        (Emperor,),
        (Goal("cpu_us", ("with one route",), 1.05, most=True),),
        "One app with so many `domain` lines; wrk (64 connections) asks for one after another, out of a list of 10,000 "
        "requests.",
    ),
    Idle(
        "idle",
        "10,000 idle keep-alive connections",
        Site("hello"),
        (Emperor, NginxUwsgi),
        (Goal("connection_kb", (), 12.0, 6.0, most=True),),
        "Each has had one answer. Growth of the PSS of all the stack's processes since the hundredth connection; the kernel's "
        "own memory is not in it. A new stack for each run.",
        rounds_most=3,
        fresh=True,
    ),
    Fleet(
        "fleet-100",
        "100 vassals",
        Site("hello"),
        (Emperor, UwsgiEmperor),
        (
            Goal("up_s", (UwsgiEmperor.name,), None, most=True),
            Goal("pss_mb", (UwsgiEmperor.name,), None, most=True),
        ),
        "One worker each, started together; each is asked through the router until it has answered. PSS and idle CPU: of all "
        "processes, emperor and router included. A new stack for each run.",
        rounds_most=3,
        fresh=True,
    ),
    Fleet(
        "fleet-1000",
        "1,000 vassals",
        Site("hello"),
        (Emperor,),
        (
            Goal("pss_mb", (), 4.0, 2.5, most=True),
            Goal("up_s", (), 20.0, 5.0, most=True),
            Goal("idle_percent", (), 3.0, 1.0, most=True),
        ),
        "As above.",
        rounds_most=1,
        fresh=True,
        vassals=1000,
        calm_s=6.0,
        idle_s=24.0,
    ),
    Crash(
        "crash",
        "a crash of the worker at 64 connections",
        Site("ledger"),
        BESIDE,
        (
            Goal("twice", (), 0.0, most=True, gather=max),
            # The one that was claimed and had not reached the app's first line.
            Goal("lost_unbegun", (), 1.0, most=True, gather=max),
        ),
        "kill -9 under 64 clients that POST to an app of 0.2 ms, each its next request at once, whatever became of the one "
        "before. The app notes each request before anything else. Counts per kill.",
    ),
    Closed(
        "asgi-hello",
        "hello ASGI, 64 connections",
        Site("asgi_hello", asgi=True),
        (Emperor, HaproxyGranianAsgi, HaproxyUvicorn, GranianAsgi),
        (
            Goal("requests_per_s", (HaproxyGranianAsgi.name,), 1.4, 2.0),
            Goal("requests_per_s", (HaproxyUvicorn.name,), 2.2, 3.0),
            Goal("requests_per_s", (GranianAsgi.name,), 0.9, 1.2),
        ),
        WRK,
    ),
    Closed(
        "asgi-json",
        "FastAPI's JSON, 64 connections",
        Site("fast_json", asgi=True),
        (Emperor, HaproxyUvicorn),
        (Goal("requests_per_s", (HaproxyUvicorn.name,), 1.1),),
        WRK + " One parameter of the path, one of the query, a model of pydantic's.",
        path="/items/7?name=x",
    ),
    Streams(
        "asgi-events",
        "5,000 streams of events",
        Site("events", asgi=True, concurrency="64/6000"),
        (Emperor, HaproxyUvicorn),
        (Goal("busy_percent", (), 40.0, 20.0, most=True),),
        "Server-sent events, one a second on each stream, of one worker; each event is looked at. Memory: growth of the PSS of "
        "all the stack's processes since the first streams. A new stack for each run.",
        rounds_most=3,
        fresh=True,
    ),
    Slow(
        "asgi-down",
        "1 GB down to a slow client, ASGI",
        Site("asgi_bulk", asgi=True),
        (Emperor, HaproxyUvicorn),
        (Goal("growth_mb", (), 32.0, most=True),),
        "One response of 10⁹ bytes in pieces of 64 KiB, as fast as `send` lets the app; the client takes all of it in twice as "
        "many seconds as a run has. PSS of all the stack's processes over what it was.",
        rounds_most=3,
    ),
    Slow(
        "asgi-up",
        "1 GB up from a slow client, ASGI",
        Site("asgi_bulk", asgi=True),
        (Emperor, HaproxyUvicorn),
        (Goal("growth_mb", (), 32.0, most=True),),
        "As above, the other way.",
        rounds_most=3,
        up=True,
    ),
    *websocket_rows.ROWS,
    *upstream_rows.ROWS,
)
