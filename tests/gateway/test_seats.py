"""The gateway's decisions: the tables themselves, and whole lives through them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.supervisor.restart import Backoff
from vassals.gateway.seats import GATEWAY_STEPS, LAST_EXIT_CHARS, REPORTED, SEAT_STEPS, Effect, Seats

EVENTS = ("start", "loaded", "ready", "failed", "late", "ended")


def seats(count: int = 2, spares: int = 0) -> Seats:
    return Seats(count, lambda: Backoff(clock=lambda: 0.0, random=lambda: 0.5), spares)


def kinds(effects: list[Effect]) -> list[tuple[str, int]]:
    return [(effect.kind, effect.seat) for effect in effects]


def serving(count: int = 2, spares: int = 0) -> Seats:
    vassal = seats(count, spares)
    vassal.start()
    for number in range(count):
        vassal.step("loaded", number)
        vassal.step("ready", number)
    return vassal


def test_every_state_has_a_report_and_every_row_leads_to_a_state() -> None:
    states = {state for state, _ in SEAT_STEPS} | {state for state, _ in SEAT_STEPS.values()}
    assert states == set(REPORTED)
    for state in states:
        assert (state, "drain") in SEAT_STEPS and (state, "kill") in SEAT_STEPS
    known = {state for state, _ in GATEWAY_STEPS}
    assert {state for state, _ in GATEWAY_STEPS.values()} <= known


def test_ready_when_the_app_is_loaded_in_every_seat() -> None:
    vassal = seats()
    assert kinds(vassal.start()) == [("fork", 0), ("fork", 1)]
    assert kinds(vassal.step("loaded", 1)) == [("report", 1)]
    assert vassal.state == "starting"
    assert kinds(vassal.step("loaded", 0)) == [("report", 0), ("report-state", -1)]
    assert vassal.state == "ready"
    assert kinds(vassal.step("ready", 0)) == [("report", 0)]
    assert kinds(vassal.step("ready", 0)) == []


def test_who_is_refused_by_a_router_serves_nobody_until_it_has_joined() -> None:
    vassal = serving(1)
    assert kinds(vassal.step("refused", 0, "the router refuses it: wrong token")) == [("report", 0)]
    assert (vassal.seats[0].state, vassal.seats[0].reason) == ("loaded", "the router refuses it: wrong token")
    assert vassal.state == "ready"
    assert kinds(vassal.step("ready", 0)) == [("report", 0)]
    assert (vassal.seats[0].state, vassal.seats[0].reason) == ("ready", "")


def test_a_failure_before_that_fails_all_with_the_first_reason() -> None:
    vassal = seats()
    vassal.start()
    vassal.step("loaded", 1)
    assert kinds(vassal.step("failed", 0, "no module")) == [("report-state", -1), ("kill", 0), ("kill", 1)]
    assert (vassal.state, vassal.reason) == ("failed", "no module")
    assert kinds(vassal.step("ended", 1, "killed", by_signal=True)) == [("report", 1)]
    (report, leave) = vassal.step("ended", 0, "exited with code 70")
    assert report.kind == "report" and leave == Effect("leave", code=70)
    assert vassal.reason == "no module"


def test_a_late_import_is_killed_and_named() -> None:
    vassal = seats(1)
    vassal.start()
    assert kinds(vassal.step("late", 0, "too slow"))[0] == ("kill", 0)
    assert (vassal.state, vassal.reason) == ("failed", "too slow")


def test_a_signal_while_starting_is_forgiven_once_a_seat() -> None:
    vassal = seats(1)
    vassal.start()
    (report, later) = vassal.step("ended", 0, "killed", by_signal=True)
    assert report.kind == "report" and later.kind == "start-later"
    assert kinds(vassal.step("start", 0)) == [("fork", 0)]
    vassal.step("ended", 0, "killed again", by_signal=True)
    assert (vassal.state, vassal.reason) == ("failed", "killed again")


def test_later_a_loss_is_the_seats_own_affair_and_backs_off() -> None:
    vassal = serving()
    delays = []
    for _ in range(4):
        (_, later) = vassal.step("ended", 1, "killed", by_signal=True)
        assert later.kind == "start-later"
        delays.append(later.delay_s)
        vassal.step("start", 1)
        vassal.step("loaded", 1)
    assert delays == [0, 1, 2, 4]
    assert vassal.state == "ready" and vassal.seats[0].state == "ready"


def test_a_later_failure_to_import_keeps_its_reason_and_is_tried_again() -> None:
    vassal = serving(1)
    vassal.step("ended", 0, "killed", by_signal=True)
    vassal.step("start", 0)
    assert kinds(vassal.step("failed", 0, "no database")) == []
    (_, later) = vassal.step("ended", 0, "exited with code 70")
    assert later.delay_s >= 1 and vassal.seats[0].reason == "no database"
    vassal.step("start", 0)
    vassal.step("loaded", 0)
    assert vassal.seats[0].reason == "" and vassal.state == "ready"


def test_a_seat_counts_its_restarts_and_keeps_its_last_exit() -> None:
    vassal = serving()
    first, second = vassal.seats
    assert [(seat.restarts, seat.last_exit) for seat in vassal.seats] == [(0, ""), (0, "")]
    vassal.step("ended", 1, "killed", by_signal=True)
    assert (second.restarts, second.last_exit) == (0, "killed"), "nobody has taken its place yet"
    for event in ("start", "loaded", "ready"):
        vassal.step(event, 1)
    assert (second.restarts, second.last_exit, second.reason) == (1, "killed", "")
    assert (first.restarts, first.last_exit) == (0, "")
    vassal.step("ended", 1, "killed again", by_signal=True)
    vassal.step("start", 1)
    vassal.step("failed", 1, "no database " + "x" * 5000)
    vassal.step("ended", 1, "exited with code 70")
    assert second.restarts == 2
    assert second.last_exit.startswith("no database xxx") and len(second.last_exit) == LAST_EXIT_CHARS


def test_an_end_that_was_asked_for_is_no_last_exit() -> None:
    vassal = serving(1)
    vassal.drain()
    vassal.step("ended", 0)
    assert vassal.seats[0].last_exit == ""


def test_drain_tells_those_that_serve_kills_those_that_import_and_starts_nobody() -> None:
    vassal = serving(3)
    vassal.step("ended", 1, "killed", by_signal=True)
    vassal.step("ended", 2, "killed", by_signal=True)
    vassal.step("start", 2)
    assert kinds(vassal.drain()) == [
        ("report-state", -1),
        ("tell-drain", 0),
        ("forget-start", 1),
        ("kill", 2),
    ]
    assert vassal.drain() == []
    assert kinds(vassal.step("ended", 2)) == [("report", 2)]
    assert kinds(vassal.kill()) == [("kill", 0)]
    (_, leave) = vassal.step("ended", 0)
    assert leave == Effect("leave", code=0) and vassal.state == "gone"


def test_who_is_replaced_leaves_when_the_next_one_serves() -> None:
    vassal = serving(2, spares=1)
    assert vassal.can_replace()
    assert kinds(vassal.replace(1, "max-requests: 10 served")) == [("fork", 2)]
    assert not vassal.can_replace(), "never two at a time"
    assert vassal.seats[1].state == "ready"
    assert kinds(vassal.step("loaded", 2)) == [("report", 2)], "loaded is not serving"
    assert kinds(vassal.step("ready", 2)) == [("report", 2), ("report", 1), ("tell-drain", 1)]
    assert not vassal.can_replace()
    heir = vassal.seats[2]
    assert (heir.restarts, heir.recycled) == (1, 1)
    assert heir.last_exit == "recycled: max-requests: 10 served"
    assert kinds(vassal.step("ended", 1)) == [("report", 1)]
    assert [seat.state for seat in vassal.seats] == ["ready", "spare", "ready"]
    assert REPORTED["spare"] == "spare" and vassal.can_replace()
    assert kinds(vassal.replace(2, "again")) == [("fork", 1)]
    assert vassal.seats[1].restarts == 2


def test_who_cannot_be_replaced_serves_on_and_it_is_tried_again_later() -> None:
    vassal = serving(1, spares=1)
    vassal.replace(0, "max-requests: 10 served")
    assert kinds(vassal.step("failed", 1, "no database")) == []
    (_, _, later) = vassal.step("ended", 1, "exited with code 70")
    assert later.kind == "replace-later"
    assert later.delay_s == 1.0 and vassal.seats[1].reason == "no database"
    assert (vassal.seats[0].state, vassal.seats[0].recycled) == ("ready", 0)
    assert vassal.can_replace() and vassal.state == "ready"


def test_who_dies_while_it_is_replaced_leaves_its_place_to_the_next() -> None:
    vassal = serving(1, spares=1)
    vassal.replace(0, "max-requests: 10 served")
    assert kinds(vassal.step("ended", 0, "killed", by_signal=True)) == [("report", 0), ("report", 0)]
    assert (vassal.seats[0].state, vassal.seats[1].state) == ("spare", "loading")
    assert (vassal.seats[1].last_exit, vassal.seats[1].recycled) == ("killed", 0)
    # It is an ordinary worker now: what happens to it is its own affair.
    vassal.step("failed", 1, "no database")
    (_, later) = vassal.step("ended", 1, "exited with code 70")
    assert later.kind == "start-later" and vassal.seats[1].state == "waiting"


def test_an_evil_one_is_killed_and_started_again_as_after_any_death() -> None:
    vassal = serving(1, spares=1)
    assert kinds(vassal.evil(0, "evil-reload-on-rss: 9 of at most 8 MB")) == [("kill", 0)]
    (_, later) = vassal.step("ended", 0, "killed by signal 9 (SIGKILL)", by_signal=True)
    assert later.kind == "start-later" and vassal.state == "ready"
    assert vassal.seats[0].last_exit == "evil-reload-on-rss: 9 of at most 8 MB"
    assert vassal.seats[0].recycled == 1


def test_an_evil_one_whose_replacement_comes_up_before_it_has_ended_is_not_started_again() -> None:
    vassal = serving(1, spares=1)
    vassal.replace(0, "reload-on-rss: 7 of at most 6 MB")
    vassal.step("loaded", 1)
    vassal.evil(0, "evil-reload-on-rss: 9 of at most 8 MB")
    vassal.step("ready", 1)
    vassal.step("ended", 0, "killed by signal 9 (SIGKILL)", by_signal=True)
    assert [seat.state for seat in vassal.seats] == ["spare", "ready"]


def test_one_that_does_not_finish_is_killed_and_its_place_is_another_s_already() -> None:
    vassal = serving(1, spares=1)
    vassal.replace(0, "why")
    vassal.step("loaded", 1)
    vassal.step("ready", 1)
    assert kinds(vassal.step("late", 0, "too slow")) == [("kill", 0)]
    vassal.step("ended", 0, "killed by signal 9 (SIGKILL)", by_signal=True)
    assert [seat.state for seat in vassal.seats] == ["spare", "ready"]


def test_a_drain_in_the_middle_of_a_replacement_ends_both() -> None:
    vassal = serving(1, spares=1)
    vassal.replace(0, "why")
    assert kinds(vassal.drain()) == [("report-state", -1), ("tell-drain", 0), ("kill", 1)]
    vassal.step("ended", 1)
    assert vassal.step("ended", 0)[-1] == Effect("leave", code=0)


def test_a_gateway_that_cannot_start_says_why_and_leaves() -> None:
    vassal = seats()
    effects = vassal.fail("uid: no")
    assert effects == [Effect("report-state"), Effect("leave", code=70)] and vassal.reason == "uid: no"


def test_an_unlisted_pair_names_both() -> None:
    vassal = seats()
    with pytest.raises(LookupError, match="seat 0 is 'empty': 'ready' has no row there"):
        vassal.step("ready", 0)
    with pytest.raises(LookupError, match="the gateway is 'starting': 'kill' has no row there"):
        vassal.kill()


@given(st.data())
def test_whatever_happens_in_whatever_order_it_can_be_drained_to_the_end(data: st.DataObject) -> None:
    """Any sequence that processes can produce: no unlisted pair, never two workers in a seat, and drain
    always ends."""
    count = data.draw(st.integers(1, 3))
    vassal = seats(count, data.draw(st.integers(0, 1)))
    running: set[int] = set()
    due: set[int] = set()
    said: dict[int, set[str]] = {}
    left: list[int] = []

    def carry_out(effects: list[Effect]) -> None:
        for effect in effects:
            match effect.kind:
                case "fork":
                    assert effect.seat not in running
                    running.add(effect.seat)
                    assert len(running) <= len(vassal.seats)
                    said[effect.seat] = set()
                case "start-later":
                    assert effect.seat not in running and effect.seat not in due
                    due.add(effect.seat)
                case "forget-start":
                    due.remove(effect.seat)
                case "kill" | "tell-drain":
                    assert effect.seat in running
                case "leave":
                    assert not running and not due
                    left.append(effect.code)

    def possible() -> list[tuple[str, int]]:
        moves: list[tuple[str, int]] = [("start", number) for number in sorted(due)]
        for number in sorted(running):
            moves += [("ended", number), ("crashed", number)]
            if not said[number]:
                moves += [("loaded", number), ("failed", number), ("late", number)]
            elif "loaded" in said[number]:
                moves.append(("ready", number))
            if vassal.seats[number].state == "retiring":
                moves.append(("late", number))
            if vassal.seats[number].state == "ready" and vassal.state == "ready":
                moves.append(("evil", number))
                if vassal.can_replace():
                    moves.append(("replace", number))
        return moves

    carry_out(vassal.start())
    for _ in range(data.draw(st.integers(0, 25))):
        moves: list[Any] = [*possible(), ("drain", -1)]
        event, number = data.draw(st.sampled_from(moves))
        if event == "drain":
            carry_out(vassal.drain())
        elif event == "replace":
            carry_out(vassal.replace(number, "why"))
        elif event == "evil":
            carry_out(vassal.evil(number, "why"))
        elif event in ("ended", "crashed"):
            running.remove(number)
            carry_out(vassal.step("ended", number, "why", by_signal=event == "crashed"))
        else:
            due.discard(number)
            if event != "start":
                said[number].add(event)
            carry_out(vassal.step(event, number, "why" if event in ("failed", "late") else ""))
        if vassal.state == "ready":
            places = [
                seat for seat in vassal.seats if seat.state not in ("spare", "retiring") and seat.replaces < 0
            ]
            assert len(places) == count, "every worker that the app has is there, or on its way"
    carry_out(vassal.drain())
    carry_out(vassal.kill())
    for number in sorted(running):
        running.remove(number)
        carry_out(vassal.step("ended", number, "why", by_signal=True))
    assert not due and len(left) == 1


def test_a_gateway_may_begin_with_fewer_seats_and_open_and_close_them() -> None:
    vassal = Seats(3, lambda: Backoff(clock=lambda: 0.0, random=lambda: 0.5), at_first=1)
    assert kinds(vassal.start()) == [("fork", 0)]
    vassal.step("loaded", 0)
    assert vassal.state == "ready"
    vassal.step("ready", 0)
    assert kinds(vassal.set_open([0, 1])) == [("fork", 1)]
    vassal.step("loaded", 1)
    vassal.step("ready", 1)
    assert kinds(vassal.set_open([1])) == [("report", 0), ("tell-drain", 0)]
    assert vassal.set_open([1]) == []
    assert kinds(vassal.step("ended", 0)) == [("report", 0)]
    assert [REPORTED[seat.state] for seat in vassal.seats] == ["closed", "ready", "closed"]
    assert kinds(vassal.drain()) == [("report-state", -1), ("tell-drain", 1)]
    assert kinds(vassal.step("ended", 1)) == [("report", 1), ("leave", -1)]


def test_a_seat_that_is_opened_again_while_its_worker_leaves_gets_another() -> None:
    vassal = serving(2)
    vassal.set_open([1])
    assert vassal.set_open([0, 1]) == []
    assert kinds(vassal.step("ended", 0)) == [("report", 0), ("fork", 0)]
    vassal.step("loaded", 0)
    vassal.set_open([])
    assert kinds(vassal.step("late", 0)) == [("kill", 0)]
    assert kinds(vassal.step("ended", 0)) == [("report", 0)]
    assert kinds(vassal.set_open([0, 1])) == [("fork", 0)]
    assert vassal.seats[1].state == "closing"


def test_one_that_waits_for_its_next_start_and_one_that_loads_close_as_well() -> None:
    vassal = serving(2)
    vassal.step("ended", 0, "killed", by_signal=True)
    assert vassal.seats[0].state == "waiting"
    assert kinds(vassal.set_open([1])) == [("forget-start", 0), ("report", 0)]
    assert kinds(vassal.set_open([0, 1])) == [("fork", 0)]
    assert kinds(vassal.set_open([1])) == [("kill", 0)]
    assert kinds(vassal.step("ended", 0)) == [("report", 0)]
    vassal.drain()
    assert vassal.set_open([0, 1]) == []


def test_who_is_replaced_since_it_is_to_be_ended_is_not_recycled() -> None:
    """harakiri: the next one has its place, with how it ended, and nothing counts as wear."""
    vassal = serving(1, 1)
    vassal.spare(0)
    vassal.replace(0, "harakiri: a request had run for 30.0 s")
    vassal.step("loaded", 1)
    vassal.step("ready", 1)
    old, heir = vassal.seats
    assert (heir.recycled, heir.last_exit) == (0, "harakiri: a request had run for 30.0 s")
    assert old.state == "retiring"
    vassal.step("ended", 0, "killed by signal 9 (SIGKILL)", by_signal=True)
    assert old.state == "spare"


def test_who_is_ended_on_purpose_is_started_without_a_wait() -> None:
    vassal = serving(1)
    delays = []
    for _ in range(3):
        vassal.spare(0)
        delays += [each.delay_s for each in vassal.step("ended", 0, "harakiri") if each.kind == "start-later"]
        vassal.step("start", 0)
        vassal.step("loaded", 0)
        vassal.step("ready", 0)
    assert delays == [0.0, 0.0, 0.0]


def test_a_rolling_reload_ends_a_replacement_and_the_spare_seat_is_there_again() -> None:
    vassal = serving(2, spares=1)
    assert kinds(vassal.replace(0, "max-requests 10 reached")) == [("fork", 2)]
    assert kinds(vassal.set_open([1])) == [("report", 0), ("tell-drain", 0), ("kill", 2)]
    vassal.step("ended", 2)
    vassal.step("ended", 0)
    assert [seat.state for seat in vassal.seats] == ["closed", "ready", "closed"]
    assert not vassal.can_replace()
    assert kinds(vassal.set_open([0, 1])) == [("fork", 0), ("report", 2)]
    assert [seat.state for seat in vassal.seats] == ["loading", "ready", "spare"]
    assert vassal.can_replace()


def test_where_workers_have_wandered_so_many_are_closed_as_are_to_be() -> None:
    vassal = serving(2, spares=1)
    vassal.replace(0, "max-requests 10 reached")
    for event in ("loaded", "ready"):
        vassal.step(event, 2)
    vassal.step("ended", 0)
    assert [seat.state for seat in vassal.seats] == ["spare", "ready", "ready"]
    assert kinds(vassal.set_open([1])) == [("report", 2), ("tell-drain", 2)]
    assert not vassal.can_replace(), "the seat of a closed one is no room for another"
    vassal.step("ended", 2)
    vassal.set_open([])
    vassal.step("ended", 1)
    assert kinds(vassal.set_open([0, 1])) == [("fork", 1), ("fork", 2)]
    assert vassal.seats[0].state == "spare"
