"""Slots that a router shares with another one, which the test is: who holds which, and what is said about it."""

import contextlib
import time

import pytest
import zmq

from emperor.protocol import records, scoreboard
from emperor.router import grants
from tests.router.client import get
from tests.router.stage import TIMEOUT_S, Generation, Stage, Vassal
from tests.router.worker import FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for

OTHER = 0x7FFF_FFFF
"""The other router's epoch."""


def shared_by_two(stage: Stage, *, slots: int = 2, seats: int = 1) -> tuple[Vassal, Generation]:
    vassal = stage.vassal("blog")
    return vassal, vassal.active(slots=slots, seats=seats, routers=2)


def without_a_slot(stage: Stage) -> tuple[Vassal, FakeWorker]:
    """A worker whose one slot the other router holds, and its vassal."""
    vassal, generation = shared_by_two(stage, slots=1)
    worker = generation.stranger()
    assert worker.board.take(0, 0, OTHER)
    worker.join()
    vassal.wait_link(slots=0)
    return vassal, worker


def one_begun(stage: Stage, requests: int) -> tuple[Vassal, FakeWorker, Request]:
    """The only slot is ours, one request has begun in it, and the others wait."""
    vassal, generation = shared_by_two(stage, slots=1)
    worker = generation.worker()
    for number in range(requests):
        stage.http(get(path=f"/{number}"))
    first = worker.offered()
    assert worker.claim(first)
    worker.begin(first)
    vassal.wait_stat("requests", requests)
    return vassal, worker, first


def held(worker: FakeWorker, epoch: int | None = None) -> list[int]:
    """The slots that this router holds."""
    wanted = worker.epoch if epoch is None else epoch
    return [slot for slot in range(worker.seat.slots) if worker.board.holder(0, slot)[0] == wanted]


def wait_held(worker: FakeWorker, *slots: int) -> None:
    wait_for(lambda: held(worker) == list(slots), TIMEOUT_S, lambda: held(worker), every_s=0.005)


def slots_of(kind: int, worker: FakeWorker) -> int:
    return records.unpack_grant(worker.expect(kind)[4])


def say(worker: FakeWorker, kind: int, count: int, age: int = records.NO_WORD) -> None:
    worker.send(records.pack(kind, 0, age, 0, records.pack_slots(count)))


def test_alone_it_has_all(stage: Stage) -> None:
    vassal, generation = shared_by_two(stage)
    worker = generation.worker()
    wait_held(worker, 0, 1)
    assert vassal.links()[0]["slots"] == 2


def test_what_another_holds_is_left_to_it(stage: Stage) -> None:
    vassal, generation = shared_by_two(stage)
    worker = generation.stranger()
    assert worker.board.take(0, 1, OTHER)
    worker.join()
    wait_held(worker, 0)
    assert vassal.wait_link(slots=1)["free"] == 1
    # Let go of, and said: it is taken.
    assert worker.board.release(0, 1, OTHER)
    say(worker, records.GRANT, 1)
    wait_held(worker, 0, 1)
    vassal.wait_link(slots=2)


def test_idle_slots_go_to_whoever_wants_them(stage: Stage) -> None:
    vassal, generation = shared_by_two(stage)
    worker = generation.worker()
    say(worker, records.RECALL, 1)
    assert slots_of(records.RELEASE, worker) == 1
    assert len(held(worker)) == 1
    say(worker, records.RECALL, 9)
    assert slots_of(records.RELEASE, worker) == 1
    assert held(worker) == []
    vassal.wait_link(slots=0, free=0)


def test_a_slot_in_which_something_runs_goes_when_that_has_ended(stage: Stage) -> None:
    _, generation = shared_by_two(stage, slots=1)
    worker = generation.worker()
    client = stage.http(get(path="/1"))
    request = worker.offered()
    assert worker.board.enter(0, 0, worker.epoch) and worker.claim(request)
    worker.begin(request)
    say(worker, records.RECALL, 1)
    worker.expect_nothing()
    assert held(worker) == [0]
    assert worker.board.vacate(0, 0, worker.epoch)
    worker.respond(request)
    assert client.response().status == 200
    assert slots_of(records.RELEASE, worker) == 1
    assert worker.board.holder(0, 0)[1] == scoreboard.UNHELD


def test_with_a_queue_and_no_slot_it_asks(stage: Stage) -> None:
    """And takes what nobody holds, whether anybody has said so or not."""
    _, worker = without_a_slot(stage)
    client = stage.http(get(path="/1"))
    assert slots_of(records.DEMAND, worker) == 1
    assert worker.board.release(0, 0, OTHER)
    while (got := worker.expect_any())[0] == records.DEMAND:
        pass
    request = worker.met(got)
    assert held(worker) == [0]
    assert worker.claim(request)
    worker.respond(request)
    assert client.response().status == 200


