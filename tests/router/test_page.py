"""The page is shared with a process that may be hostile: what is on it can cost that vassal its links, and no one more."""

import os
import struct

import pytest

from emperor.control.channel import ControlError
from emperor.protocol import records, scoreboard
from tests.router.client import get
from tests.router.stage import Generation, Stage, Vassal


def test_an_unsealed_page_is_refused(blog: Vassal) -> None:
    """It could be cut under the router's feet, which would kill it (SIGBUS)."""
    generation = blog.generation(sealed=False, tell=False)
    with pytest.raises(ControlError, match="not sealed"):
        generation.tell()
    assert blog.stage.hello()["vassals"][-1] == {"name": "blog", "generations": [], "active": 0}


def test_a_page_of_another_shape_is_refused(blog: Vassal) -> None:
    generation = blog.generation(seats=2, deck=8, tell=False)
    for seats, deck in ((1, 8), (3, 8), (2, 80)):
        generation.seats, generation.deck = seats, deck
        with pytest.raises(ControlError, match="bytes"):
            generation.tell()


@pytest.mark.parametrize("shape", [{"seats": 0}, {"slots": 0}, {"deck": -1}, {"seats": -1}, {"deck": 70_000}])
def test_an_impossible_shape_is_refused(blog: Vassal, shape: dict[str, int]) -> None:
    generation = blog.generation(tell=False)
    for key, value in shape.items():
        setattr(generation, key, value)
    with pytest.raises(ControlError, match="no page"):
        generation.tell()


def test_a_page_that_is_no_file_is_refused(blog: Vassal) -> None:
    generation = blog.generation(tell=False)
    read, write = os.pipe()
    generation.board_fd, kept = read, generation.board_fd
    try:
        with pytest.raises(ControlError, match="page"):
            generation.tell()
    finally:
        generation.board_fd = kept
        os.close(read)
        os.close(write)


def scribble(generation: Generation, value: int) -> None:
    """Every word of seat 0, as its worker could write them."""
    at = scoreboard.HEADER_BYTES + generation.slots * 16
    os.pwrite(generation.board_fd, struct.pack("<Q", value) * generation.deck, at)


@pytest.mark.parametrize("value", [0xFFFF_FFFF_FFFF_FFFF, 1, 2, 3, 1 << 40 | 1, 1 << 40 | 2])
def test_scribbled_words_cost_the_link(stage: Stage, blog: Vassal, value: int) -> None:
    other = stage.vassal("other")
    other.active().answering()
    worker = blog.active(seats=1).worker()
    waiting = stage.http(get())
    worker.offered()
    scribble(worker_generation := blog.generations[1], value)
    waiting.reset()  # the router looks at the word to take the request back
    assert worker.expect_refused() == 8
    stage.wait_log(r"^\[blog\].* broke the backplane protocol: .*page")
    assert stage.http(get("other.localhost")).response().status == 200
    scribble(worker_generation, 0)
    worker.join()
    client = stage.http(get())
    worker.respond(worker.take(), body=b"mended")
    assert client.response().body == b"mended"


def test_words_that_are_taken_before_they_are_offered_cost_the_link(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    worker.respond(worker.take())  # from here on the router holds the other words for free
    assert client.response().status == 200
    scribble(blog.generations[1], 2)
    client.send(get())
    assert worker.expect_refused() == 8
    assert "not free" in blog.stage.wait_log("broke the backplane protocol")
    scribble(blog.generations[1], 0)
    worker.join()
    worker.respond(worker.take(), body=b"kept for it")
    assert client.response().body == b"kept for it"


def test_words_that_are_never_freed_get_nothing(blog: Vassal) -> None:
    worker = blog.active(seats=1).stranger()
    scribble(blog.generations[1], 2)
    worker.join()
    blog.wait_link()
    client = blog.stage.http(get())
    blog.wait_stat("queued", 1)
    worker.expect_nothing(0.05)
    scribble(blog.generations[1], 0)
    worker.respond(worker.take())
    assert client.response().status == 200


def test_a_slot_that_says_nonsense_costs_nothing(blog: Vassal) -> None:
    generation = blog.active(seats=1)
    worker = generation.worker()
    for start, stream in ((2**64 - 1, 1), (0, 2**64 - 1), (2**63, 2**63)):
        os.pwrite(generation.board_fd, struct.pack("<QQ", start, stream), scoreboard.HEADER_BYTES)
        client = blog.stage.http(get())
        request = worker.take()
        worker.respond(request)
        assert client.response().status == 200
    assert blog.stats()["link_faults"] == 0


def test_a_claim_wins_over_a_revoke_exactly_once(blog: Vassal) -> None:
    """The client goes at the moment of the claim: either it runs and is cancelled, or it does not run at all."""
    worker = blog.active(seats=1).worker()
    ran = revoked = 0
    for index in range(60):
        client = blog.stage.http(get(path=f"/{index}"))
        request = worker.offered()
        if index % 2:
            client.reset()
        claimed = worker.claim(request)
        if not index % 2:
            client.reset()
        if claimed:
            ran += 1
            worker.expect(records.CANCEL)
            worker.respond(request)
        else:
            revoked += 1
        blog.wait_stat("running", 0)
    stats = blog.stats()
    assert (stats["revoked"], stats["cancelled"], stats["link_faults"]) == (revoked, 60, 0)
    assert ran >= 30
