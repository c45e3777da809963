"""Our own workers on other hosts, in a network of their own: two routers and three hosts as network namespaces, each with a
cable into a switch, and an emperor in each. Where namespaces cannot be made there is no figure."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from afar import key_of, keys
from closed import Closed
from overload import Finished, offer
from processes import cpu_seconds
from row import Figures, Row, Size, Spoiled, Stand
from stacks import APP_DIR, BIN, UP_S, Emperor, Stack, free_port
from wrk import run_wrk

from tests.scenarios.harness.network import Network, NoNetwork

FRONTS = ("east", "west")
HOSTS = ("one", "two", "three")
SLOW = "one"


class EmperorHosts(Stack):
    name = "emperor, 2 routers and 3 hosts"
    settings = (
        "five emperors in network namespaces with veth, `--backplane tcp://ADDR` and `remote = true` in the two in front, "
        "`--router tcp://ADDR` for each of these and the app in the others; all else default"
    )
    hosts: ClassVar[tuple[str, ...]] = HOSTS
    waits_ms: ClassVar[dict[str, int]] = {}

    def launch(self) -> None:
        try:
            self.network = Network([*FRONTS, *self.hosts])
        except NoNetwork as reason:
            raise Spoiled(f"{self.name}: {reason}") from None
        app = self.site.app
        port = free_port()
        doors = {front: f"tcp://{self.network[front].address}:{port}" for front in FRONTS}
        home = {name: self.directory / name for name in (*FRONTS, *self.hosts)}
        for directory in home.values():
            (directory / "vassals").mkdir(parents=True)
        public = {name: key_of(directory / "keys") for name, directory in home.items()}
        for front, door in doors.items():
            for host in self.hosts:
                keys(home[front] / "keys", "allow", public[host], app)
                keys(home[host] / "keys", "allow", public[front], door)
            (home[front] / "vassals" / f"{app}.ini").write_text("[uwsgi]\nremote = true\n")
            self._start(front, "--http", self.address, "--backplane", door)
        for host in self.hosts:
            lines = ["[uwsgi]", f"module = {app}", f"pythonpath = {APP_DIR}", f"env = HOST_NAME={host}"]
            lines.append(f"processes = {self.site.workers // len(self.hosts)}")
            if host in self.waits_ms:
                lines.append(f"env = HOST_WAITS_MS={self.waits_ms[host]}")
            (home[host] / "vassals" / f"{app}.ini").write_text("\n".join(lines) + "\n")
            self._start(host, *(part for door in doors.values() for part in ("--router", door)))

    def _start(self, name: str, *options: str) -> None:
        home = self.directory / name
        own = ("--run-dir", home / "run", "--keys-dir", home / "keys", *options)
        self.spawn(*self.network[name].within, BIN / "emperor", "start", home / "vassals", *own)

    def start(self) -> None:
        """Until both routers have all workers."""
        self.begin()
        until = time.monotonic() + UP_S
        while any(self._links(front) < self.site.workers for front in FRONTS) or not self.answers(self.host):
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name}: {self.site} does not answer\n{self.logs()}")
            time.sleep(0.1)

    def _links(self, front: str) -> int:
        command = [str(BIN / "emperor"), "status", "--json", "--run-dir", str(self.directory / front / "run")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return 0
        routers = json.loads(done.stdout)["routers"]
        app = routers[0].get("apps", {}).get(self.site.app, {"links": ()}) if routers else {"links": ()}
        return sum(link["ready"] for link in app["links"])

    def answers(self, host: str) -> bool:
        return self.network[FRONTS[0]].do(lambda: Stack.answers(self, host))

    def stop(self) -> None:
        super().stop()
        if hasattr(self, "network"):
            self.network.close()


class TwoHosts(EmperorHosts):
    name = "without the slow host"
    hosts: ClassVar[tuple[str, ...]] = tuple(host for host in HOSTS if host != SLOW)


class OneSlow(EmperorHosts):
    name = "one of the three hosts ten times slower"
    waits_ms: ClassVar[dict[str, int]] = {SLOW: 200}


SLOWER: tuple[type[EmperorHosts], ...] = (OneSlow, TwoHosts)


@dataclass(frozen=True)
class Apart(Closed):
    """As a closed loop, with half of the connections at each of two routers."""

    def measure(self, stack: Stack, size: Size) -> Figures:
        stack.start()
        return Closed.measure(self, stack, size) if isinstance(stack, Emperor) else self._both(stack, size)

    def _both(self, stack: Stack, size: Size) -> Figures:
        assert isinstance(stack, EmperorHosts)

        def load(seconds: int) -> list[float]:
            def one(front: str) -> tuple[float, ...]:
                within = stack.network[front].within
                each = self.connections // len(FRONTS)
                run = run_wrk(stack.address, stack.host, each, seconds, path=self.path, within=within)
                if run.errors:
                    raise Spoiled(str(run.errors))
                return run.requests, run.seconds, run.p50_ms, run.p99_ms

            with ThreadPoolExecutor(len(FRONTS)) as both:
                runs = list(both.map(one, FRONTS))
            requests = sum(run[0] for run in runs)
            return [
                requests,
                max(run[1] for run in runs),
                max(run[2] for run in runs),
                max(run[3] for run in runs),
            ]

        load(max(1, size.warm_up_s))
        before = cpu_seconds(stack.roots)
        requests, seconds, p50_ms, p99_ms = load(size.seconds)
        spent = cpu_seconds(stack.roots) - before
        return {
            "requests_per_s": requests / seconds,
            "cpu_us": spent * 1e6 / max(requests, 1),
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
        }


@dataclass(frozen=True)
class Slower(Row):
    """The answers of the hosts that are as they should be, open loop: with a slow one, and without it."""

    per_s: float = 200.0

    def stands(self, size: Size) -> list[Stand]:
        each = self.site.workers
        return [Stand(kind.name, kind, replace(self.site, workers=each * len(kind.hosts))) for kind in SLOWER]

    def measure(self, stack: Stack, size: Size) -> Figures:
        stack.start()
        assert isinstance(stack, EmperorHosts)
        chance = random.Random(6)
        schedule = [0.0]
        while schedule[-1] < size.warm_up_s + max(2, size.seconds):
            schedule.append(schedule[-1] + chance.expovariate(self.per_s))
        offered = stack.network[FRONTS[0]].do(lambda: offer(stack, schedule, "/who"))
        # Five emperors that have just started have two processors to themselves for a while.
        done = [each for each in offered if each.at_s - each.took_s >= size.warm_up_s]
        others = [each.took_s for each in done if each.body != SLOW.encode()]
        percent = quantiles(others, n=100)
        return {
            "p50_ms": percent[49] * 1000,
            "p99_ms": percent[98] * 1000,
            "share_percent": 100 * (1 - len(others) / len(done)),
        }


@dataclass(frozen=True)
class Failing(Row):
    """What part of the requests a worker gets that fails at once."""

    per_s: float = 300.0

    def measure(self, stack: Stack, size: Size) -> Figures:
        chance = random.Random(7)
        schedule = [0.0]
        while schedule[-1] < max(2, size.seconds):
            schedule.append(schedule[-1] + chance.expovariate(self.per_s))
        done: list[Finished] = offer(stack, schedule, "/work", allowed=(200, 500))
        by_status = Counter(each.status for each in done)
        percent = quantiles([each.took_s for each in done if each.status == 200], n=100)
        return {
            "p50_ms": percent[49] * 1000,
            "p99_ms": percent[98] * 1000,
            "share_percent": 100 * by_status[500] / len(done),
        }
