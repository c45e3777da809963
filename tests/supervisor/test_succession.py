"""Who takes whose seat, and what is said, with routers that only pretend."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from emperor.supervisor.loop import Loop
from emperor.supervisor.routers import Logger, Router
from emperor.supervisor.succession import START_S, STATS_S, Routers
from emperor.supervisor.wanted import ROUTERS

MERCY_S = 60.0


class Timer:
    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when, self.call, self.pending = when, call, True

    def cancel(self) -> None:
        self.pending = False


class Clock:
    """Of the emperor's loop, the timers."""

    def __init__(self) -> None:
        self.time, self.timers = 0.0, list[Timer]()

    def now(self) -> float:
        return self.time

    def call_later(self, delay_s: float, call: Callable[..., object], *arguments: object) -> Timer:
        self.timers.append(Timer(self.time + delay_s, lambda: call(*arguments)))
        return self.timers[-1]

    def pass_by(self, seconds: float) -> None:
        self.time += seconds
        for timer in [each for each in self.timers if each.pending and each.when <= self.time]:
            timer.pending = False
            timer.call()


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, level: str, text: str) -> None:
        self.lines.append(f"{level} {text}")

    def info(self, text: str) -> None:
        self.write("info", text)

    warning = error = info


@dataclass(frozen=True)
class Heard:
    """A listener, of which only the kind is looked at."""

    kind: str


HTTP, DATAGRAMS = Heard("http"), Heard("subscription")


class Pretender:
    """What `Routers` uses of a router's end."""

    def __init__(self, seat: int, deeds: list[str]) -> None:
        self.seat, self.pid, self.deeds = seat, 0, deeds
        self.state = "down"
        self.listeners: list[Heard] = []
        self.sent: list[list[str]] = []
        self.counted: Callable[[dict[str, Any]], None] | None = None
        self.on_failed: Callable[[str], None] | None = None
        self.complete: Callable[[], None] = lambda: None
        self.drained: Callable[[], None] = lambda: None
        self.answer: Callable[[dict[str, Any]], None] | None = None
        self.asked = True
        self.may_have_clients = False

    def did(self, what: str) -> None:
        self.deeds.append(f"{self.seat} {what}")

    def listen(self, listener: Heard) -> None:
        self.listeners.append(listener)

    def unlisten(self, listener: Heard) -> None:
        self.listeners.remove(listener)

    def send(self, message: dict[str, Any], fds: Sequence[int], close: object) -> None:
        self.sent.append(message["announcements"])

    def counts(self, name: str, take: Callable[[dict[str, Any]], None]) -> bool:
        self.counted = take
        return self.asked

    def start(self) -> None:
        self.pid, self.state = 1000 + self.seat, "starting"
        self.did("start")

    def table_is_whole(self, complete: Callable[[], None]) -> None:
        self.complete = complete

    def come_up(self) -> None:
        self.state = "running"
        self.complete()

    def hand_on(self, timeout_s: float, drained: Callable[[], None]) -> None:
        assert timeout_s == MERCY_S
        self.state, self.drained = "draining", drained
        self.did("hand on")

    def drain(self, timeout_s: float, drained: Callable[[], None]) -> None:
        self.state, self.drained = "draining", drained
        self.did(f"drain {timeout_s:g}")

    def leave(self) -> None:
        self.pid = 0
        self.drained()

    def give_up(self) -> None:
        self.pid = 0
        self.did("give up")

    def forget(self) -> None:
        self.did("forget")

    def tell(self, name: str) -> None:
        self.did(f"tell {name}")

    def stats(self, answer: Callable[[dict[str, Any]], None]) -> bool:
        self.answer = answer
        return self.asked

    @property
    def backplanes(self) -> "Pretender":
        return self

    def endpoint(self, name: str) -> str:
        return f"bp/{name}.{self.seat}"