def test_what_lies_on_deck_does_not_keep_a_slot(stage: Stage) -> None:
    """It waits in the queue again, and this router asks for a slot for it."""
    vassal, worker, first = one_begun(stage, 3)
    say(worker, records.RECALL, 1)
    time.sleep(grants.SHARE_NS / 1e9)
    worker.respond(first)
    kinds: list[int] = []
    while not {records.RELEASE, records.DEMAND} <= {*kinds}:
        kinds.append(worker.expect_any()[0])
    # How many lay on its deck is up to how long the first had run by the time that they came.
    assert {*kinds} <= {records.REQUEST, records.RELEASE, records.DEMAND} and kinds.count(
        records.RELEASE
    ) == 1
    assert worker.board.take(0, 0, OTHER), "it was taken back before the other could have it"
    vassal.wait_stat("queued", 2)
    assert vassal.stats()["link_faults"] == 0


def test_one_that_drains_keeps_nothing_and_takes_nothing(fresh: Stage) -> None:
    stage = fresh
    _, generation = shared_by_two(stage)
    stage.open_for_business()
    worker = generation.worker()
    client = stage.http(get(path="/1"))
    request = worker.offered()
    slot = held(worker)[0]
    assert worker.board.enter(0, slot, worker.epoch) and worker.claim(request)
    worker.begin(request)
    stage.tell("drain", timeout_s=30.0)
    assert slots_of(records.RELEASE, worker) == 1
    assert held(worker) == [slot]
    say(worker, records.GRANT, 1)
    worker.expect_nothing()
    assert held(worker) == [slot]
    assert worker.board.vacate(0, slot, worker.epoch)
    worker.respond(request)
    assert client.response().status == 200


@pytest.mark.parametrize("kind", [records.RECALL, records.GRANT])
def test_what_is_said_for_nothing_is_counted(stage: Stage, kind: int) -> None:
    vassal, worker = without_a_slot(stage)
    say(worker, kind, 1)
    vassal.wait_stat("unasked_messages", 1)


@pytest.mark.parametrize("kind", [records.RECALL, records.GRANT])
def test_many_of_them_are_no_flood_and_very_many_are(stage: Stage, kind: int) -> None:
    """Three routers that want the same slots all the time say hundreds in a second for nothing."""
    vassal, worker = without_a_slot(stage)
    one = records.pack(kind, 0, records.NO_WORD, 0, records.pack_slots(1))
    for _ in range(2):
        worker.send(one * 500)
    vassal.wait_stat("unasked_messages", 1000)
    assert vassal.stats()["floods"] == 0
    with contextlib.suppress(zmq.Again):  # nobody listens any more
        for _ in range(20):
            worker.send(one * 1000)
    vassal.wait_stat("floods", 1)


def test_a_worker_that_takes_a_slot_away_harms_nobody(stage: Stage) -> None:
    """Its tenant writes what it likes: the slot is not counted on any more."""
    vassal, generation = shared_by_two(stage)
    worker = generation.worker()
    assert worker.board.bereave(0, worker.epoch) == 2
    assert worker.board.take(0, 0, OTHER)
    say(worker, records.RECALL, 2)
    vassal.wait_link(slots=0)
    assert held(worker, OTHER) == [0]
    say(worker, records.GRANT, 1)
    vassal.wait_link(slots=1)


def test_a_page_of_one_router_is_used_as_before(stage: Stage) -> None:
    vassal = stage.vassal("blog")
    worker = vassal.active(slots=2, routers=1).worker()
    assert vassal.links()[0]["slots"] == 2
    say(worker, records.RECALL, 1)
    vassal.wait_stat("unasked_messages", 1)
    assert vassal.links()[0]["slots"] == 2


def test_what_it_took_back_does_not_use_up_its_words(stage: Stage) -> None:
    """A worker meets it, and nobody says when: with a slot again, the queue goes on within moments."""
    vassal, generation = shared_by_two(stage, slots=1)
    worker = generation.worker()
    count = worker.deck + 1
    for number in range(count):
        stage.http(get(path=f"/{number}"))
    first = worker.offered()
    # Before it begins: nothing new is offered behind what has run for some milliseconds.
    vassal.wait_stat("requests", count)
    assert worker.claim(first)
    worker.begin(first)
    offered = [worker.offered() for _ in range(worker.deck - 1)]
    say(worker, records.RECALL, 1)
    time.sleep(grants.SHARE_NS / 1e9)
    worker.respond(first)
    while (got := worker.expect_any())[0] != records.DEMAND:
        if got[0] == records.REQUEST:
            offered.append(worker.met(got))
    assert held(worker) == []
    say(worker, records.GRANT, 1)
    wait_held(worker, 0)
    begun = time.monotonic()
    for each in offered:
        assert not worker.claim(each), "it was taken back"
    while worker.expect_any()[0] != records.REQUEST:
        pass
    assert time.monotonic() - begun < TIMEOUT_S


