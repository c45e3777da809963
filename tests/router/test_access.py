"""The access log as a router writes it: which requests, what of them, and what happens when it cannot be written."""

import asyncio
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emperor.config.accesslog import VARIABLES, AccessLog
from emperor.protocol import packet
from emperor.router.access import Writer
from tests.router.backend import backends
from tests.router.client import get, request
from tests.router.stage import TIMEOUT_S, Stage, Vassal
from tests.router.worker import FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for


class Logged:
    """A vassal with an access log, and the lines of it."""

    def __init__(self, vassal: Vassal, path: Path, log: AccessLog) -> None:
        self.vassal = vassal
        self.path = path
        self.limit = log.max_bytes
        vassal.tell(access=log.to_json())
        self.open()

    def open(self) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.use(fd)

    def use(self, fd: int) -> None:
        status = os.fstat(fd)
        size = status.st_size if stat.S_ISREG(status.st_mode) else -1
        name = self.vassal.entry.name
        self.vassal.stage.tell("access", [fd], name=name, size=size, limit=self.limit)
        os.close(fd)

    def lines(self, count: int) -> list[str]:
        """The log's lines, once there are so many."""
        return wait_for(
            lambda: found if len(found := self.path.read_text().splitlines()) >= count else None,
            TIMEOUT_S,
            self.path.read_text,
            every_s=0.01,
        )


@pytest.fixture
def logged(blog: Vassal, tmp_path: Path) -> Callable[..., Logged]:
    def make(**log: Any) -> Logged:
        return Logged(
            blog, tmp_path / "access.log", AccessLog(**{"place": str(tmp_path / "access.log"), **log})
        )

    return make


def respond(worker: FakeWorker, taken: Request, status: bytes, body: bytes) -> None:
    length = "" if status.startswith(b"204") else f"Content-Length: {len(body)}\r\n"
    worker.respond(taken, f"{status.decode()}\r\n{length}", body)


def answer(status: bytes = b"200 OK", body: bytes = b"hello") -> Callable[[FakeWorker, Request], None]:
    def send(worker: FakeWorker, taken: Request) -> None:
        respond(worker, taken, status, body)

    return send


def test_combined(stage: Stage, blog: Vassal, logged: Callable[..., Logged]) -> None:
    log = logged()
    blog.active().answering(answer())
    stage.http(get("blog.localhost", "/a?b=c", 'User-Agent: X "y" \xe4', "Referer: http://x/")).response()
    (line,) = log.lines(1)
    assert re.fullmatch(
        r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a\?b=c HTTP/1\.1" 200 5 '
        r'"http://x/" "X \\x22y\\x22 \\xE4"',
        line,
    ), line
    assert blog.stats()["log_lines"] == 1
    assert blog.stats()["log_dropped"] == 0


