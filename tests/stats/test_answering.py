"""What upstreams come to, from what routers say of them."""

from typing import Any

from emperor.router.health import Outcome
from emperor.router.upstreams import Upstreams
from emperor.stats.answering import ALL, NONE, SOME, answering, workers_elsewhere

ONE, OTHER, THIRD = "http://10.0.0.2:80", "http://10.0.0.3:80", "http://10.0.0.4:80"


class Router:
    """One that has these upstreams."""

    def __init__(self, *addresses: str) -> None:
        self.now = 100.0
        self.upstreams = Upstreams(lambda: self.now, lambda: 0.0)
        for address in addresses:
            self.upstreams.add(address, warm=True)

    def fail(
        self, address: str, times: int = 1, why: str = "it cannot be reached: Connection refused"
    ) -> "Router":
        upstream = self.upstreams.get(address)
        assert upstream is not None
        for _ in range(times):
            self.upstreams.began(upstream)
            self.upstreams.ended(upstream, Outcome.FAILED, why)
        return self

    @property
    def said(self) -> dict[str, Any]:
        return {"upstreams": self.upstreams.report()}


def test_all_answer_as_far_as_anybody_knows() -> None:
    assert answering([Router(ONE, OTHER).said], "/v/shop.ini", False) == (ALL, "")


def test_the_only_one_fails_its_last_requests() -> None:
    router = Router(ONE).fail(ONE)
    router.now += 12
    assert answering([router.said], "/v/shop.ini", False) == (
        NONE,
        f"its upstream does not answer: {ONE} has failed its last request, 12 s ago: it cannot be reached: Connection "
        "refused (start what listens there, or edit /v/shop.ini)",
    )
    how, why = answering([router.fail(ONE, 8).said], "/v/shop.ini", False)
    assert how == NONE and "has failed 9 times in a row, 0 s ago" in why


def test_it_answers_again() -> None:
    router = Router(ONE).fail(ONE, 3)
    upstream = router.upstreams.get(ONE)
    assert upstream is not None
    router.upstreams.began(upstream)
    router.upstreams.ended(upstream, Outcome.ANSWERED)
    assert answering([router.said], "/v/shop.ini", False) == (ALL, "")


def test_it_has_failed_and_can_be_reached() -> None:
    router = Router(ONE).fail(ONE, 2, "it answered 502")
    upstream = router.upstreams.get(ONE)
    assert upstream is not None
    router.upstreams.tried(upstream, "")
    assert answering([router.said], "/v/shop.ini", False) == (ALL, "")
    # Five times is no accident, though it takes connections.
    router.fail(ONE, 3, "it answered 502")
    router.upstreams.tried(upstream, "")
    assert answering([router.said], "/v/shop.ini", False)[0] == NONE


def test_some_of_several() -> None:
    router = Router(ONE, OTHER, THIRD).fail(ONE, 5)
    how, why = answering([router.said], "/v/shop.ini", False)
    assert how == SOME
    assert why.startswith(f"1 of 3 upstreams does not answer: {ONE} has failed 5 times in a row: it cannot")
    how, why = answering([router.fail(OTHER).fail(THIRD).said], "/v/shop.ini", False)
    assert how == NONE
    assert why.startswith("no upstream answers: ") and "; and 1 more (" in why


def test_one_that_is_down_by_its_health_check() -> None:
    router = Router(ONE, OTHER)
    upstream = router.upstreams.get(OTHER)
    assert upstream is not None
    for _ in range(3):
        router.upstreams.checked(upstream, False, "it answers 500")
    how, why = answering([router.said], "/v/shop.ini", False)
    assert how == SOME and f"{OTHER} does not pass its health check: it answers 500 (" in why


def test_of_several_routers_the_worst_counts() -> None:
    well, ill = Router(ONE), Router(ONE).fail(ONE)
    assert answering([well.said, ill.said], "/v/shop.ini", False)[0] == NONE
    assert answering([well.said, well.said], "/v/shop.ini", False)[0] == ALL
    ill = Router(ONE, OTHER).fail(ONE)
    assert answering([ill.said, {"upstreams": []}], "/v/shop.ini", False)[0] == SOME


def test_nobody_has_said_and_nobody_has_subscribed() -> None:
    assert answering([], "/v/shop.ini", True) == ("", "")
    assert answering([{"upstreams": []}], "/v/shop.ini", False) == ("", "")
    how, why = answering([{"upstreams": []}], "/v/shop.ini", True)
    assert how == NONE and "no node has subscribed" in why


def test_workers_of_other_hosts_are_there_or_not() -> None:
    own, far = {"host": "", "ready": 1}, {"host": "10.0.0.5", "ready": 1}
    assert workers_elsewhere([]) == ("", "")
    assert workers_elsewhere([{"links": [own]}, {"links": [far]}]) == (ALL, "")
    how, why = workers_elsewhere([{"links": [own, {**far, "ready": 0}]}])
    assert how == NONE and why.startswith("no worker of another host is here")
