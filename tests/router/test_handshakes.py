"""How many may be about to prove who they are."""

from emperor.router.handshakes import HANDSHAKE_S, Handshakes

NOW = 1000.0


def test_beyond_the_bound_the_newest_goes() -> None:
    handshakes = Handshakes(most=2)
    assert [handshakes.begun(NOW) for _ in range(4)] == [True, True, False, False]
    assert (handshakes.waiting(NOW), handshakes.refused) == (2, 2)


def test_one_that_has_come_about_makes_room() -> None:
    handshakes = Handshakes(most=1)
    assert handshakes.begun(NOW)
    handshakes.came_about()
    assert handshakes.begun(NOW) and not handshakes.begun(NOW)


def test_one_that_has_failed_makes_room_unless_it_had_none() -> None:
    handshakes = Handshakes(most=1)
    assert handshakes.begun(NOW) and not handshakes.begun(NOW)
    assert not handshakes.failed()  # the second
    assert handshakes.waiting(NOW) == 1
    assert handshakes.failed()
    assert handshakes.begun(NOW)


def test_a_failure_of_which_nothing_was_heard_is_not_waited_for_for_ever() -> None:
    handshakes = Handshakes(most=1)
    assert handshakes.begun(NOW) and not handshakes.begun(NOW)
    assert handshakes.begun(NOW + HANDSHAKE_S)
    assert not handshakes.waiting(NOW + 2 * HANDSHAKE_S)
    assert handshakes.begun(NOW + 2 * HANDSHAKE_S) and handshakes.failed()


def test_none_goes_on_for_longer_than_libzmq_lets_it() -> None:
    handshakes = Handshakes(most=2)
    assert handshakes.begun(NOW) and handshakes.begun(NOW + 1)
    assert not handshakes.begun(NOW + HANDSHAKE_S - 0.1)
    assert handshakes.begun(NOW + HANDSHAKE_S)
    assert handshakes.waiting(NOW + HANDSHAKE_S) == 2


def test_an_end_that_nobody_waits_for_is_no_room_more() -> None:
    handshakes = Handshakes(most=1)
    handshakes.came_about()
    assert handshakes.failed()
    assert handshakes.begun(NOW) and not handshakes.begun(NOW)
