"""The kill matrix's judgement itself: what it excuses, what it does not, and what it takes for a lie of the status."""

from collections import Counter
from dataclasses import replace

import pytest

from .harness import machine
from .harness.flood import Answer
from .harness.lives import KILLED, Life, untrue
from .harness.records import Begun
from .harness.siege import ANSWERED_S, Blow, Siege, begun_by_the_killed

BLOW = Blow("worker", 0, "red", 7, 100.0)
LOST = Answer("f1", "red", 99.99, 100.01, "502", False, 0, False)
BEFORE_IT = Answer("f0", "red", 99.9, 99.95, "200", True, 7, False)


def siege(*begun: Begun, blows: tuple[Blow, ...] = (BLOW,), answers: tuple[Answer, ...] = ()) -> Siege:
    made = Siege([], blows=list(blows))
    made._begun_requests = list(begun)
    made.answers = {answer.nonce: answer for answer in (LOST, BEFORE_IT, *answers)}
    return made


def test_what_the_killed_had_begun_is_excused_once() -> None:
    case = siege(Begun("f1", 7, 99.99), Begun("f2", 7, 99.99))
    assert begun_by_the_killed(LOST, case)
    assert begun_by_the_killed(LOST, case), "the same one, asked about again"
    assert not begun_by_the_killed(replace(LOST, nonce="f2"), case)


def test_what_nobody_logged_is_excused_when_the_killed_was_free_to_claim_it() -> None:
    assert begun_by_the_killed(LOST, siege(Begun("f0", 7, 99.9)))


@pytest.mark.parametrize(
    ("lost", "case"),
    [
        (LOST, siege(Begun("f1", 8, 99.99))),  # another one began it
        (LOST, siege(Begun("p0", 7, 99.9))),  # its slot was taken, by a request that is not of the flood
        (replace(LOST, outcome="lost"), siege()),  # nobody who had not begun it had sent a head
        (replace(LOST, scheduled_s=100.3), siege()),  # it came when the killed was dead
        (LOST, siege(Begun("f9", 8, 99.0), blows=(BLOW, replace(BLOW, pid=8, at_s=99.8)))),  # whose was it?
        (replace(LOST, done_s=100.1 + ANSWERED_S * machine.NET * machine.MOST), siege()),
        (replace(LOST, vassal="blue"), siege()),
        (replace(LOST, outcome="503"), siege(Begun("f1", 7, 99.99))),
    ],
)
def test_anything_else_is_not(lost: Answer, case: Siege) -> None:
    assert not begun_by_the_killed(lost, case)


LIVES = {
    "emperor": Life(1),
    "spawner": Life(2),
    "router 0": Life(3),
    "gateway red": Life(4, generation=1),
    "worker red/0": Life(5, 2, KILLED),
    "worker red/1": Life(6),
}
WORKER = {"worker red/1": Life(16, 1, KILLED)}
GATEWAY = {
    "gateway red": Life(14, 1, f"its gateway {KILLED}", 2),
    "worker red/0": Life(15),
    "worker red/1": Life(16),
}
EMPEROR = {
    "emperor": Life(11, adopted=1),
    "spawner": Life(12),
    "gateway red": Life(4, generation=1, adopted=1),
}


@pytest.mark.parametrize(
    ("struck", "changed"),
    [
        ((), {}),
        (("spawner",), {"spawner": Life(12, 1, KILLED)}),
        (("router 0",), {"router 0": Life(13, 1, KILLED)}),
        (("gateway red",), GATEWAY),
        (("worker red/1",), WORKER),
        (("worker red/1",) * 2, {"worker red/1": Life(16, 2, f"{KILLED} while it imported the app")}),
        (("emperor",), EMPEROR),
        (("emperor", "worker red/1"), EMPEROR | WORKER),
        (("emperor", "router 0"), EMPEROR | {"router 0": Life(13)}),
        (("emperor", "gateway red"), {**EMPEROR, **GATEWAY, "gateway red": Life(14, generation=2)}),
    ],
)
def test_the_truth_is_the_truth_and_nothing_else_is(
    struck: tuple[str, ...], changed: dict[str, Life]
) -> None:
    after = LIVES | changed
    assert untrue(LIVES, after, Counter(struck)) == []
    for role, life in after.items():
        for wrong in (
            replace(life, pid=LIVES[role].pid if life.pid != LIVES[role].pid else 99),
            replace(life, restarts=life.restarts + 1),
            replace(life, last_exit="exited with code 1"),
            replace(life, generation=life.generation + 1),
            replace(life, adopted=1 - life.adopted),
        ):
            assert len(untrue(LIVES, {**after, role: wrong}, Counter(struck))) == 1
    assert untrue(LIVES, {**after, "worker red/2": Life(9)}, Counter(struck)) != []
    assert untrue({**LIVES, "worker red/2": Life(9)}, after, Counter(struck)) != []