class Scene:
    def __init__(self) -> None:
        self.clock, self.said, self.deeds, self.made = Clock(), Said(), list[str](), dict[int, Pretender]()
        self.outcomes: list[str] = []
        self.routers = Routers(
            cast(Loop, self.clock),
            cast(Logger, self.said),
            self.make,
            lambda: self.deeds.append(f"turn {[each.seat for each in self.routers.all]}"),
            lambda router: self.deeds.append(f"give {router.seat}"),
            lambda: MERCY_S,
        )
        self.made[0].listen(HTTP)
        self.routers.start()
        self.made[0].state = "running"
        self.deeds.clear()

    def make(self, seat: int) -> Router:
        self.made[seat] = Pretender(seat, self.deeds)
        return cast(Router, self.made[seat])

    def replace(self) -> None:
        self.routers.replace(self.outcomes.append)

    def become(self, count: int) -> None:
        """There are so many, which run."""
        self.routers.become(count)
        for each in self.routers.peers:
            self.made[each.seat].state = "running"
        self.deeds.clear()

    @property
    def seats(self) -> list[int]:
        return [each.seat for each in self.routers.serving]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_it_comes_up_before_the_other_leaves(scene: Scene) -> None:
    scene.replace()
    assert scene.deeds == ["1 start", "give 1", "turn [0, 1]"]
    assert scene.made[1].listeners == [HTTP]
    assert scene.routers.changes, "an upgrade has to wait"
    scene.made[1].come_up()
    assert scene.deeds[3:] == ["0 hand on", "turn [1, 0]"]
    assert scene.outcomes == [""] and scene.routers.main.seat == 1
    assert scene.routers.endpoints("blog") == [(1, "bp/blog.1"), (0, "bp/blog.0")]
    scene.routers.tell("blog")
    assert scene.deeds[5:] == ["1 tell blog", "0 tell blog"], "its last clients may want what is new"
    scene.made[0].leave()
    assert scene.deeds[7:] == ["0 forget", "turn [1]"]


def test_one_that_dies_before_it_is_up_is_taken_away(scene: Scene) -> None:
    scene.replace()
    failed = scene.made[1].on_failed
    assert failed is not None
    failed("router 1 exited with code 1")
    assert scene.outcomes == ["router 1 exited with code 1"]
    assert scene.deeds[3:] == ["1 give up", "turn [0]"] and scene.routers.main.seat == 0
    scene.clock.pass_by(START_S)
    assert len(scene.outcomes) == 1


def test_one_that_does_not_come_up_in_time_is_taken_away(scene: Scene) -> None:
    scene.replace()
    scene.clock.pass_by(START_S)
    assert scene.outcomes == [f"router 1 is not up after {START_S:g} s"]
    assert "1 give up" in scene.deeds
    scene.replace()
    scene.made[1].come_up()
    assert scene.outcomes[1:] == [""]


def test_one_that_may_have_let_clients_in_leaves_like_any_other(scene: Scene) -> None:
    """Its word that it has may be on its way: who is with it gets an answer."""
    scene.replace()
    scene.made[1].may_have_clients = True
    scene.clock.pass_by(START_S)
    assert scene.outcomes == [f"router 1 is not up after {START_S:g} s"]
    assert "1 give up" not in scene.deeds and scene.deeds[-2:] == ["1 hand on", "turn [0, 1]"]
    scene.made[1].come_up()
    assert scene.routers.main.seat == 0 and len(scene.outcomes) == 1, "too late"
    scene.made[1].leave()
    assert scene.deeds[-2:] == ["1 forget", "turn [0]"]


def test_so_it_does_where_the_emperor_stops(scene: Scene) -> None:
    scene.replace()
    scene.made[1].may_have_clients = True
    stopped: list[bool] = []
    scene.routers.drain(5.0, lambda: stopped.append(True))
    assert {"1 hand on", "1 drain 5", "0 drain 5"} <= {*scene.deeds} and "1 give up" not in scene.deeds
    scene.made[0].leave()
    assert not stopped
    scene.made[1].leave()
    assert stopped == [True]


