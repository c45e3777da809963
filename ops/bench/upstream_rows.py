"""Requests that go to backends which are there already: ours as a proxy beside nginx and haproxy.

Each front has a backend of its own: for HTTP an nginx that answers by itself, so that the front is measured; for uwsgi a
uWSGI with one process. Every front has one thread.
"""

from __future__ import annotations

from typing import ClassVar

from closed import Closed
from row import Goal, Row
from stacks import BIN, BehindHaproxy, Emperor, Site, Stack, Uwsgi, free_port, nginx

HELLO = 'location / { return 200 "Hello, world!\\n"; }'
HOW = "`wrk -t1`, keep-alive, after a second of warming up. CPU of front and backend."


class Forwards(Emperor):
    """A vassal without an app."""

    settings = "a vassal with `upstream`, all defaults"

    def launch(self) -> None:
        vassals = self.directory / "vassals"
        vassals.mkdir()
        upstream = self.behind(f"127.0.0.1:{free_port()}")
        (vassals / f"{self.site.app}.ini").write_text(f"[vassal]\nupstream = {upstream}\n")
        self.spawn(
            BIN / "emperor", "start", vassals, "--http", self.address, "--run-dir", self.directory / "run"
        )

    def behind(self, address: str) -> str:
        raise NotImplementedError


class ForwardsHttp(Forwards):
    def behind(self, address: str) -> str:
        nginx(self, "behind", address, HELLO)
        return f"http://{address}"


class ForwardsUwsgi(Forwards, Uwsgi):
    def behind(self, address: str) -> str:
        self.workers("--socket", address)
        return f"uwsgi://{address}"


class NginxHttp(Stack):
    name = "nginx (proxy_pass)"
    settings = "`proxy_http_version 1.1`, `keepalive 64` to its upstream, one process, no access log"

    def launch(self) -> None:
        behind = f"127.0.0.1:{free_port()}"
        nginx(self, "behind", behind, HELLO)
        passed = 'location / { proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; }'
        pool = f"upstream b {{ server {behind}; keepalive 64; keepalive_requests 1000000000; }}"
        nginx(self, "front", self.address, passed, pool)


class HaproxyHttp(BehindHaproxy):
    name = "haproxy (one thread)"
    settings = "`nbthread 1`, `http-reuse always`, no log"
    threads: ClassVar[int] = 1

    def serve(self, address: str) -> None:
        nginx(self, "behind", address, HELLO)


class NginxPasses(Uwsgi):
    name = "nginx (uwsgi_pass)"
    settings = "stock `uwsgi_params`, one process, no access log; uWSGI as behind nginx above, over TCP"

    def launch(self) -> None:
        behind = f"127.0.0.1:{free_port()}"
        self.workers("--socket", behind)
        passed = f"location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass {behind}; }}"
        nginx(self, "front", self.address, passed)


def rows(connections: int, suffix: str, told: str) -> tuple[Row, ...]:
    proxies = (NginxHttp.name, HaproxyHttp.name)
    return (
        Closed(
            f"upstream-http{suffix}",
            f"an HTTP upstream, {told}",
            Site("hello"),
            (ForwardsHttp, NginxHttp, HaproxyHttp),
            (Goal("requests_per_s", proxies, None),),
            HOW,
            connections=connections,
        ),
        Closed(
            f"upstream-uwsgi{suffix}",
            f"a uwsgi upstream, {told}",
            Site("hello"),
            (ForwardsUwsgi, NginxPasses),
            (Goal("requests_per_s", (NginxPasses.name,), None),),
            HOW,
            connections=connections,
        ),
    )


ROWS: tuple[Row, ...] = (*rows(64, "", "64 connections"), *rows(1, "-c1", "1 connection"))
STACKS: tuple[type[Stack], ...] = (NginxHttp, HaproxyHttp, NginxPasses)