def test_who_has_waited_longer_keeps_the_slot(stage: Stage) -> None:
    """Until whoever asks has: two queues are served as one."""
    vassal, worker, request = one_begun(stage, 4)
    time.sleep(grants.SHARE_NS / 1e9)
    say(worker, records.RECALL, 1, age=0)
    worker.respond(request)
    request = worker.offered()
    assert held(worker) == [0]
    assert worker.claim(request)
    worker.begin(request)
    say(worker, records.RECALL, 1, age=60_000)
    # The older of two demands counts, which may be one of a third router's.
    say(worker, records.RECALL, 1, age=0)
    worker.respond(request)
    wait_held(worker)
    assert vassal.stats()["link_faults"] == 0


def test_a_demand_says_how_long_somebody_has_waited(stage: Stage) -> None:
    _, generation = shared_by_two(stage, slots=1)
    worker = generation.stranger()
    assert worker.board.take(0, 0, OTHER)
    worker.join()
    stage.http(get())
    first = worker.expect(records.DEMAND)
    assert first[2] < 10_000
    # Asked again, which is a while later.
    assert worker.expect(records.DEMAND)[2] > first[2]


def test_who_was_too_late_for_a_slot_asks_again(stage: Stage) -> None:
    """Of three routers one was quicker, and is asked now."""
    _, generation = shared_by_two(stage, slots=1)
    worker = generation.stranger()
    assert worker.board.take(0, 0, OTHER)
    worker.join()
    client = stage.http(get())
    for _ in range(3):
        worker.expect(records.DEMAND)
        say(worker, records.GRANT, 1)
    assert worker.board.release(0, 0, OTHER)
    say(worker, records.GRANT, 1)
    while (got := worker.expect_any())[0] == records.DEMAND:
        pass  # of the word before, if it was heard before the release
    request = worker.met(got)
    assert worker.claim(request)
    worker.respond(request)
    assert client.response().status == 200


def test_what_lies_behind_a_long_request_asks_other_routers_for_their_slots(stage: Stage) -> None:
    """It lay there before that one was long, as what comes while a WebSocket is accepted, and there is nobody else here."""
    vassal, generation = shared_by_two(stage)
    worker = generation.stranger()
    assert worker.board.take(0, 1, OTHER)
    worker.join()
    long = stage.http(get(path="/long"))
    first = worker.offered()
    assert worker.claim(first)
    behind = stage.http(get(path="/behind"))
    second = worker.offered()
    assert vassal.stats()["on_deck"] == 1
    worker.begin(first)
    worker.expect(records.DEMAND)
    assert not worker.claim(second), "it was taken back"
    assert vassal.stats()["queued"] == 1
    assert worker.board.release(0, 1, OTHER)
    say(worker, records.GRANT, 1)
    while (got := worker.expect_any())[0] != records.REQUEST:
        pass
    second = worker.met(got)
    assert worker.claim(second)
    worker.respond(second)
    assert behind.response().status == 200
    worker.respond(first)
    assert long.response().status == 200


class Asked:
    """What `grants` looks at in a link."""

    board = None
    far = True
    seat, width, slots, most, in_flight, held = 0, 4, 2, 2, 2, None
    recalled, wanted_since_ns, since_ns = 0, 0, 0


MS = 1_000_000


@pytest.mark.parametrize(
    ("waited_ms", "own_ms", "gives"),
    [(20, 0, True), (20, 10, True), (20, 30, False), (None, 30, True), (0, 10, False)],
)
def test_when_it_is_time_to_give(waited_ms: int | None, own_ms: int, gives: bool) -> None:
    """At an age of a second, all in milliseconds; nothing is said of its age by a router that knows nothing of it."""
    now, link = 1000 * MS, Asked()
    age = records.NO_WORD if waited_ms is None else grants.age_of(now - waited_ms * MS, now)
    grants.recall(link, 9, age, now)
    assert link.recalled == 4
    assert grants.may_give(link, now - own_ms * MS if own_ms else 0, now) is gives
    link.since_ns = now - 1 * MS
    assert grants.may_give(link, now - own_ms * MS if own_ms else 0, now) is (own_ms == 0)


