"""Parts of an app with slots of their own."""

import pytest

from emperor.router.bulkheads import ANY, Part, Parts
from emperor.router.queue import Queue
from tests.router.parts import exchange


def parts(*bulkheads: tuple[str, int], reserve: tuple[tuple[str, int], ...] = ()) -> Parts:
    return Parts(bulkheads, reserve, Queue(10))


def named(made: Parts, path: str) -> Part:
    return next(part for part in made if part.path == path)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        (b"/slow", "/slow"),
        (b"/slow/er", "/slow"),
        (b"/slower", ""),
        (b"/slow/est", "/slow/est"),
        (b"/slow/est/x", "/slow/est"),
        (b"/", ""),
        (b"", ""),
    ],
)
def test_the_longest_path_counts(path: bytes, part: str) -> None:
    assert parts(("/slow", 2), ("/slow/est", 1)).of(path).path == part


def test_everything_may_be_one_part() -> None:
    assert parts(("/", 2)).of(b"/any").path == "/"


def test_a_path_may_be_both() -> None:
    made = parts(("/export", 2), reserve=(("/export", 1),))
    (only,) = made
    assert (only.most, only.reserved) == (2, 1)


def test_who_has_waited_longest_is_next() -> None:
    made = parts(("/slow", 2))
    slow = named(made, "/slow")
    assert made.next(()) is None
    made.rest.queue.add(exchange(2.0))
    slow.queue.add(exchange(1.0))
    assert made.next(()) is slow
    assert made.next([slow]) is made.rest
    assert made.next([slow, made.rest]) is None


def test_a_part_that_has_all_its_slots_waits() -> None:
    made = parts(("/slow", 2))
    slow = named(made, "/slow")
    slow.queue.add(exchange(1.0))
    slow.in_flight = 2
    assert made.next(()) is None
    made.rest.queue.add(exchange(5.0))
    assert made.next(()) is made.rest
    slow.in_flight = 1
    assert made.next(()) is slow


def test_who_has_slots_reserved_is_first() -> None:
    made = parts(("/slow", 2), reserve=(("/healthz", 1),))
    named(made, "/slow").queue.add(exchange(1.0))
    health = named(made, "/healthz")
    health.queue.add(exchange(9.0))
    assert made.next(()) is health
    assert health.most == ANY


def test_slots_are_kept_from_the_others() -> None:
    made = parts(("/slow", 2), reserve=(("/healthz", 1), ("/admin", 2)))
    health, admin = named(made, "/healthz"), named(made, "/admin")
    assert made.kept_from(made.rest, 8) == 3
    assert made.kept_from(health, 8) == 2
    assert made.kept_from(admin, 8) == 1
    health.in_flight = 1
    assert made.kept_from(made.rest, 8) == 2, "it has what is kept for it"
    admin.in_flight = 5
    assert made.kept_from(made.rest, 8) == 0


def test_whom_a_free_slot_would_help() -> None:
    made = parts(("/slow", 2), reserve=(("/healthz", 1),))
    slow, health = named(made, "/slow"), named(made, "/healthz")
    assert (made.wanting(), made.oldest_wanting()) == (0, (None, False))
    first, last = exchange(1.0), exchange(5.0)
    for each in (first, exchange(2.0), exchange(3.0)):
        slow.queue.add(each)
    made.rest.queue.add(last)
    assert (made.wanting(), made.oldest_wanting()) == (3, (first, False)), "two of it may run, and the rest"
    slow.in_flight = 2
    assert (made.wanting(), made.oldest_wanting()) == (1, (last, False))
    slow.in_flight = 3
    assert made.wanting() == 1, "its limit was higher before"
    health.queue.add(exchange(9.0))
    assert (made.wanting(), made.oldest_wanting()) == (2, (last, True))
    health.in_flight = 1
    assert made.oldest_wanting() == (last, False), "it has what is kept for it"


def test_the_last_slot_is_nobody_s() -> None:
    made = parts(reserve=(("/healthz", 4),))
    assert made.kept_from(made.rest, 4) == 3
    assert made.kept_from(made.rest, 1) == 0


def test_each_has_a_queue_as_long_as_the_app_s() -> None:
    made = parts(("/slow", 1))
    slow = named(made, "/slow")
    assert all(slow.queue.add(exchange(float(number))) for number in range(10))
    assert not slow.queue.add(exchange(10.0))
    assert made.rest.queue.add(exchange(11.0))
    assert (made.queued(), len(made.all_waiting()), made.queued()) == (10, 10, 0)


def test_what_it_reports() -> None:
    made = parts(("/slow", 2))
    assert made.report() == [
        {"path": "/slow", "limit": 2, "reserved": 0, "now": 0, "queued": 0, "refused": 0}
    ]
