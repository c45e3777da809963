"""What is wanted as a tenant: one try again at a time, and none for what is wanted no more."""

from collections.abc import Callable

from emperor.supervisor.wishes import RETRY_S, Wishes


class Later:
    """A timer of the loop's."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    def __init__(self) -> None:
        self.timers: list[Later] = []

    def call_later(self, delay_s: float, call: Callable[[str], None], name: str) -> Later:
        assert delay_s == RETRY_S
        self.timers.append(Later(lambda: call(name)))
        return self.timers[-1]


def make() -> tuple[Wishes[str], FakeLoop, list[str]]:
    loop, tried = FakeLoop(), list[str]()
    return Wishes(loop, tried.append), loop, tried  # type: ignore[arg-type]


def test_what_failed_is_tried_again_once_at_a_time() -> None:
    wishes, loop, tried = make()
    wishes.put("shop", "a log")
    wishes.try_later("shop")
    wishes.try_later("shop")
    (timer,) = loop.timers
    timer.call()
    assert tried == ["shop"]
    wishes.try_later("shop")
    assert len(loop.timers) == 2


def test_what_is_forgotten_is_in_no_trouble_and_not_tried_again() -> None:
    wishes, loop, tried = make()
    wishes.put("shop", "a log")
    wishes.troubles["shop"] = "no such directory"
    wishes.try_later("shop")
    wishes.forget("shop")
    assert loop.timers[0].cancelled
    assert not wishes.troubles and "shop" not in wishes and wishes.get("shop") is None
    wishes.try_later("shop")
    assert len(loop.timers) == 1 and not tried


def test_another_wish_takes_the_place_of_the_one_before_and_of_its_trouble() -> None:
    wishes, loop, _ = make()
    wishes.put("shop", "a log")
    wishes.troubles["shop"] = "no such directory"
    wishes.try_later("shop")
    wishes.put("shop", "another")
    assert wishes["shop"] == "another" and list(wishes) == ["shop"]
    assert not wishes.troubles and loop.timers[0].cancelled
