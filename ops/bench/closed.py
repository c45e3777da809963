"""Rows under a closed loop: wrk with so many connections, each with one request at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from processes import cpu_seconds
from row import Figures, Row, Size, Spoiled, Stand
from stacks import DOMAINS_EACH, Stack
from wrk import Run, run_wrk

HOSTS = Path(__file__).with_name("hosts.lua")


@dataclass(frozen=True)
class Closed(Row):
    connections: int = 64
    path: str = "/"

    def measure(self, stack: Stack, size: Size) -> Figures:
        if size.warm_up_s:
            self.load(stack, size.warm_up_s, size)
        before = cpu_seconds(stack.roots)
        run = self.load(stack, size.seconds, size)
        spent = cpu_seconds(stack.roots) - before
        if run.errors:
            raise Spoiled(str(run.errors))
        return {
            "requests_per_s": run.requests / run.seconds,
            "cpu_us": spent * 1e6 / max(run.requests, 1),
            "p50_ms": run.p50_ms,
            "p99_ms": run.p99_ms,
        }

    def load(self, stack: Stack, seconds: int, size: Size) -> Run:
        return run_wrk(stack.address, stack.host, self.connections, seconds, path=self.path)


@dataclass(frozen=True)
class Routes(Closed):
    """The same app behind one route and behind many, asked for by one name of its own after another: what the look-up costs."""

    routes: int = 10_000

    def stands(self, size: Size) -> list[Stand]:
        (kind,) = self.kinds
        few, many = (replace(self.site, domains=count) for count in (1, size.many(self.routes)))
        return [Stand(kind.name, kind, many), Stand("with one route", kind, few)]

    def load(self, stack: Stack, seconds: int, size: Size) -> Run:
        arguments = (min(stack.site.domains, DOMAINS_EACH), size.many(self.routes))
        return run_wrk(stack.address, stack.host, self.connections, seconds, HOSTS, arguments)
