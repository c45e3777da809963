"""A rolling reload, step by step: one more worker than there are seats, and never fewer that serve than there were."""

import pytest

from emperor.config.reloading import Reloading
from emperor.supervisor.actions import Seats
from emperor.supervisor.fleet import Generation, Worker
from emperor.supervisor.rolling import Wish, wish
from emperor.supervisor.vassal import State

from .test_supervisor import Emperor, wanted


@pytest.mark.parametrize(
    ("new", "new_count", "old", "old_count", "expected"),
    [
        (["starting"], 3, ["ready"] * 3, 3, Wish(1, 3, False)),
        (["ready"], 3, ["ready"] * 3, 3, Wish(1, 2, False)),
        (["ready"], 3, ["draining", "ready", "ready"], 3, Wish(1, 2, False)),
        (["ready"], 3, ["closed", "ready", "ready"], 3, Wish(2, 2, False)),
        (["ready", "starting"], 3, ["closed", "ready", "ready"], 3, Wish(2, 2, False)),
        (["ready", "ready"], 3, ["closed", "ready", "ready"], 3, Wish(2, 1, False)),
        (["ready", "ready", "ready"], 3, ["closed", "closed", "ready"], 3, Wish(3, 1, True)),
        (["ready"], 1, ["ready"] * 4, 4, Wish(1, 4, True)),
        (["ready", "ready"], 5, ["closed", "closed"], 2, Wish(5, 0, False)),
    ],
)
def test_the_next_step(
    new: list[str], new_count: int, old: list[str], old_count: int, expected: Wish
) -> None:
    assert wish(new, new_count, old, old_count) == expected


class Fleet(Emperor):
    """Gateways that do what they are told about their seats, one worker at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, set[int]] = {}
        self.most = 0

    def generation(self, number: int) -> Generation:
        return self.running["blog", number]

    def set(self, number: int, seat: int, state: str, last_exit: str = "") -> None:
        generation = self.generation(number)
        before, now = generation.workers.get(seat), Worker(seat, 1, state, 0, 0, last_exit)
        generation.workers[seat] = now
        self.supervisor.worker(generation, before, now)
        self.act()
        self.obey()

    def obey(self) -> None:
        """Carry out the newest word about the seats of each generation."""
        for action in [each for each in self.done if isinstance(each, Seats)]:
            self.open[action.generation.number] = set(action.open)
        self.done = [each for each in self.done if not isinstance(each, Seats)]

    def serving(self) -> int:
        alive = [each for each in self.running.values() if (each.name, each.number) not in self.leaving]
        return sum(worker.state == "ready" for each in alive for worker in each.workers.values())


def rolling(processes: int = 3) -> Fleet:
    fleet = Fleet()
    fleet.up("blog.ini", processes=processes)
    for seat in range(processes):
        fleet.set(1, seat, "ready")
    fleet.drop("blog.ini", processes=processes, reloading=Reloading(style="rolling"))
    assert fleet.generation(2).open == frozenset({0})
    fleet.open = {1: set(range(processes)), 2: {0}}
    fleet.ready("blog", 2)
    assert fleet.state() is State.ROLLING
    return fleet


def test_worker_by_worker_to_the_end() -> None:
    fleet = rolling()
    found = fleet.supervisor.wanted("blog")
    assert found is not None and (found.active, found.beside, found.kept) == (2, 1, None)
    for seat in range(3):
        fleet.set(2, seat, "ready")
        assert fleet.serving() >= 3
        if seat < 2:
            assert fleet.open[1] == set(range(seat + 1, 3)) and fleet.open[2] == set(range(seat + 1))
            fleet.set(1, seat, "draining")
            fleet.set(1, seat, "closed")
            assert fleet.open[2] == set(range(seat + 2))
            assert fleet.serving() == 3
    assert (fleet.state(), wanted(fleet), fleet.leaving) == (State.READY, (2, None), [("blog", 1)])


def test_a_worker_that_fails_half_way_gives_the_old_ones_back() -> None:
    fleet = rolling()
    fleet.set(2, 0, "ready")
    fleet.set(1, 0, "closed")
    fleet.set(2, 1, "dead", "could not load the app (exit code 70)")
    vassal = fleet.supervisor.vassals["blog.ini"]
    assert (fleet.state(), wanted(fleet)) == (State.READY, (1, None))
    assert vassal.problem == "worker 1 could not load the app (exit code 70)"
    assert fleet.open[1] == {0, 1, 2} and fleet.leaving == [("blog", 2)]
    fleet.leave_all()
    assert fleet.state() is State.READY


def test_an_edit_half_way_gives_the_old_ones_back_and_starts_anew() -> None:
    fleet = rolling()
    fleet.set(2, 0, "ready")
    fleet.set(1, 0, "closed")
    fleet.drop("blog.ini", processes=3)
    fleet.obey()
    assert (fleet.state(), wanted(fleet)) == (State.RELOADING, (1, None))
    assert fleet.open[1] == {0, 1, 2}


def test_when_the_old_gateway_dies_the_new_one_serves_with_all() -> None:
    fleet = rolling()
    fleet.set(2, 0, "ready")
    fleet.dies("blog", 1)
    fleet.obey()
    assert (fleet.state(), wanted(fleet)) == (State.READY, (2, None))
    assert fleet.open[2] == {0, 1, 2}


def test_when_the_new_gateway_dies_the_old_one_goes_on_with_all() -> None:
    fleet = rolling()
    fleet.set(2, 0, "ready")
    fleet.set(1, 0, "closed")
    fleet.dies("blog", 2)
    fleet.obey()
    assert (fleet.state(), wanted(fleet)) == (State.READY, (1, None))
    assert fleet.open[1] == {0, 1, 2}


def test_a_first_start_and_a_restart_are_never_rolling() -> None:
    fleet = Fleet()
    fleet.up("blog.ini", reloading=Reloading(style="rolling"))
    assert fleet.generation(1).open is None
    fleet.dies("blog", 1)
    assert fleet.generation(2).open is None
