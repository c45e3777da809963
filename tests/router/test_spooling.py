"""request-buffering in a running router: no worker is asked before a body is whole, wherever it lies meanwhile."""

import contextlib
import fcntl
import hashlib
import os
import random
import resource
import shutil
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emperor.protocol import records
from tests.router.client import Connection, chunked, get, post, request, uwsgi
from tests.router.stage import Stage, Vassal, open_stage
from tests.router.worker import FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for

LARGE = random.Random(7).randbytes(3_000_000)


@pytest.fixture
def blog(blog: Vassal) -> Vassal:
    blog.tell(request_buffering=True)
    return blog


def whole(worker: FakeWorker, request: Request) -> bytes:
    return request.body + worker.rest_of_body(request)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wait_bodies(stage: Stage, **wanted: int) -> None:
    """Until the router holds so much of bodies."""
    wait_for(
        lambda: {key: stage.stats()["bodies"][key] for key in wanted} == wanted,
        10,
        stage.stats,
        every_s=0.005,
    )


def wait_none(stage: Stage) -> None:
    wait_bodies(stage, memory_bytes=0, disk_bytes=0, files=0)


def held_bytes(stage: Stage) -> int:
    bodies = stage.stats()["bodies"]
    return int(bodies["memory_bytes"] + bodies["disk_bytes"])


@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_a_worker_is_not_asked_before_a_body_is_whole(blog: Vassal, front: str) -> None:
    worker = blog.active().worker()
    sends = post(b"0123456789") if front == "http" else uwsgi(body=b"0123456789")
    client = (blog.stage.http if front == "http" else blog.stage.uwsgi)(sends[:-6])
    blog.wait_stat("receiving", 1)
    worker.expect_nothing(0.05)
    assert blog.stats()["running"] == blog.stats()["queued"] == 0
    client.send(sends[-6:])
    taken = worker.take()
    assert (taken.whole, taken.body) == (True, b"0123456789")
    assert blog.stats()["receiving"] == 0
    worker.respond(taken, body=b"ok")
    assert client.response().status == 200
    wait_none(blog.stage)


@pytest.mark.parametrize("post_buffering", [0, 1000, 256 * 1024, 2_000_000, 3_000_000])
@pytest.mark.parametrize("front", ["http", "uwsgi", "chunked"])
def test_a_large_body_comes_as_it_was_sent(blog: Vassal, front: str, post_buffering: int) -> None:
    blog.tell(post_buffering=post_buffering)
    worker = blog.active().worker()
    match front:
        case "http":
            client = blog.stage.http(post(LARGE))
        case "uwsgi":
            client = blog.stage.uwsgi(uwsgi(body=LARGE))
        case _:
            head = request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST")
            client = blog.stage.http(head + chunked(LARGE[:1], LARGE[1:1_000_000], LARGE[1_000_000:]))
    taken = worker.take()
    assert taken.variables["CONTENT_LENGTH"] == str(len(LARGE))
    assert digest(whole(worker, taken)) == digest(LARGE)
    stats = blog.stats()
    assert stats["spooled"] == int(post_buffering < len(LARGE))
    worker.respond(taken, body=b"ok")
    assert client.response().status == 200
    wait_none(blog.stage)
    assert blog.stats()["spool_bytes"] == 0


