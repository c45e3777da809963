"""The kill matrix: kills at random instants, three or more vassals, an open-loop client of 300 requests/s.

`make kill-matrix` strikes 20 times a row; `make test` has a short form of it.

A thing is struck again only after 10 s (six fleets for what a fleet has one of), since what dies twice within 10 s
is held back on purpose. Every row asserts what its table line says: what survives (all other pids and generations),
what is back and when, which requests fail, what the status says of every process (`harness/lives.py`), and that nothing
is left: no descriptor, process, shared memory or file.

| killed | may fail | survives | what the status says |
| --- | --- | --- | --- |
| emperor | nothing | all but its spawner; the next one takes over | `adopted` 1, of it and of each gateway |
| spawner | nothing | all else | spawner +1 |
| router | what is on its way through it; no connection is refused | all else | router +1 |
| gateway | nothing | all but its own workers, which drain | vassal +1, and the next `generation` |
| worker | what it had begun: 502, or an aborted connection, within 1 s | all else | that seat +1 |
| worker, then the next while it imports | as for a worker | all else | that seat +2 |
| emperor, then a worker | as for a worker | as for both | as for both: the gateway has kept count |
| emperor, then a gateway | nothing | as for both | as for an emperor, but there `adopted` 0 and the next `generation` |
| emperor, then the router | that on its way; new connections while nobody listens | as for both | as for an emperor |
| emperor, by TERM or Ctrl-C | what comes until the next one is up | nothing | no emperor; the next: `adopted` 0, all 0 |
| emperor, by TERM twice | that, and what has begun | nothing | the same |

+N: its `restarts` have grown by N, and its `last_exit` names SIGKILL. Whoever was neither killed nor taken along has
the pid, generation, restarts and last exit that it had, and every vassal is READY again. "Then" is before the next
emperor is there: what ended meanwhile without a parent it cannot know, and counts its spawner and router from 0.

A row of KILLS strikes has as many turns, but for three: a worker while it starts has KILLS // 2 turns of two kills each
(of a ready worker, and of the next one in its seat), emperor and worker KILLS // 2 turns for each of its two delays, an
emperor that is told to end KILLS // 2 for each of its three ways.
"""

import math
import os
import signal
import time
from collections.abc import Callable
from itertools import zip_longest

import pytest

