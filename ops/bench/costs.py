"""What each step of a request costs, one at a time: `ops/bench/budget`, a table for docs/architecture/performance.md.

Each line calls what is compiled as the router or the worker calls it, with a request and a response as the bench has them, a
hundred thousand times in a row, and takes the best of several goes: no noise makes code faster. The cost of a call from
Python with nothing in it is taken off; what stays above the true cost, since in the product compiled code calls compiled
code, is some 20 ns a line. What stays below it: here every cache is warm. So the lines tell where the budget goes; their sum
is less than the profile's (`ops/bench/profile`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).with_name("apps")))

from hello import application

from emperor.config.accesslog import AccessLog
from emperor.protocol import environ, http1, packet, records, ring, scoreboard
from emperor.router.access import Access, Writer
from emperor.router.exchange import Client, Streams, new_exchange
from emperor.router.pool import Member, Pool
from emperor.router.queue import Queue
from emperor.router.routes import Routes
from emperor.router.states import Event
from vassals.adapters.answer import Answer
from vassals.adapters.wsgi import Wsgi

CALLS = 100_000
GOES = 7

WRK = b"GET / HTTP/1.1\r\nHost: hello.localhost\r\n\r\n"
FIELDS = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    b"Accept-Language: en-US,en;q=0.5",
    b"Accept-Encoding: gzip, deflate, br",
    b"Cookie: session=0123456789abcdef0123456789abcdef; seen=1",
    b"Cache-Control: max-age=0",
    b"Upgrade-Insecure-Requests: 1",
    b"X-Forwarded-For: 192.0.2.1",
)
BROWSER = WRK[:-2] + b"\r\n".join(FIELDS) + b"\r\n\r\n"
PREFIX = packet.encode_vars(
    [
        (b"SERVER_NAME", b"localhost"),
        (b"SERVER_PORT", b"8080"),
        (b"REMOTE_ADDR", b"127.0.0.1"),
        (b"REMOTE_PORT", b"40000"),
        (b"wsgi.url_scheme", b"http"),
    ]
)
STATUS = "200 OK"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "14")]
BODY = b"Hello, world!\n"
HEAD = environ.response_head(STATUS, HEADERS)
DATE = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"


def nothing() -> None:
    pass


@dataclass(frozen=True)
class Line:
    """One step. `once`: how often a hello request goes through it; 0 for what it does not meet. `less`: what `call` had to do
    before it, whose cost is taken off."""

    where: str
    title: str
    call: Callable[[], object]
    once: int = 1
    less: Callable[[], object] = nothing


class Quiet(Answer):
    """An exchange whose answer goes nowhere."""

    def body(self, offset: int) -> BytesIO:
        return BytesIO()

    def finish(self, head: bytes, body: bytes) -> None:
        pass


def head_of(sent: bytes) -> packet.RequestHead:
    reader = http1.Reader(PREFIX)
    reader.feed(sent)
    head = reader.next()
    assert isinstance(head, packet.RequestHead)
    return head


def lines(loop: asyncio.AbstractEventLoop) -> Iterator[Line]:
    """In the order in which a request meets them."""
    reader = http1.Reader(PREFIX)

    def parse(sent: bytes) -> Callable[[], object]:
        def once() -> None:
            reader.feed(sent)
            reader.next()
            reader.next()

        return once

    head, browser = head_of(WRK), head_of(BROWSER)
    yield Line("router", "head of wrk's request to packet, all checks", parse(WRK))
    yield Line("router", "the same, a browser's: 8 fields more, one of which is dropped", parse(BROWSER), 0)

    def identify() -> None:
        reader.feed(WRK)
        packet.identify(reader.next(), False)
        reader.next()

    yield Line("router", "a request id, and its place in the packet", identify, less=parse(WRK))
    routes = Routes([("hello.localhost", 1)])
    yield Line("router", "look-up of the route, 1 known", lambda: routes.find(head.host, head.path))
    many = Routes([(f"h{n}.test", n) for n in range(10_000)])
    yield Line("router", "the same, 10,000 known", lambda: many.find(b"h9999.test", b"/"), 0)
    yield Line("router", "a look at the clock, for deadlines", scoreboard.monotonic_s, 2)

    client = Client()
    streams = Streams(1)

    def exchange() -> None:
        one = new_exchange(client, head, 1.0, client)
        one.stream = streams.next()
        one.step(Event.OFFER)
        one.first()
        one.step(Event.HEAD)
        one.step(Event.FINISH)

    yield Line("router", "exchange: made, numbered, four steps of its table, no body", exchange)
    queue, queued = Queue(100), new_exchange(client, head, 1.0, client)

    def wait() -> None:
        queue.add(queued)
        queue.take()

    yield Line("router", "queue: in and out", wait, 0)
    pool, member = Pool(), Member(1)
    pool.join(member)
    yield Line("router", "choice of a worker that is idle, 1 known", pool.idle_member)

    shape = (1, 1, 1, 32)
    fd = scoreboard.create(*shape)
    board = scoreboard.Board(fd, *shape)
    os.close(fd)

    def claim() -> None:
        board.offer(0, 0, 0, 7)
        board.claim(0, 0, 0, 7)
        board.free(0, 0, 0)

    def begin() -> None:
        board.begin(0, 0, 7)
        board.end(0, 0)

    request = records.pack_request(records.FIN, 0, 7, head.packet, b"")
    yield Line("both", "claim: OFFERED, CLAIMED, FREE on the page", claim)
    yield Line(
        "router",
        "REQUEST packed as a record",
        lambda: records.pack_request(records.FIN, 0, 7, head.packet, b""),
    )

    def unpack() -> None:
        cursor = records.Cursor(request)
        cursor.next()
        cursor.payload()

    yield Line("worker", "REQUEST unpacked", unpack)
    yield Line("worker", "start and end of a request on the page, with the clock", begin)
    payload = head.packet
    constants: dict[str, object] = {"wsgi.version": (1, 0), "wsgi.run_once": False}
    yield Line("worker", "packet to environ, wrk's request", lambda: environ.environ(payload, constants))
    large = browser.packet
    yield Line("worker", "the same, a browser's", lambda: environ.environ(large, constants), 0)
    yield Line(
        "worker", "head of the response from start_response", lambda: environ.response_head(STATUS, HEADERS)
    )
    wsgi, answer = Wsgi(application, sys.stderr), Quiet(payload)
    yield Line(
        "worker", "all of the adapter and the app (environ and head included)", lambda: wsgi.run(answer), 0
    )
    writer, taker = ring.Writer(board, 0, 0), ring.Reader(board, 0, 0)
    writer.begin()
    taker.watch()

    def through() -> None:
        writer.put(7, 10, HEAD, BODY)
        writer.must_call()
        taker.take()

    yield Line("both", "response into the ring and out again", through)
    response = records.pack_response(records.FIN, 0, 7, 10, HEAD, BODY)

    def read() -> None:
        cursor = records.Cursor(response)
        cursor.next()
        cursor.read_response()

    yield Line("router", "RESPONSE unpacked", read)
    outcome = http1.Outcome()
    flags = http1.HTTP11 | http1.KEEP_ALIVE
    yield Line(
        "router",
        "head of the response: checked, built anew, the body behind it",
        lambda: http1.respond(HEAD, BODY, True, flags, DATE, b"0123456789abcdef", outcome),
    )
    log = Access("hello", AccessLog(place="/dev/null"), Writer(loop, b"%d", lambda size: None, bound=1 << 40))
    done = new_exchange(client, browser, time.monotonic(), client)
    done.request_id = b"0123456789abcdef"
    yield Line(
        "router",
        "a line of the access log (combined; off by default)",
        lambda: log.note(done, 200, 100, 14, 4, False),
        0,
    )


def best_us(call: Callable[[], object], calls: int, goes: int) -> float:
    """Microseconds of one call in the best go."""
    best = float("inf")
    for _ in range(goes):
        began = time.perf_counter_ns()
        for _ in range(calls):
            call()
        best = min(best, time.perf_counter_ns() - began)
    return best / calls / 1000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--goes", type=int, default=GOES)
    arguments = parser.parse_args()
    loop = asyncio.new_event_loop()
    total = 0.0
    print("| where | step | µs | times in a hello request |\n| --- | --- | --- | --- |")
    for line in lines(loop):
        before, whole = (best_us(call, arguments.calls, arguments.goes) for call in (line.less, line.call))
        cost = max(whole - before, 0.0)
        total += cost * line.once
        print(f"| {line.where} | {line.title} | {cost:.2f} | {line.once or '–'} |", flush=True)
    print(f"| | sum over a hello request | {total:.2f} | |")
    loop.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