def test_a_body_on_disk_is_counted_and_taken_back_with_its_request(blog: Vassal) -> None:
    """Offered to one worker, taken back, run by another: nothing of it was read before."""
    generation = blog.active(seats=2)
    busy = generation.worker(0)
    first = blog.stage.http(get(path="/first"))
    ahead = busy.take(timed=False)
    client = blog.stage.http(post(LARGE, path="/large"))
    blog.wait_stat("on_deck", 1)
    on_deck = busy.offered()
    assert not on_deck.whole
    spooled = blog.stats()["spool_bytes"]
    assert len(LARGE) - 3 * 256 * 1024 < spooled < len(LARGE) - len(on_deck.body)
    busy.begin(ahead)
    other = generation.worker(1)
    taken = other.take()
    assert taken.path == "/large"
    assert digest(whole(other, taken)) == digest(LARGE)
    assert busy.word_state(on_deck) == "REVOKED"
    other.respond(taken)
    assert client.response().status == 200
    wait_none(blog.stage)
    busy.respond(ahead)
    assert first.response().status == 200


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_chunked_body_has_a_length_once_it_is_whole(blog: Vassal, in_pieces: bool) -> None:
    """What needs CONTENT_LENGTH to read anything (Django) reads it; and only one of the two is told."""
    worker = blog.active().worker()
    head = request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST")
    sends = chunked(b"abc", b"de")
    client = blog.stage.http(head + sends[: 10 if in_pieces else None])
    if in_pieces:
        blog.wait_stat("receiving", 1)
        client.send(sends[10:])
    taken = worker.take()
    assert whole(worker, taken) == b"abcde"
    assert taken.variables["CONTENT_LENGTH"] == "5"
    assert "HTTP_TRANSFER_ENCODING" not in taken.variables
    worker.respond(taken)
    assert client.response().status == 200


def test_without_it_a_chunked_body_never_has_one(blog: Vassal) -> None:
    """Not even when all of it is there: what an app sees must not depend on how the network cut it."""
    blog.tell(request_buffering=False)
    worker = blog.active().worker()
    client = blog.stage.http(
        request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST") + chunked(b"abc")
    )
    taken = worker.take()
    assert "CONTENT_LENGTH" not in taken.variables
    assert taken.variables["HTTP_TRANSFER_ENCODING"] == "chunked"
    worker.respond(taken)
    assert client.response().status == 200


def expecting(size: int) -> bytes:
    return request("blog.localhost", "/", f"Content-Length: {size}", "Expect: 100-continue", method="POST")


def test_100_continue_comes_once_the_request_is_admitted(blog: Vassal) -> None:
    """With every worker busy, since none is needed to take the body in."""
    worker = blog.active(seats=1, deck=1).worker()
    blog.stage.http(get())
    running = worker.take()
    client = blog.stage.http(expecting(3))
    assert client.read_exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    blog.wait_stat("receiving", 0)
    worker.respond(running)
    taken = worker.take()
    assert taken.body == b"abc"
    worker.respond(taken)
    assert client.response().status == 200


@pytest.mark.parametrize("why", ["the queue is full", "not available", "too large"])
def test_who_is_not_admitted_is_told_before_the_body(blog: Vassal, why: str) -> None:
    match why:
        case "the queue is full":
            blog.tell(queue=1)
            blog.stage.http(get())
            blog.wait_stat("queued", 1)
        case "not available":
            blog.tell(available=False)
        case _:
            blog.tell(body_limit=2)
    response = blog.stage.http(expecting(3)).response()
    assert (response.interim, response.status) == ([], 413 if why == "too large" else 503)
    assert blog.stats()["receiving"] == 0


def test_a_queue_that_has_filled_up_meanwhile(blog: Vassal) -> None:
    blog.tell(queue=1)
    client = blog.stage.http(post(b"abc")[:-1])
    blog.wait_stat("receiving", 1)
    blog.stage.http(get())
    blog.wait_stat("queued", 1)
    client.send(b"c")
    assert client.response().status == 503
    wait_none(blog.stage)