def test_seats_are_taken_in_turn_and_waited_for(scene: Scene) -> None:
    for seat in range(1, ROUTERS):
        scene.replace()
        scene.made[seat].come_up()
    assert [each.seat for each in scene.routers.all] == [ROUTERS - 1, *range(ROUTERS - 1)]
    scene.deeds.clear()
    scene.replace()
    assert scene.deeds == [], "there is no seat"
    scene.made[1].leave()
    assert "1 start" in scene.deeds
    scene.made[1].come_up()
    assert scene.routers.main.seat == 1 and scene.outcomes == [""] * ROUTERS
    scene.replace()
    scene.clock.pass_by(START_S)
    assert "still have clients" in scene.outcomes[-1] and scene.routers.main.seat == 1


def test_one_at_a_time(scene: Scene) -> None:
    scene.replace()
    scene.replace()
    assert scene.outcomes == ["another one is under way already"]


@pytest.mark.parametrize("state", ["down", "starting"])
def test_who_does_not_run_is_not_replaced(scene: Scene, state: str) -> None:
    scene.made[0].state = state
    scene.replace()
    assert scene.outcomes == [f"router 0 is {state}: ask again when it runs"]


def test_a_stop_ends_all_of_them(scene: Scene) -> None:
    scene.replace()
    scene.made[1].come_up()
    scene.replace()
    stopped: list[bool] = []
    scene.routers.drain(5.0, lambda: stopped.append(True))
    assert scene.outcomes == ["", "the emperor is stopping"]
    assert {"2 give up", "1 drain 5", "0 drain 5"} <= {*scene.deeds}
    scene.made[1].leave()
    assert not stopped
    scene.made[0].leave()
    assert stopped == [True]
    scene.replace()
    assert scene.outcomes[-1] in ("the emperor is stopping", "router 1 is draining: ask again when it runs")


def test_statistics_are_of_all_that_answer(scene: Scene) -> None:
    scene.replace()
    scene.made[1].come_up()
    found: list[Any] = []
    assert scene.routers.stats(found.append)
    for seat in (0, 1):
        answer = scene.made[seat].answer
        assert answer is not None and not found
        answer({"router": {"seat": seat}})
    assert found == [{0: {"seat": 0}, 1: {"seat": 1}}]
    scene.made[0].asked = False
    assert scene.routers.stats(found.append)
    answer = scene.made[1].answer
    assert answer is not None
    answer({"router": {"seat": 1}})
    assert found[1:] == [{1: {"seat": 1}}]
    scene.made[1].asked = False
    assert not scene.routers.stats(found.append)


def test_one_that_does_not_answer_is_not_waited_for(scene: Scene) -> None:
    scene.replace()
    scene.made[1].come_up()
    found: list[Any] = []
    scene.routers.stats(found.append)
    answer = scene.made[1].answer
    assert answer is not None
    answer({"router": {"seat": 1}})
    scene.clock.pass_by(STATS_S)
    assert found == [{1: {"seat": 1}}]


def test_one_that_is_alone_is_not_waited_for_either(scene: Scene) -> None:
    found: list[Any] = []
    assert scene.routers.stats(found.append)
    scene.clock.pass_by(STATS_S)
    assert found == [{}]


def test_others_are_equals_but_for_what_one_alone_can_have(scene: Scene) -> None:
    scene.made[0].listen(DATAGRAMS)
    scene.routers.become(2)
    assert scene.deeds == ["1 start", "give 1", "turn [0, 1]"]
    scene.made[1].state = "running"
    scene.routers.listen(cast(Any, Heard("uwsgi")))
    scene.routers.listen(cast(Any, Heard("workers")))
    assert scene.made[1].listeners == [HTTP, Heard("uwsgi")]
    assert scene.made[0].listeners == [HTTP, DATAGRAMS, Heard("uwsgi"), Heard("workers")]
    scene.routers.unlisten(cast(Any, HTTP))
    assert HTTP not in scene.made[0].listeners + scene.made[1].listeners


