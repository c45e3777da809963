"""Whole responses by the ring on the page: found while the router is awake, called for while it rests, read after a death."""

import mmap

from emperor.protocol import records, ring, scoreboard
from emperor.protocol.records import NO_WORD
from tests.router.client import get
from tests.router.stage import TIMEOUT_S, Generation, Vassal
from tests.scenarios.harness.waiting import wait_for


def whole_page(generation: Generation) -> mmap.mmap:
    size = scoreboard.size_bytes(generation.seats, generation.slots, 1, generation.deck)
    return mmap.mmap(generation.board_fd, size)


def test_a_response_in_the_ring(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http()
    for body in (b"one", b"two", b"x" * 5000):
        client.send(get())
        worker.put(worker.take(), body)
        assert client.response().body == body
    assert blog.stats()["unasked_messages"] == blog.stats()["link_faults"] == 0


def test_more_than_the_ring_holds_in_all(blog: Vassal) -> None:
    """It goes round and round."""
    blog.active(seats=1).answering(lambda worker, request: worker.put(request, request.path.encode() * 100))
    client = blog.stage.http()
    for number in range(3 * ring.CAPACITY // 700):
        path = f"/{number:06}"
        assert client.send(get(path=path)).response().body == path.encode() * 100


def test_what_a_dead_worker_had_finished_is_answered(blog: Vassal) -> None:
    """Whether it had called or not: of what it had begun, only the rest is lost."""
    generation = blog.active(seats=1)
    doomed = generation.remote()
    doomed.call("join")
    # All of them before the first is taken: behind one that runs for long nothing goes on deck.
    finished = blog.stage.http(get(path="/finished"))
    blog.wait_stat("running", 1)
    begun = blog.stage.http(get(path="/begun"))
    blog.wait_stat("on_deck", 1)
    waiting = blog.stage.http(get(path="/waiting"))
    blog.wait_stat("on_deck", 2)
    request = doomed.call("take")
    doomed.call("put", request, body="done", call=False)
    doomed.call("take")
    doomed.kill()
    assert finished.response().body == b"done"
    assert begun.response().status == 502
    generation.answering()
    assert waiting.response().status == 200
    assert blog.stats()["requeued"] == 1


def test_an_answer_that_nobody_waits_for_any_more(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    request = worker.take()
    client.reset()
    worker.expect_cancel(request)
    worker.put(request, b"late")
    blog.wait_stat("running", 0)
    # One for which there is no request is dropped and counted.
    worker.ring.put(request.stream, 0, b"200 OK\r\n", b"again")
    worker.call()
    blog.wait_stat("stale_records", 1)
    assert blog.stats()["link_faults"] == 0


def test_a_ring_that_lies_is_a_link_fault_and_nobody_elses(blog: Vassal) -> None:
    generation = blog.active(seats=2)
    liar = generation.worker(1)
    client = blog.stage.http(get(path="/of-the-liar"))
    request = liar.take()
    other = generation.answering(seat=0)
    with whole_page(generation) as page:
        start = len(page) - scoreboard.RING_BYTES
        page[start : start + 8] = (1 << 40).to_bytes(8, "little")
    liar.call()
    assert client.response().status == 502
    blog.wait_stat("link_faults", 1)
    blog.stage.wait_log(r"^\[blog\] worker 1 .* broke the backplane protocol: a ring that says it holds")
    assert blog.stage.http(get(path="/elsewhere")).response().status == 200
    assert len(other.seen) == 1
    assert request.path == "/of-the-liar"


def test_garbage_in_the_ring_is_a_link_fault(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.ring.put(request.stream, 0, b"200 OK\r\n", b"0123456789")
    with whole_page(blog.generations[1]) as page:
        start = len(page) - scoreboard.RING_BYTES + 192
        page[start + 4 : start + 8] = b"\xff\xff\xff\x7f"  # the length of the record
    worker.call()
    assert client.response().status == 502
    blog.wait_stat("link_faults", 1)


def test_a_call_in_the_ring_leads_nowhere(blog: Vassal) -> None:
    """However deep: a record that says "look into the ring" and lies in it is looked at once."""
    worker = blog.active(seats=1).worker()
    call = records.pack(records.CALL, 0, NO_WORD, 0, b"")
    with whole_page(blog.generations[1]) as page:
        start = len(page) - scoreboard.RING_BYTES
        page[start + 192 : start + 192 + len(call) * 100] = call * 100
        page[start : start + 8] = (len(call) * 100).to_bytes(8, "little")
    worker.call()
    blog.wait_stat("unasked_messages", 100)
    assert blog.stats()["link_faults"] == 0


def test_calls_that_nobody_asked_for_are_counted(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    request = worker.take()  # the router watches, for a moment
    for _ in range(50):
        worker.call()
    worker.put(request, b"hi")
    assert client.response().body == b"hi"
    # What it found in the ring by itself may be answered before the calls are there.
    wait_for(lambda: blog.stats()["unasked_messages"], TIMEOUT_S, blog.stats)
    assert blog.stats()["unasked_messages"] <= 50