def test_what_stands_on_the_page_counts_more_than_what_was_said(stage: Stage) -> None:
    """Whoever was meant by a RECALL may have been served since."""
    vassal, worker, request = one_begun(stage, 4)
    time.sleep(grants.SHARE_NS / 1e9)
    worker.board.say_waits(1, time.monotonic_ns())
    say(worker, records.RECALL, 1, age=60_000)
    worker.respond(request)
    request = worker.offered()
    assert held(worker) == [0] and worker.claim(request)
    worker.begin(request)
    worker.board.say_waits(1, time.monotonic_ns() - 10**9)
    worker.respond(request)
    wait_held(worker)
    assert vassal.stats()["link_faults"] == 0


def test_of_two_that_have_waited_about_as_long_the_one_that_has_it_keeps_it() -> None:
    now, link = 1000 * MS, Asked()
    grants.recall(link, 1, grants.age_of(now - 20 * MS, now), now)
    assert not grants.may_give(link, now - 19 * MS, now)
    assert grants.may_give(link, now - 18 * MS, now)
    assert not grants.may_give(link, now - 18 * MS, now, others_since_ns=now - 5 * MS)
    assert grants.may_give(link, now - 4 * MS, now, others_since_ns=now - 30 * MS)


def test_the_longest_wait_that_can_be_said() -> None:
    assert grants.age_of(0, 10**12) == grants.AGE_MOST < records.NO_WORD
    assert grants.age_of(5, 0) == 0


def test_nothing_is_offered_ahead_where_another_router_gets_the_slot_next(stage: Stage) -> None:
    """A worker begins what lies on its deck before we hear that the slot was free, and so the slot would never be."""
    vassal, generation = shared_by_two(stage, slots=1, seats=2)
    workers = [generation.worker(seat) for seat in range(2)]
    clients = [stage.http(get(path=f"/{number}")) for number in range(8)]
    vassal.wait_stat("requests", 8)
    # For the router they have only just begun: others would go on their decks.
    running = [worker.take(timed=False) for worker in workers]
    time.sleep(grants.SHARE_NS / 1e9)
    say(workers[0], records.RECALL, 1, age=60_000)
    vassal.wait_link(seat=0, deck=0)
    workers[1].respond(running[1])
    for _ in range(6):
        workers[1].respond(workers[1].take(timed=False))
    workers[0].respond(running[0])
    assert {client.response().status for client in clients} == {200}
    wait_held(workers[0])


def test_who_waits_in_a_bulkhead_gets_a_slot_and_asks_for_no_more_than_it_may_have(stage: Stage) -> None:
    vassal, generation = shared_by_two(stage, slots=1, seats=2)
    vassal.tell(balancing={"bulkheads": [["/slow", 1]]})
    first, second = (generation.stranger(seat) for seat in range(2))
    for worker in (first, second):
        assert worker.board.take(worker.seat.seat, 0, OTHER)
        worker.join()
    wait_for(lambda: len(vassal.links(slots=0)) == 2, TIMEOUT_S)
    stage.http(get(path="/slow/1"))
    assert slots_of(records.DEMAND, first) == slots_of(records.DEMAND, second) == 1
    assert first.board.release(0, 0, OTHER)
    say(first, records.GRANT, 1)
    first.send(records.pack_credit(0, 1))
    vassal.wait_stat("unasked_messages", 1)  # what was said before has been heard
    assert held(first) == [0]
    first.take()
    stage.http(get(path="/slow/2"))
    vassal.wait_stat("queued", 1)
    # Longer than the time after which it asks again.
    second.expect_nothing(0.4)


def test_who_has_a_slot_reserved_asks_as_if_it_had_waited_for_longest(stage: Stage) -> None:
    vassal, worker = without_a_slot(stage)
    vassal.tell(balancing={"reserve": [["/healthz", 1]]})
    stage.http(get(path="/healthz"))
    assert worker.expect(records.DEMAND)[2] == grants.AGE_MOST


def test_it_is_overloaded_as_well_while_another_router_has_all_slots(stage: Stage) -> None:
    """That is no want of workers, for which nobody is turned away."""
    vassal, generation = shared_by_two(stage, slots=1)
    vassal.tell(balancing={"queue_target_s": 0.05})
    worker = generation.worker()
    stage.http(get(path="/0"))
    worker.respond_after(worker.take(), 20_000)
    say(worker, records.RECALL, 1)
    wait_held(worker)
    assert worker.board.take(0, 0, OTHER)
    clients = [stage.http(get(path=f"/{number}")) for number in range(60)]
    assert {client.response().status for client in clients} == {503}
    assert vassal.stats()["rejected"] == {"overload": 60}