def test_json_tells_of_the_worker_and_of_bytes_that_are_no_text(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    log = logged(format="json", fields=(("x", "%(var.HTTP_X)"), ("both", "<%(method)>")))
    blog.active().answering(answer(), seat=1)
    stage.http(get("blog.localhost", "/x", 'X: \xff"\\')).response()
    told = json.loads(log.lines(1)[0])
    (link,) = blog.links()
    assert told["pid"] == link["pid"] and told["worker"] == 2 and told["generation"] == 1
    assert (told["status"], told["bytes"], told["request_bytes"], told["user"]) == (200, 5, 0, None)
    assert told["vassal"] == "blog" and told["both"] == "<GET>"
    assert told["x"] == '\\xff"\\'
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    assert 0 <= told["micros"] < 60_000_000


def test_the_upstream_that_had_a_request(stage: Stage, blog: Vassal, logged: Callable[..., Logged]) -> None:
    log = logged(format="%(upstream) %(wid) %(gen)")
    blog.active().answering(answer())
    stage.http(get("blog.localhost")).response()
    assert log.lines(1) == ["- 1 1"]
    with backends(protocol="http") as (made,):
        blog.tell(upstreams={"upstreams": [{"address": made.address}]})
        client = stage.http(get("blog.localhost"))
        made.asked().answer()
        client.response()
        assert log.lines(2)[1] == f"{made.address} 0 0"


def test_every_variable_of_uwsgis_says_something(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    names = [name for name, each in VARIABLES.items() if each.number]
    assert len(names) > 25
    log = logged(format="{" + ",".join(f'"{name}":%({name})' for name in names) + ',"uri":"%(uri)"}')
    blog.active().answering(answer())
    sent = request("blog.localhost", '/"q', "Content-Length: 3", method="POST") + b"abc"
    stage.http(sent).response()
    told = json.loads(log.lines(1)[0])
    assert told["uri"] == '/"q'
    assert (
        told["status"] == 200 and told["rsize"] == 5 and told["size"] == told["hsize"] + 5 and told["cl"] == 3
    )
    assert told["wid"] == 1 and told["pktsize"] > 100 and told["headers"] >= 2
    assert told["tmicros"] // 10**6 == told["tmsecs"] // 1000 == told["time"] <= told["epoch"]
    assert told["werr"] == told["rerr"] == told["ioerr"] == 0
    assert isinstance(told["secs"], float) and 0 < told["secs"] < 60
    assert told["vars"] % 2 == 0 and told["vars"] > 16


def test_who_forwarded_is_told_where_somebody_did(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    log = logged(format="%(addr)", forwarded=True)
    blog.active().answering(answer())
    stage.http(get("blog.localhost", "/")).response()
    pairs = [
        *((b"REQUEST_METHOD", b"GET"), (b"REQUEST_URI", b"/"), (b"PATH_INFO", b"/")),
        *((b"HTTP_HOST", b"blog.localhost"), (b"REMOTE_ADDR", b"1.2.3.4")),
    ]
    stage.uwsgi(packet.encode([*pairs, (b"HTTP_X_FORWARDED_FOR", b"5.6.7.8")])).response()
    stage.uwsgi(packet.encode(pairs)).response()
    assert log.lines(3) == ["127.0.0.1", "5.6.7.8", "1.2.3.4"]


def test_a_template_that_forges_nothing(stage: Stage, blog: Vassal, logged: Callable[..., Logged]) -> None:
    log = logged(format="%(var.HTTP_X)|%(addr)")
    blog.active().answering(answer())
    pairs = [
        (b"REQUEST_METHOD", b"GET"),
        (b"REQUEST_URI", b"/"),
        (b"PATH_INFO", b"/"),
        (b"HTTP_HOST", b"blog.localhost"),
        (b"REMOTE_ADDR", b"1.2.3.4"),
        (b"HTTP_X", b"\xc2\x9b31m\\\x80"),
    ]
    stage.uwsgi(packet.encode(pairs)).response()
    assert log.lines(1) == ["\\xC2\\x9B31m\\x5C\\x80|1.2.3.4"]


@pytest.mark.parametrize(
    ("condition", "statuses"),
    [
        ({"client_errors": True}, {404}),
        ({"server_errors": True}, {500}),
        ({"client_errors": True, "server_errors": True}, {404, 500}),
        ({"zero": True}, {204}),
        ({"big_bytes": 1000}, {201}),
        ({"slow_ms": 60_000}, set()),
        ({"slow_ms": 1}, {200, 201, 204, 404, 500}),
    ],
)
def test_conditions(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged], condition: dict[str, Any], statuses: set[int]
) -> None:
    log = logged(format="%(status)", everything=False, **condition)
    bodies = {201: b"x" * 1000, 204: b""}

    def by_path(worker: FakeWorker, taken: Request) -> None:
        status = int(taken.variables["PATH_INFO"][1:])
        if "slow_ms" in condition:
            import time

            time.sleep(0.005)
        respond(worker, taken, b"%d X" % status, bodies.get(status, b"hello"))

    blog.active().answering(by_path)
    client = stage.http()
    for status in (200, 201, 204, 404, 500):
        assert client.send(get("blog.localhost", f"/{status}")).response().status == status
    if statuses:
        assert {int(line) for line in log.lines(len(statuses))} == statuses
    wait_for(lambda: blog.stats()["log_lines"] == len(statuses), TIMEOUT_S)


def test_our_own_answers_and_clients_that_went_are_told_of(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    log = logged(format="%(status) %(uri) %(rerr) %(werr) %(wid) %(rsize) %(headers)")
    blog.tell(available=False, reason="it is asleep")
    ours = stage.http(get("blog.localhost", "/503")).response()
    blog.tell(available=True, body_limit=10)
    big = request("blog.localhost", "/413", "Content-Length: 99", method="POST")
    large = stage.http(big).response()
    assert (ours.status, large.status) == (503, 413)
    worker = blog.active().worker()
    gone = stage.http(get("blog.localhost", "/gone"))
    worker.take()
    gone.reset()
    assert log.lines(3) == [
        f"503 /503 0 0 0 {len(ours.body)} {len(ours.headers)}",
        f"413 /413 0 0 0 {len(large.body)} {len(large.headers)}",
        "499 /gone 1 0 1 0 0",
    ]
    assert len(ours.body) > 10 and len(ours.headers) > 5


def test_a_log_that_is_not_open_yet_loses_nothing(stage: Stage, blog: Vassal, tmp_path: Path) -> None:
    path = tmp_path / "late.log"
    blog.tell(access=AccessLog(place=str(path), format="%(uri)").to_json())
    blog.active().answering(answer())
    for number in range(3):
        stage.http(get("blog.localhost", f"/{number}")).response()
    stage.tell("access", [fd := os.open(path, os.O_WRONLY | os.O_CREAT)], name="blog")
    os.close(fd)
    assert wait_for(lambda: path.read_text().splitlines(), TIMEOUT_S) == ["/0", "/1", "/2"]


def test_a_new_file_takes_over_and_the_old_one_is_let_go(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    log = logged(format="%(uri)")
    blog.active().answering(answer())
    stage.http(get("blog.localhost", "/old")).response()
    log.lines(1)
    old = log.path.rename(log.path.with_suffix(".1"))
    log.open()
    stage.http(get("blog.localhost", "/new")).response()
    assert log.lines(1) == ["/new"]
    assert old.read_text() == "/old\n"
    held = [os.readlink(f"/proc/{stage.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{stage.pid}/fd")]
    assert str(log.path) in held and str(old) not in held
    blog.tell(access=None)
    wait_for(
        lambda: str(log.path) not in [_link(stage.pid, fd) for fd in os.listdir(f"/proc/{stage.pid}/fd")],
        TIMEOUT_S,
    )


def _link(pid: int, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ""


def test_a_full_disc_costs_lines_which_are_counted(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    log = logged(format="%(uri)")
    log.use(os.open("/dev/full", os.O_WRONLY))
    blog.active().answering(answer())
    for number in range(1, 4):
        assert stage.http(get("blog.localhost", "/lost")).response().status == 200
        # Each in a write of its own: the note of the ones before is lost with it, and is no line.
        assert blog.wait_stat("log_dropped", number)["log_lines"] == number
    log.open()
    stage.http(get("blog.localhost", "/kept")).response()
    note, kept = log.lines(2)
    assert kept == "/kept"
    assert note == "# 3 lines of this log were dropped here: writing was too slow, or failed"


def test_only_lines_that_were_handed_in_count_as_lost(tmp_path: Path) -> None:
    """Neither the note about lost lines, nor what ends a torn one, is a line; and a note that was lost is told again."""
    path = tmp_path / "log"

    async def lose() -> int:
        writer = Writer(asyncio.get_running_loop(), b"# %d lost\n", lambda limit: None)

        async def dropped(count: int) -> None:
            async with asyncio.timeout(TIMEOUT_S):
                while writer.waiting:
                    await asyncio.sleep(0.01)
            assert writer.dropped == count

        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        writer.use(write_end, 0)
        for _ in range(3):
            writer.put(b"x" * 9999 + b"\n")
        await asyncio.get_running_loop().run_in_executor(None, os.read, read_end, 1)
        os.close(read_end)
        await dropped(3)
        writer.use(os.open("/dev/full", os.O_WRONLY), 0)
        writer.put(b"four\n")
        await dropped(4)
        writer.use(os.open(path, os.O_WRONLY | os.O_CREAT), 0)
        writer.put(b"kept\n")
        await dropped(4)
        writer.close()
        writer.join(TIMEOUT_S)
        return writer.dropped

    assert asyncio.run(lose()) == 4
    assert path.read_bytes() == b"\n# 4 lost\nkept\n"


def test_files_do_not_gather_behind_one_that_hangs(tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def hang() -> None:
        writer = Writer(asyncio.get_running_loop(), b"# %d lost\n", lambda limit: None)
        read_end, write_end = os.pipe()
        writer.use(write_end, 0)
        writer.put(b"x" * 300_000 + b"\n")
        # The thread is in it for good once a part of it is there.
        await asyncio.get_running_loop().run_in_executor(None, os.read, read_end, 1)
        held = len(os.listdir("/proc/self/fd"))
        for _ in range(100):
            writer.use(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0)
        wait_for(lambda: len(os.listdir("/proc/self/fd")) <= held + 2, TIMEOUT_S)
        writer.put(b"goes to the last\n")
        os.close(read_end)
        async with asyncio.timeout(TIMEOUT_S):
            while writer.waiting:
                await asyncio.sleep(0.01)
        writer.close()
        writer.join(TIMEOUT_S)

    asyncio.run(hang())
    assert path.read_text().endswith("goes to the last\n")


def test_a_file_that_grows_to_its_limit_is_told_once(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    log = logged(format="%(uri)", max_bytes=20)
    blog.active().answering(answer())
    for number in range(3):
        stage.http(get("blog.localhost", f"/long-enough-{number}")).response()
        log.lines(number + 1)
    stage.wait_event("log-full", name="blog", bytes=20)
    assert sum(event["op"] == "log-full" for event in stage.heard()) == 1


def test_a_file_that_cannot_be_moved_away_grows_on(
    stage: Stage, blog: Vassal, logged: Callable[..., Logged]
) -> None:
    log = logged(format="%(uri)", max_bytes=20)
    blog.active().answering(answer())
    log.limit = 0
    log.open()
    for number in range(3):
        stage.http(get("blog.localhost", f"/long-enough-{number}")).response()
        log.lines(number + 1)
    blog.stats()  # an answer, so whatever was said before it has been heard
    assert all(event["op"] != "log-full" for event in stage.heard())


@pytest.fixture
def stopped_stdout(fresh: Stage) -> Iterator[tuple[Stage, Vassal, int]]:
    """A router whose standard output is a full pipe."""
    stage = fresh
    blog = stage.vassal("blog", access=AccessLog(place="-", format="%(uri)").to_json())
    stage.open_for_business()
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    stage.tell("access", [write_end])
    os.close(write_end)
    yield stage, blog, read_end
    os.close(read_end)


def test_a_stopped_reader_costs_lines_and_never_a_request(stopped_stdout: tuple[Stage, Vassal, int]) -> None:
    stage, blog, read_end = stopped_stdout
    blog.active().answering(answer())
    path = "/" + "x" * 6_000
    client = stage.http()
    for _ in range(400):
        assert client.send(get("blog.localhost", path)).response().status == 200
    dropped = blog.stats()["log_dropped"]
    assert dropped > 10
    assert blog.stats()["log_lines"] == 400
    assert stage.stats()["stdout_log_dropped"] == dropped
    got = b""
    while b" lines of access logs were dropped here" not in got:
        got += os.read(read_end, 65536)
    client.send(get("blog.localhost", "/again")).response()
    while b"/again\n" not in got:
        got += os.read(read_end, 65536)
    lines = got.decode().splitlines()
    assert lines.count(path) == 400 - dropped
    # More than one note, when it flowed for a moment in between.
    notes = [
        re.fullmatch(r"# (\d+) lines of access logs were dropped here: writing was too slow, or failed", line)
        for line in lines
        if line.startswith("#")
    ]
    assert sum(int(note[1]) for note in notes if note) == dropped
    assert all(notes)
    assert lines[-1] == "/again"


def test_a_router_that_leaves_writes_what_waits(fresh: Stage, tmp_path: Path) -> None:
    blog = fresh.vassal("blog")
    fresh.open_for_business()
    log = Logged(blog, tmp_path / "log", AccessLog(place="/x", format="%(uri)"))
    blog.active().answering(answer())
    fresh.http(get("blog.localhost", "/last")).response()
    fresh.tell("drain", timeout_s=5)
    fresh.wait_exit()
    assert log.path.read_text() == "/last\n"
