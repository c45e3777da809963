"""A worker with two routers: what each may have it run, and what becomes of the slots of one that goes."""

import select
import signal
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emperor.protocol import records, scoreboard
from tests.scenarios.harness.waiting import wait_for
from tests.worker.peer import DECK, TIMEOUT_S, Router, Stage, Worker, open_stage

WSGI = """
    import pathlib, time

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/slow":
            gate = pathlib.Path(environ["HTTP_GATE"])
            (gate.parent / (gate.name + ".begun")).write_text("")
            while not gate.exists():
                time.sleep(0.005)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [path.encode()]
"""

ASGI = """
    import asyncio, pathlib

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/slow":
            gate = pathlib.Path(dict(scope["headers"])[b"gate"].decode())
            (gate.parent / (gate.name + ".begun")).write_text("")
            while not gate.exists():
                await asyncio.sleep(0.005)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": path.encode()})
"""

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "one at a time": (WSGI, {}),
    "threads": (WSGI, {}),
    "gevent": (WSGI, {"gevent": True}),
    "asgi": (ASGI, {"interface": "asgi", "lifespan": "off"}),
}


@pytest.fixture(params=[True, False], ids=["bells", "messages"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with open_stage(slots=1, bells=request.param, routers=2) as stage:
        yield stage


@pytest.fixture
def wide() -> Iterator[Stage]:
    with open_stage(slots=2, routers=2) as stage:
        yield stage


def slow(stage: Stage, router: Router, name: str) -> tuple[int, Callable[[], None]]:
    """A request that runs until the function is called."""
    gate = stage.directory / name
    stream = router.request({"PATH_INFO": "/slow", "REQUEST_URI": "/slow", "HTTP_GATE": str(gate)})
    wait_for(lambda: (stage.directory / f"{name}.begun").exists(), TIMEOUT_S, lambda: "it does not begin")
    return stream, lambda: gate.write_text("") and None


def holder(stage: Stage, slot: int = 0) -> tuple[int, int]:
    return stage.board.holder(0, slot)[:2]


def both(stage: Stage, source: str, **options: Any) -> tuple[Router, Router, Worker]:
    """Two routers and a worker that serves them; the first has its slots."""
    first, worker = stage.serving(source, **options)
    second = stage.router(1)
    worker.turn((0, stage.endpoints[0]), (1, stage.endpoints[1]))
    second.welcome()
    worker.told("ready")
    return first, second, worker


def wait_granted(router: Router) -> None:
    """For a GRANT; that somebody may want its slots is passed over."""
    while (got := router.receive()) is None or got[1][0] != records.GRANT:
        assert got is not None and got[1][0] == records.RECALL, got


def wait_holder(stage: Stage, epoch: int, state: int, slot: int = 0) -> None:
    wait_for(lambda: holder(stage, slot) == (epoch, state), TIMEOUT_S, lambda: f"{holder(stage, slot)}")


def options_of(stage: Stage, kind: str) -> tuple[str, dict[str, Any]]:
    source, options = KINDS[kind]
    if kind in ("threads", "gevent"):
        options = {**options, "slots": stage.slots}
    elif kind == "asgi":
        options = {**options, "soft": stage.slots, "hard": stage.slots}
    return source, options


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_a_slot_goes_from_one_router_to_the_other(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, second, _ = both(stage, source, **options)
    assert holder(stage) == (first.epoch, scoreboard.HELD)
    assert first.get("/1").body == b"/1"
    first.release()
    *_, payload = second.expect(records.GRANT)
    assert records.unpack_grant(payload) == 1
    assert second.take() == 1
    assert second.get("/2").body == b"/2"
    assert second.get("/3").body == b"/3"
    second.release()
    first.expect(records.GRANT)
    assert first.take() == 1
    assert first.get("/4").body == b"/4"


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_what_a_router_offers_without_a_slot_waits(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, second, _ = both(stage, source, **options)
    stream = second.request({"PATH_INFO": "/2", "REQUEST_URI": "/2"}, word=0)
    # It must think that it has one: whoever has is asked for it.
    first.expect(records.RECALL)
    assert first.get("/1").body == b"/1"
    second.expect_nothing()
    assert stage.board.state(0, 1, 0)[1] == scoreboard.OFFERED
    first.release()
    second.expect(records.GRANT)
    second.take()
    second.send(records.pack(records.RELEASE, 0, records.NO_WORD, 0, records.pack_slots(0)))
    assert second.reply(stream).body == b"/2"


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_what_was_taken_back_is_met_without_a_slot(stage: Stage, kind: str) -> None:
    """Or the words of a router that lets go of slots would be used up."""
    source, options = options_of(stage, kind)
    first, second, _ = both(stage, source, **options)
    streams = [first.request({"PATH_INFO": "/1", "REQUEST_URI": "/1"}, word=word) for word in range(2)]
    assert [first.reply(stream).body for stream in streams] == [b"/1"] * 2
    first.release()
    second.expect(records.GRANT)
    second.take()
    streams = [first.request({"PATH_INFO": "/1", "REQUEST_URI": "/1"}, word=word) for word in range(2)]
    assert [stage.board.revoke(0, 0, word, stream) for word, stream in enumerate(streams)] == [
        scoreboard.REVOKED
    ] * 2
    first.send(records.pack(records.RELEASE, 0, records.NO_WORD, 0, records.pack_slots(1)))
    wait_for(lambda: [stage.word(word) for word in range(2)] == ["FREE"] * 2, TIMEOUT_S)
    wait_granted(second)
    assert second.get("/2").body == b"/2"


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_a_router_that_wants_a_slot_is_heard_by_the_other(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, second, _ = both(stage, source, **options)
    second.send(records.pack(records.DEMAND, 0, 123, 0, records.pack_slots(3)))
    _, _, waited, _, payload = first.expect(records.RECALL)
    assert records.unpack_grant(payload) == 3
    assert waited == 123, "for how long somebody has waited is passed on"


@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_a_router_whose_slots_are_never_idle_hears_of_it_as_well(wide: Stage, kind: str) -> None:
    """Of its crew each ends a request and begins the next, and nobody comes to wait for news."""
    source, options = options_of(wide, kind)
    first, second, _ = both(wide, source, **options)
    gates = [wide.directory / f"{number}" for number in range(40)]
    begun = [gate.with_name(f"{gate.name}.begun") for gate in gates]
    for gate in gates[:2]:
        slow(wide, first, gate.name)
    second.send(records.pack(records.DEMAND, 0, 123, 0, records.pack_slots(1)))
    heard = False
    for ends, begins, begins_by in zip(gates, gates[2:], begun[2:], strict=False):
        # Both slots are busy all the time. What was asked may come to the worker after any of them has ended.
        first.request({"PATH_INFO": "/slow", "REQUEST_URI": "/slow", "HTTP_GATE": str(begins)})
        ends.write_text("")
        wait_for(begins_by.exists, TIMEOUT_S, lambda: "it does not begin")
        while not heard and (got := first.receive(0.1)) is not None:
            heard = got[1][0] == records.RECALL
        if heard:
            break
    for gate in gates:
        gate.write_text("")
    assert heard


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_of_three_routers_the_one_that_has_asked_is_told(kind: str) -> None:
    with open_stage(slots=1, routers=3) as stage:
        source, options = options_of(stage, kind)
        first, second, worker = both(stage, source, **options)
        third = stage.router(2)
        worker.turn(*enumerate(stage.endpoints))
        third.welcome()
        worker.told("ready")
        third.send(records.pack(records.DEMAND, 0, 0, 0, records.pack_slots(1)))
        first.expect(records.RECALL)
        second.expect(records.RECALL)
        first.release()
        third.expect(records.GRANT)
        assert third.take() == 1
        assert third.get("/3").body == b"/3"
        second.expect_nothing()
        # Nobody has asked: it is for anybody.
        third.release()
        first.expect(records.GRANT)
        second.expect(records.GRANT)


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_a_router_that_dies_loses_no_slot(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, second, worker = both(stage, source, **options)
    first.close()
    second.expect(records.GRANT)
    assert holder(stage) == (0, scoreboard.UNHELD)
    assert second.take() == 1
    assert second.get("/2").body == b"/2"
    # And one that comes after it in its seat is served again.
    third = stage.router(0)
    third.welcome()
    worker.told("ready")
    second.release()
    third.expect(records.GRANT)
    assert third.take() == 1
    assert third.get("/3").body == b"/3"


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_what_runs_for_a_router_that_dies_frees_its_slot_when_it_ends(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, second, _ = both(stage, source, **options)
    stream, let_go = slow(stage, first, "gate")
    stage.wait_running(stream)
    assert holder(stage) == (first.epoch, scoreboard.BUSY)
    first.close()
    second.expect_nothing()
    let_go()
    second.expect(records.GRANT)
    assert holder(stage) == (0, scoreboard.UNHELD)
    second.take()
    assert second.get("/2").body == b"/2"


@pytest.mark.parametrize("kind", ["threads", "gevent", "asgi"])
def test_slots_are_shared_by_two_routers_at_a_time(wide: Stage, kind: str) -> None:
    source, options = options_of(wide, kind)
    first, second, _ = both(wide, source, **options)
    stream, let_go = slow(wide, first, "gate")
    idle = next(slot for slot in range(2) if holder(wide, slot)[1] == scoreboard.HELD)
    first.release(idle)
    second.expect(records.GRANT)
    assert second.take() == 1
    assert [second.get(f"/{number}").body for number in range(3)] == [b"/0", b"/1", b"/2"]
    assert {holder(wide, slot)[0] for slot in range(2)} == {first.epoch, second.epoch}
    let_go()
    assert first.reply(stream).body == b"/slow"


@pytest.mark.parametrize("kind", ["threads", "gevent", "asgi"])
def test_a_stream_goes_on_by_the_old_router_while_the_new_one_has_the_rest(wide: Stage, kind: str) -> None:
    source, options = options_of(wide, kind)
    first, second, worker = both(wide, source, **options)
    stream, let_go = slow(wide, first, "gate")
    busy = next(slot for slot in range(2) if holder(wide, slot)[1] == scoreboard.BUSY)
    first.release(1 - busy)
    second.expect(records.GRANT)
    second.take()
    let_go()
    assert first.reply(stream).body == b"/slow"
    first.release(busy)
    second.expect(records.GRANT)
    second.take()
    first.close()
    worker.turn((1, wide.endpoints[1]))
    assert sorted(bool(second.get("/x").body) for _ in range(4)) == [True] * 4
    assert {holder(wide, slot) for slot in range(2)} == {(second.epoch, scoreboard.HELD)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_router_that_has_gone_is_not_waited_for(wide: Stage, kind: str) -> None:
    source, options = options_of(wide, kind)
    if kind == "one at a time":
        options = {"slots": 1}
    first, second, worker = both(wide, source, **options)
    first.close()
    worker.turn((1, wide.endpoints[1]))
    second.expect(records.GRANT)
    second.take()
    assert second.get("/2").body == b"/2"
    # Nobody says HELLO there any more.
    late = wide.router(0)
    assert late.receive(0.3) is None or late.hello == ()
    assert second.get("/3").body == b"/3"


@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_says_bye_to_both(wide: Stage, kind: str) -> None:
    source, options = options_of(wide, kind)
    first, second, worker = both(wide, source, **options)
    worker.process.send_signal(signal.SIGTERM)
    waits = [first, second]  # in no order

    def all_said() -> bool:
        for router in waits[:]:
            got = router.receive(0.02)
            # What one has had is offered to the other, as long as that is there.
            if got is not None and got[1][0] != records.GRANT:
                assert got[1][0] == records.BYE
                router.send(records.pack(records.BYE_ACK, 0, records.NO_WORD, 0, b""))
                waits.remove(router)
        return not waits

    wait_for(all_said, TIMEOUT_S)
    assert worker.process.wait(TIMEOUT_S) == 0, worker.log()


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_what_a_worker_serves_counts_whoever_has_asked(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, second, worker = both(stage, source, recycling={"max_requests": 3}, **options)
    assert [first.get("/x").body for _ in range(2)] == [b"/x"] * 2
    first.release()
    second.expect(records.GRANT)
    second.take()
    assert second.get("/x").body == b"/x"
    assert worker.told("worn")["reason"] == "max-requests: 3 served"


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_worker_has_served_counts_for_the_next_router_too(wide: Stage, kind: str) -> None:
    source, options = options_of(wide, kind)
    first, second, worker = both(wide, source, recycling={"max_requests": 3}, **options)
    assert [first.get("/x").body for _ in range(2)] == [b"/x"] * 2
    first.close()
    worker.turn((1, wide.endpoints[1]))
    second.expect(records.GRANT)
    second.take()
    # Whoever leaves the first router may be a little later than the next request.
    wait_for(
        lambda: second.get("/x").body == b"/x" and select.select([worker.leash], [], [], 0.01)[0], TIMEOUT_S
    )
    assert "max-requests" in worker.told("worn")["reason"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_begins_with_all_routers_that_there_are(wide: Stage, kind: str) -> None:
    source, options = options_of(wide, kind)
    first, second = wide.router(0), wide.router(1)
    worker = wide.worker(source, **options)
    worker.turn((0, wide.endpoints[0]), (1, wide.endpoints[1]))
    worker.told("loaded")
    first.welcome()
    second.welcome()
    assert first.get("/1").body == b"/1"
    for slot in range(2):
        if holder(wide, slot) == (first.epoch, scoreboard.HELD):
            first.release(slot)
            second.expect(records.GRANT)
    second.take()
    assert second.get("/2").body == b"/2"


# What an app has written over

OVERWRITTEN = {
    "nobody's": 0,
    "held by none": 99 << 32 | scoreboard.HELD,
    "busy for none": 99 << 32 | scoreboard.BUSY,
    "nonsense": 0xFFFFFFFF_FFFFFFFF,
}


def overwrite(stage: Stage, word: int, slot: int = 0) -> None:
    """What says whose the slot is."""
    with stage.page() as page:
        struct.pack_into(
            "<Q", page, scoreboard.HEADER_BYTES + 16 * stage.slots + 8 * DECK * 2 + 8 * slot, word
        )


def look(router: Router) -> int:
    """It takes what nobody holds, and says so."""
    taken = router.take()
    router.send(records.pack(records.RELEASE, 0, records.NO_WORD, 0, records.pack_slots(0)))
    return taken


@pytest.mark.parametrize("kind", ["one at a time", "threads", "asgi"])
def test_a_slot_that_was_written_over_is_its_routers_again(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, _ = stage.serving(source, **options)
    for word in OVERWRITTEN.values():
        overwrite(stage, word)
        stream = first.request({"PATH_INFO": "/1", "REQUEST_URI": "/1"}, word=0)
        first.expect(records.GRANT)
        assert look(first) == 1
        assert first.reply(stream).body == b"/1"
    for number, word in enumerate(OVERWRITTEN.values()):
        stream, let_go = slow(stage, first, f"gate{number}")
        overwrite(stage, word)
        let_go()
        told = {}
        while len(told) < 2:
            got = first.receive()
            assert got is not None, told
            told[got[1][0]] = got[1]
        assert {*told} == {records.GRANT, records.RESPONSE}
        assert look(first) == 1
    assert first.get("/2").body == b"/2"


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_a_slot_that_was_written_over_is_found_by_whoever_asks_for_it(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, second, _ = both(stage, source, **options)
    first.release()
    second.expect(records.GRANT)
    overwrite(stage, OVERWRITTEN["busy for none"])
    assert second.take() == 0
    second.send(records.pack(records.DEMAND, 0, records.NO_WORD, 0, records.pack_slots(1)))
    second.expect(records.GRANT)
    assert second.take() == 1
    assert second.get("/2").body == b"/2"
    # One that thinks it has a slot which is the other's.
    stream = first.request({"PATH_INFO": "/1", "REQUEST_URI": "/1"}, word=0)
    second.expect(records.RECALL)
    second.release()
    wait_granted(first)
    while not look(first):
        wait_granted(first)
    assert first.reply(stream).body == b"/1"


@pytest.mark.parametrize("kind", ["one at a time", "asgi"])
def test_a_word_that_was_written_over_costs_the_connection_and_no_more(stage: Stage, kind: str) -> None:
    source, options = options_of(stage, kind)
    first, worker = stage.serving(source, **options)
    _, let_go = slow(stage, first, "gate")
    first.request({"PATH_INFO": "/1", "REQUEST_URI": "/1"}, word=3)
    with stage.page() as page:
        for word in range(DECK):
            struct.pack_into(
                "<Q",
                page,
                scoreboard.HEADER_BYTES + 16 * stage.slots + 8 * word,
                77 << 2 | scoreboard.CLAIMED,
            )
    let_go()
    worker.wait_log("word 3 of the page is not the request's that names it")
    first.close()
    second = stage.router()
    second.welcome()
    assert [stage.word(word) for word in range(DECK)] == ["FREE"] * DECK
    assert second.get("/2").body == b"/2"


@pytest.mark.parametrize("kind", ["threads", "asgi"])
def test_the_word_of_what_still_runs_is_kept_for_it(wide: Stage, kind: str) -> None:
    source, options = options_of(wide, kind)
    first, _ = wide.serving(source, **options)
    gate = wide.directory / "gate"
    stream = first.request({"PATH_INFO": "/slow", "REQUEST_URI": "/slow", "HTTP_GATE": str(gate)}, word=2)
    wide.wait_running(stream)
    first.close()
    second = wide.router()
    second.welcome()
    assert wide.word(2) == "CLAIMED"
    gate.write_text("")
    wait_for(lambda: wide.word(2) == "FREE", TIMEOUT_S)