def test_several_are_replaced_by_turns(scene: Scene) -> None:
    scene.made[0].listen(DATAGRAMS)
    scene.become(2)
    scene.replace()
    assert scene.deeds[0] == "2 start" and scene.made[2].listeners == [HTTP, DATAGRAMS]
    scene.made[2].come_up()
    assert "3 start" in scene.deeds and scene.made[3].listeners == [HTTP]
    assert scene.outcomes == [] and scene.seats == [2, 1]
    scene.made[3].come_up()
    assert scene.outcomes == [""] and scene.seats == [2, 3]
    assert [each.seat for each in scene.routers.leaving] == [0, 1]
    for seat in (0, 1):
        scene.made[seat].leave()
    assert scene.routers.all == scene.routers.serving, "nobody has been started in their seats"


def test_the_third_waits_for_the_seat_of_one_that_leaves(scene: Scene) -> None:
    scene.become(3)
    scene.replace()
    scene.made[3].come_up()
    assert scene.seats == [3, 1, 2] and scene.routers.coming is None, "no seat is free"
    scene.clock.pass_by(START_S - 1)
    scene.made[0].leave()
    scene.clock.pass_by(START_S - 1)
    assert scene.outcomes == [], "the wait for the seat is not taken from the time to come up"
    scene.made[0].come_up()
    assert scene.seats == [3, 0, 2]
    scene.clock.pass_by(START_S)
    assert "still have clients" in scene.outcomes[-1] and scene.seats == [3, 0, 2]
    assert scene.said.lines[-1].startswith("info router 2 stays: ")


def test_one_that_cannot_be_replaced_leaves_those_after_it(scene: Scene) -> None:
    scene.become(2)
    scene.replace()
    failed = scene.made[2].on_failed
    assert failed is not None
    failed("router 2 exited with code 1")
    assert scene.outcomes == ["router 2 exited with code 1"] and scene.seats == [0, 1]
    assert scene.said.lines[-1] == "info routers 0, 1 stay: router 2 exited with code 1"
    scene.made[1].state = "down"
    scene.replace()
    assert scene.outcomes[1:] == ["router 1 is down: ask again when it runs"]


def test_fewer_let_the_others_leave(scene: Scene) -> None:
    scene.become(3)
    scene.routers.become(1)
    assert scene.seats == [0] and [each.seat for each in scene.routers.leaving] == [2, 1]
    assert scene.deeds == ["2 hand on", "turn [0, 1, 2]", "1 hand on", "turn [0, 2, 1]"]


def test_one_that_finds_no_seat_is_started_when_there_is_one(scene: Scene) -> None:
    for seat in range(1, ROUTERS):
        scene.replace()
        scene.made[seat].come_up()
    scene.routers.table_is_whole(lambda: None)
    scene.deeds.clear()
    scene.routers.become(2)
    assert scene.seats == [3] and "start" not in " ".join(scene.deeds)
    scene.made[1].leave()
    assert scene.seats == [3, 1] and "1 start" in scene.deeds


def test_one_announces(scene: Scene) -> None:
    scene.become(2)
    scene.replace()
    scene.routers.announce({"name": "blog", "announcements": ["shop"]}, [])
    assert [scene.made[seat].sent for seat in range(3)] == [[["shop"]], [[]], [["shop"]]]
    scene.made[2].come_up()
    scene.routers.announce({"name": "blog", "announcements": ["shop"]}, [])
    assert scene.made[2].sent[-1] == ["shop"] and scene.made[1].sent[-1] == scene.made[3].sent[-1] == []


def test_counts_of_a_probation_are_of_all_that_let_clients_in(scene: Scene) -> None:
    scene.become(2)
    found: list[Any] = []
    assert scene.routers.counts("blog", found.append)
    for seat in (0, 1):
        counted = scene.made[seat].counted
        assert counted is not None and not found
        counted({"counts": {"7": {"answered": 10, "failed": seat}, str(seat): {"answered": 1, "failed": 0}}})
    sums = {"answered": 20, "failed": 1}
    assert found == [
        {"counts": {"7": sums, "0": {"answered": 1, "failed": 0}, "1": {"answered": 1, "failed": 0}}}
    ]
    scene.routers.counts("blog", found.append)
    scene.clock.pass_by(STATS_S)
    assert found[1:] == [{"counts": {}}], "who does not answer is not waited for"
    scene.made[0].asked = scene.made[1].asked = False
    assert not scene.routers.counts("blog", found.append)