from .harness import Fleet, machine, wait_for
from .harness.flood import Answer
from .harness.lives import Life, lives
from .harness.probe import Probe
from .harness.siege import (
    DYING_S,
    Blow,
    Siege,
    begun_by_the_killed,
    nobody,
    on_the_killed_router,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
# `make kill-matrix` strikes 20 times a row; `make test` has a short form that still meets every vassal.
KILLS = int(os.environ.get("KILLS", "4"))
SEAT_SPACING_S = 0.9  # twelve seats in turn
END_SPACING_S = 2.0  # down and up again within the half of it; the other half must be quiet
START_S = 1.0  # a cold interpreter and its imports, until the next emperor is one
MakeFleet = Callable[..., Fleet]


def test_spawner(make_fleet: MakeFleet) -> None:
    siege = Siege([make_fleet() for _ in range(6)], vassals=("red", "green", "blue"))
    siege.begin()
    for _, fleet, _, _ in siege.turns(KILLS):
        before = lives(fleet.status())
        siege.settle(fleet, before, siege.kill(fleet, "spawner"))
    siege.verdict(nobody)


def test_router(make_fleet: MakeFleet) -> None:
    siege = Siege([make_fleet() for _ in range(6)], vassals=("red", "green", "blue"))
    siege.begin()
    for _, fleet, _, _ in siege.turns(KILLS):
        before = lives(fleet.status())
        siege.settle(fleet, before, siege.kill(fleet, "router"))
    answers = siege.verdict(on_the_killed_router)
    assert [answer for answer in answers if answer.outcome == "refused"] == []


def test_gateway(fleet: Fleet) -> None:
    siege = Siege([fleet], processes=2)
    siege.begin()
    for _, _, vassal, _ in siege.turns(KILLS):
        before = lives(fleet.status())
        siege.settle(fleet, before, siege.kill(fleet, "gateway", vassal))
    siege.verdict(nobody)


def test_worker_at_a_random_instant(fleet: Fleet) -> None:
    siege = Siege([fleet], processes=2)
    siege.begin()
    for _, _, vassal, seat in siege.turns(KILLS, SEAT_SPACING_S):
        strike_worker(siege, fleet, vassal, fleet.pid("worker", vassal, seat))
    siege.verdict(begun_by_the_killed)


def test_worker_idle(fleet: Fleet) -> None:
    siege = Siege([fleet], vassals=("red", "green", "blue"), quiet=tuple(f"idle{n}" for n in range(7)))
    siege.begin()
    for number, _, _, _ in siege.turns(KILLS):
        name = siege.quiet[number % len(siege.quiet)]
        strike_worker(siege, fleet, name, fleet.pid("worker", name))
        assert fleet.get(name, f"/?n=after{number}").status == 200
    siege.verdict(nobody)


def test_worker_in_app_code(fleet: Fleet) -> None:
    siege = Siege([fleet], processes=2)
    siege.begin()
    for number, _, vassal, _ in siege.turns(KILLS):
        probe = Probe(fleet, vassal, f"p{number}", "&sleep=900")
        begun = probe.begun()
        time.sleep(siege.chance.uniform(0, 0.3))
        blow = strike_worker(siege, fleet, vassal, begun.pid)
        seen = probe.seen()
        assert (seen.status, seen.whole) == (502, True)
        assert seen.done_s <= blow.at_s + siege.answered_s(blow)
    siege.verdict(begun_by_the_killed)


def test_worker_in_mid_response(fleet: Fleet) -> None:
    siege = Siege([fleet], processes=2)
    siege.begin()
    for number, _, vassal, _ in siege.turns(KILLS):
        probe = Probe(fleet, vassal, f"p{number}", "&size=4000000&pause=10")
        begun = probe.begun()
        probe.flowing()
        time.sleep(siege.chance.uniform(0, 0.3))
        blow = strike_worker(siege, fleet, vassal, begun.pid)
        seen = probe.seen()
        # Aborted, never ended as if complete.
        assert (seen.status, seen.whole) == (200, False)
        assert seen.done_s <= blow.at_s + siege.answered_s(blow)
    siege.verdict(begun_by_the_killed)


def test_worker_in_mid_upload(fleet: Fleet) -> None:
    # Only without it is a worker inside an upload at all.
    siege = Siege([fleet], processes=2, keys={"request-buffering": "false"})
    siege.begin()
    for number, _, vassal, _ in siege.turns(KILLS):
        probe = Probe(fleet, vassal, f"p{number}", upload=(4_000_000, 500_000))
        begun = probe.begun()
        time.sleep(siege.chance.uniform(0, 0.3))
        blow = strike_worker(siege, fleet, vassal, begun.pid)
        seen = probe.seen()
        assert seen.status == 502
        assert seen.done_s <= blow.at_s + siege.answered_s(blow)
    siege.verdict(begun_by_the_killed)


def test_worker_while_starting(fleet: Fleet) -> None:
    siege = Siege([fleet], processes=2, import_ms=400)
    siege.begin()
    for _, _, vassal, seat in siege.turns(KILLS // 2, spacing_s=3.2):
        before = lives(fleet.status())
        first = siege.kill(fleet, "worker", vassal, seat)

        def starting(vassal: str = vassal, seat: int = seat, old: int = first.pid) -> int:
            for worker in fleet.vassal_status(vassal).get("workers", []):
                if (
                    worker["seat"] == seat
                    and worker["state"] == "starting"
                    and worker["pid"] not in (0, None, old)
                ):
                    return int(worker["pid"])
            return 0

        young = wait_for(starting, 20, fleet.summary, every_s=0.005)
        second = siege.kill(fleet, "worker", vassal, seat, pid=young)
        # The second death within 10 s: the first step of the backoff, 1 s and its jitter.
        siege.settle(fleet, before, first, second, more_s=1.5)
    siege.verdict(begun_by_the_killed)


def test_emperor(fleet: Fleet) -> None:
    siege = Siege([fleet], vassals=("red", "green", "blue"))
    siege.begin()
    for _ in siege.turns(KILLS):
        before = lives(fleet.status())
        blow = siege.kill(fleet, "emperor")
        fleet.start(ready=False)
        siege.settle(fleet, before, blow, more_s=START_S)
    siege.verdict(nobody)


@pytest.mark.parametrize("delay_s", [0.0, 0.3])
def test_emperor_then_worker_before_adoption(fleet: Fleet, delay_s: float) -> None:
    siege = Siege([fleet], processes=2)
    siege.begin()
    for _, _, vassal, seat in siege.turns(KILLS // 2):
        before = lives(fleet.status())
        first = siege.kill(fleet, "emperor")
        second = siege.kill(fleet, "worker", vassal, seat, before[f"worker {vassal}/{seat}"].pid)
        time.sleep(delay_s)
        fleet.start(ready=False)
        siege.settle(fleet, before, first, second, more_s=delay_s + START_S)
    siege.verdict(begun_by_the_killed)


def test_emperor_then_gateway_before_adoption(fleet: Fleet) -> None:
    siege = Siege([fleet], processes=2)
    siege.begin()
    for _, _, vassal, _ in siege.turns(KILLS):
        before = lives(fleet.status())
        first = siege.kill(fleet, "emperor")
        second = siege.kill(fleet, "gateway", vassal, pid=before[f"gateway {vassal}"].pid)
        fleet.start(ready=False)
        siege.settle(fleet, before, first, second, more_s=START_S)
    siege.verdict(nobody)


def test_emperor_then_router_before_adoption(make_fleet: MakeFleet) -> None:
    siege = Siege([make_fleet() for _ in range(6)], vassals=("red", "green", "blue"))
    siege.begin()
    for _, fleet, _, _ in siege.turns(KILLS):
        before = lives(fleet.status())
        first = siege.kill(fleet, "emperor")
        second = siege.kill(fleet, "router", pid=before["router 0"].pid)
        fleet.start(ready=False)
        siege.settle(fleet, before, first, second, more_s=START_S)

    def unheld(answer: Answer, siege: Siege) -> bool:
        # With both gone nobody holds the listening socket: until the next emperor binds it, connections are
        # refused.
        number = int(answer.nonce[1:].split("-")[0])
        return on_the_killed_router(answer, siege) or (
            answer.outcome in ("refused", "lost")
            and any(
                blow.fleet == number
                and blow.role == "router"
                and blow.at_s <= answer.done_s <= siege.wholes_s.get(blow, math.inf) + DYING_S
                for blow in siege.blows
            )
        )

    siege.verdict(unheld)


@pytest.mark.parametrize("how", ["TERM", "Ctrl-C", "second TERM"])
def test_end(fleet: Fleet, how: str) -> None:
    siege = Siege([fleet], vassals=("red", "green", "blue"))
    siege.begin()
    ends: list[Blow] = []
    wholes_s: list[float] = []
    times = KILLS // 2  # and as often anew
    for number, _, vassal, _ in siege.turns(times, spacing_s=END_SPACING_S):
        emperor = fleet.emperor
        assert emperor is not None
        pids = fleet.pids()
        probe = Probe(fleet, vassal, f"p{number}", "&sleep=30000" if how == "second TERM" else "&sleep=300")
        probe.begun()
        ends.append(Blow("end", 0, "", emperor.pid, time.monotonic()))
        if how == "Ctrl-C":
            os.killpg(emperor.pid, signal.SIGINT)  # what the terminal does: the whole foreground group
        else:
            emperor.send_signal(signal.SIGTERM)
        if how == "second TERM":
            time.sleep(0.1)
            emperor.send_signal(signal.SIGTERM)
            emperor.wait(60)
            end_s = time.monotonic() - ends[-1].at_s
            assert end_s < machine.allowed(1.6, ends[-1].moment)
            assert probe.seen().status != 200, "a second one waits for nothing"
        else:
            assert emperor.wait(60) == 0
            end_s = time.monotonic() - ends[-1].at_s
            assert end_s < machine.allowed(9.5, ends[-1].moment)
            assert probe.seen().status == 200, "a drain finishes what had begun"
        wait_for(lambda pids=pids: not alive(pids), 20, lambda pids=pids: f"left: {alive(pids)}")
        said = fleet.cli("status", "--run-dir", fleet.run_dir)
        assert (said.returncode, "no emperor is running" in said.stderr) == (3, True), said
        if number + 1 < times:
            fleet.start(ready=False)
            fresh = siege.wait_whole(fleet, 15)
            # A client on a busy machine may write its answer down a little later than it came.
            wholes_s.append(time.monotonic() + DYING_S * machine.slowness(ends[-1].moment))
            assert [role for role, life in fresh.items() if not untouched(role, life)] == []

    def unserved(answer: Answer, siege: Siege) -> bool:
        """Nobody was there, or an idle connection was closed as it was used: from an end until the fleet was whole
        again, and at no other time. What an app began, it finished, unless the end was fast."""
        away = any(
            end.at_s <= answer.done_s <= whole_s
            for end, whole_s in zip_longest(ends, wholes_s, fillvalue=math.inf)
        )
        if how == "second TERM":
            return away and answer.outcome in ("refused", "lost", "502", "503")
        return away and answer.outcome in ("refused", "lost", "503") and not siege.begun_by(answer)

    siege.verdict(unserved, census=False)
    assert [str(path) for path in fleet.run_dir.rglob("*.sock")] == []


def strike_worker(siege: Siege, fleet: Fleet, vassal: str, pid: int) -> Blow:
    """Kills a worker, and waits until its seat is taken again and nobody else was replaced."""
    before = lives(fleet.status())
    role = next(role for role, life in before.items() if life.pid == pid)
    blow = siege.kill(fleet, "worker", vassal, int(role.rpartition("/")[2]), pid)
    siege.settle(fleet, before, blow)
    return blow


def untouched(role: str, life: Life) -> bool:
    """What the status says of a process of a fresh start: nothing of any before it."""
    return life == Life(life.pid, generation=1 if role.startswith("gateway ") else 0)


def alive(pids: dict[str, int]) -> dict[str, int]:
    return {role: pid for role, pid in pids.items() if os.path.exists(f"/proc/{pid}")}