@pytest.mark.parametrize("size", [1000, 1_000_000], ids=["in memory", "on disk"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_goes_leaves_nothing(blog: Vassal, how: str, size: int) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(post(bytes(size))[:-1])
    blog.wait_stat("receiving", 1)
    if size > 256 * 1024:
        blog.wait_stat("spooled", 1)
    getattr(client, how)()
    blog.wait_stat("receiving", 0)
    wait_none(blog.stage)
    worker.expect_nothing(0.05)
    assert blog.stats()["cancelled"] == 1


def test_waiting_for_a_worker_begins_with_the_last_byte(blog: Vassal) -> None:
    """A slow upload is not late before it has been submitted."""
    blog.tell(queue_timeout_s=0.4, request_timeout_s=0.4)
    client = blog.stage.http(post(b"abc")[:-1])
    # Another's time in the queue, from later on, is over: so would the upload's be.
    assert blog.stage.http(get()).response().status in (503, 504)
    assert blog.stats()["receiving"] == 1
    worker = blog.active().worker()
    blog.tell(queue_timeout_s=10.0, request_timeout_s=0.0)
    client.send(b"c")
    taken = worker.take()
    assert taken.body == b"abc"
    worker.respond(taken)
    assert client.response().status == 200


def test_a_whole_upload_waits_as_long_as_any_request(blog: Vassal) -> None:
    blog.tell(queue_timeout_s=0.3)
    assert blog.stage.http(post(LARGE)).response().status == 503
    wait_none(blog.stage)


def test_over_the_limit_in_the_middle_of_a_chunked_body(blog: Vassal) -> None:
    blog.tell(body_limit=2_000_000)
    worker = blog.active().worker()
    head = request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST")
    client = blog.stage.http(head)
    client.send_as_far_as_it_goes(b"%x\r\n%b\r\n" % (len(LARGE), LARGE))
    assert client.response().status == 413
    worker.expect_nothing(0.05)
    wait_none(blog.stage)


def test_a_vassal_that_goes_answers_for_the_uploads(stage: Stage, blog: Vassal) -> None:
    client = blog.stage.http(post(LARGE)[:-1])
    blog.wait_stat("spooled", 1)
    stage.tell("remove", name="blog")
    assert client.response().status == 503
    wait_none(stage)
    blog.tell()


@pytest.fixture
def tight() -> Iterator[Vassal]:
    """A router with 1 MiB for bodies in memory, 8 MB for those on disk, 4 MB for each vassal."""
    with open_stage("--body-memory=1m", "--spool-limit=8000000", "--spool-limit-each=4000000") as stage:
        blog = stage.vassal("blog", request_buffering=True, post_buffering=1 << 20)
        stage.vassal("shop", request_buffering=True, post_buffering=1 << 20)
        stage.open_for_business()
        yield blog


def test_when_memory_is_short_bodies_go_to_disk_whole(tight: Vassal) -> None:
    """And come back from there before a worker is offered them."""
    worker = tight.active(seats=1).worker()
    size = 600_000
    bodies = [LARGE[index * size : (index + 1) * size] for index in range(4)]
    clients = [tight.stage.http(post(body, path=f"/{index}")[:-1]) for index, body in enumerate(bodies)]
    wait_for(lambda: tight.stats()["spooled"] >= 2, 10, tight.stage.stats)
    assert tight.stage.stats()["bodies"]["memory_bytes"] <= 2 << 20
    for client, body in zip(clients, bodies, strict=True):
        client.send(body[-1:])
    for _ in bodies:
        taken = worker.take()
        assert digest(whole(worker, taken)) == digest(bodies[int(taken.path[1:])])
        worker.respond(taken)
    for client in clients:
        assert client.response().status == 200
    wait_none(tight.stage)


def test_a_tenant_cannot_take_the_disk_of_all(tight: Vassal) -> None:
    shop = tight.stage.vassals["shop"]
    held = tight.stage.http(post(LARGE)[:-1])
    wait_for(lambda: held_bytes(tight.stage) == len(LARGE) - 1, 10, tight.stage.stats)
    too_much = tight.stage.http()
    too_much.send_as_far_as_it_goes(post(LARGE))
    assert too_much.response().status == 507
    tight.stage.wait_log(r"\[blog\].*507.*spool-limit-each")
    assert tight.stats()["errors"] == {"507": 1}
    assert tight.stage.stats()["limits"]["spool-limit-each"]["hits"] == 1
    worker = shop.active().worker()
    neighbour = tight.stage.http(post(LARGE, "shop.localhost"))
    taken = worker.take()
    assert digest(whole(worker, taken)) == digest(LARGE)
    worker.respond(taken)
    assert neighbour.response().status == 200
    held.close()
    wait_none(tight.stage)


# A disk that is full, for real


@contextlib.contextmanager
def full_disk(tmp_path: Path, how: str) -> Iterator[Stage]:
    """A router whose bodies may take 1 MB: on a file system of that size, or by the kernel's limit for files."""
    spool = tmp_path / "spool"
    spool.mkdir()
    if how == "tmpfs":
        unshare = shutil.which("unshare")
        if os.geteuid() != 0 or unshare is None:
            pytest.skip("mounting a file system takes root and unshare(1)")
        # In a mount namespace of its own: nothing is left of it whatever happens here.
        mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
        under: tuple[str, ...] = (
            unshare,
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            mount,
            str(spool),
        )
    else:
        under = ()
    with open_stage(f"--spool-dir={spool}", under=under) as stage:
        if how == "ulimit":
            resource.prlimit(stage.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        yield stage


@pytest.mark.parametrize("front", ["http", "chunked", "uwsgi"])
@pytest.mark.parametrize("how", ["tmpfs", "ulimit"])
def test_a_full_disk_costs_that_request_and_nothing_else(tmp_path: Path, how: str, front: str) -> None:
    with full_disk(tmp_path, how) as stage:
        blog = stage.vassal("blog", request_buffering=True)
        stage.open_for_business()
        worker = blog.active().answering()
        neighbour = stage.http(get(path="/before"))
        assert neighbour.response().body == b"GET /before 0"
        client = stage.uwsgi() if front == "uwsgi" else stage.http()
        match front:
            case "http":
                client.send_as_far_as_it_goes(post(LARGE))
            case "chunked":
                head = request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST")
                client.send_as_far_as_it_goes(head + chunked(LARGE))
            case _:
                client.send_as_far_as_it_goes(uwsgi(body=LARGE))
        response = client.response()
        assert response.status == 507
        assert str(tmp_path).encode() not in response.body
        stage.wait_log(rf"\[blog\].*507.*{tmp_path}/spool")
        # The room is there again, and what fits is served.
        wait_none(stage)
        assert stage.stats()["bodies"]["refused"] == 1
        neighbour.send(post(LARGE[:700_000], path="/fits"))
        assert neighbour.response().body == b"POST /fits 700000"
        assert [each.path for each in worker.seen] == ["/before", "/fits"]
        wait_none(stage)


def test_no_descriptor_for_a_file_is_503(tmp_path: Path) -> None:
    with open_stage() as stage:
        blog = stage.vassal("blog", request_buffering=True)
        stage.open_for_business()
        blog.active().answering()
        neighbour = stage.http(get(path="/before"))
        assert neighbour.response().body == b"GET /before 0"
        client = stage.http(post(LARGE)[:1000])
        blog.wait_stat("receiving", 1)
        limits = resource.prlimit(stage.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(
            stage.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{stage.pid}/fd")), limits[1])
        )
        client.send_as_far_as_it_goes(post(LARGE)[1000:])
        assert client.response().status == 503
        neighbour.send(post(b"abc", path="/small"))
        assert neighbour.response().body == b"POST /small 3"
        resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, limits)
        again = Connection(stage.http_address)
        again.send(post(LARGE))
        assert again.response().body == b"POST / 3000000"
        again.close()


def test_a_worker_that_dies_inside_a_spooled_body(blog: Vassal) -> None:
    generation = blog.active(seats=1)
    worker = generation.worker()
    client = blog.stage.http(post(LARGE))
    taken = worker.take()
    worker.expect(records.BY_CHUTE)
    worker.abort(taken)
    assert client.response().status == 502
    wait_none(blog.stage)


def unsent(client: Connection) -> int:
    """Bytes that the router's side has not taken."""
    return int.from_bytes(fcntl.ioctl(client.sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def test_an_upload_that_lies_behind_another_request_is_read_on(tmp_path: Path) -> None:
    """More of it than is kept in memory has come before anybody could ask where to put it."""
    with open_stage("--pipeline-limit=512K") as stage:
        blog = stage.vassal("blog", request_buffering=True)
        stage.open_for_business()
        worker = blog.active().worker()
        client = stage.http(get(path="/first"))
        first = worker.take()
        sender = threading.Thread(target=client.send_as_far_as_it_goes, args=(post(bytes(16_000_000)),))
        sender.start()
        # Until the router has stopped reading, and the kernel has room for no more.
        left = [-1]
        wait_for(lambda: left[-1] == (left.append(unsent(client)) or left[-1]) > 0, 10, every_s=0.05)
        worker.respond(first)
        assert client.response().status == 200
        taken = worker.take()
        worker.respond(taken)
        assert client.response().status == 200
        sender.join(10)
