"""Two generations of a vassal, of which the new one gets a part of the requests."""

from collections import Counter
from types import SimpleNamespace

import pytest

from emperor.protocol import packet, records
from emperor.router.canary import NAME, Canary, chance
from emperor.router.exchange import Exchange

from .client import get
from .parts import Nobody
from .stage import Vassal
from .worker import FakeWorker, Request

OTHER = 0x7FFF_FFFF
"""Another router's epoch."""


def asked(arrived: float = 0.0, cookie: str = "", **more: str) -> Exchange:
    pairs = {
        "REQUEST_METHOD": "GET",
        "HTTP_HOST": "blog.localhost",
        "PATH_INFO": "/",
        "HTTP_COOKIE": cookie,
        **more,
    }
    head = packet.admit(packet.encode((key.encode(), value.encode()) for key, value in pairs.items()))
    nobody = Nobody()
    return Exchange(nobody, head, arrived, nobody)  # type: ignore[arg-type]


def test_the_part_holds_and_a_request_that_waits_is_not_dealt_out_anew() -> None:
    canary = Canary("blog", 2, 5.0)
    times = [1000 + number / 3000 for number in range(20_000)]
    # Of 20,000 draws of 5 %: eight standard deviations.
    assert 750 < sum(canary.takes(asked(each)) for each in times) < 1250
    assert {canary.takes(asked(times[7])) for _ in range(5)} == {chance(times[7]) * 100 < 5}


def test_a_client_stays_for_this_trial() -> None:
    canary = Canary("blog", 2, 5.0)
    for generation, new in ((2, True), (1, False)):
        field = canary.cookie_for(asked(HTTPS="on"), generation).decode()
        said = field.removeprefix("Set-Cookie: ").partition(";")[0]
        assert field.endswith("; Path=/; HttpOnly; SameSite=Lax; Secure\r\n") and said.startswith(f"{NAME}=")
        assert {canary.takes(asked(number / 7, said)) for number in range(200)} == {new}
        assert not canary.cookie_for(asked(0.0, said), generation)
        later = Canary("blog", 3, 5.0)
        assert later.cookie_for(asked(0.0, said), 2), "it says nothing of the next trial"


def test_without_both_there_is_nothing_to_choose() -> None:
    new, old = SimpleNamespace(generation=2), SimpleNamespace(generation=1)
    canary = Canary("blog", 2, 5.0)
    assert canary.sorted([old, new, old]) == ([new], [old, old])
    assert canary.sorted([old]) is canary.sorted([new]) is canary.sorted([]) is None


# In a router


def serve(blog: Vassal, number: int, seats: int = 1) -> None:
    def answer(worker: FakeWorker, request: Request) -> None:
        worker.respond(request, f"200 OK\r\nX-Generation: {number}\r\n")

    generation = blog.generation(number, seats=seats)
    for seat in range(seats):
        generation.answering(answer, seat)


def activate(blog: Vassal, generation: int, *beside: int, share: float = 0.0) -> None:
    said = {"beside": list(beside), **({"share": share} if share else {})}
    blog.stage.tell("activate", name="blog", generation=generation, **said)


def who(blog: Vassal, count: int, *fields: str) -> Counter[str]:
    return Counter(
        blog.stage.http(get("blog.localhost", "/", *fields)).response().headers["x-generation"]
        for _ in range(count)
    )


@pytest.mark.parametrize("seats", [1, 2])
def test_it_gets_its_part_and_then_all(blog: Vassal, seats: int) -> None:
    serve(blog, 1, seats)
    activate(blog, 1)
    serve(blog, 2, seats)
    activate(blog, 2, 1, share=50.0)
    # Of 60 draws none falls to one of them: once in 10^18.
    assert set(who(blog, 60)) == {"1", "2"}
    first = blog.stage.http(get()).response()
    said = first.headers["set-cookie"].partition(";")[0]
    assert who(blog, 10, f"Cookie: {said}") == {first.headers["x-generation"]: 10}
    activate(blog, 2, 1, share=0.001)
    # Once in a hundred thousand requests.
    assert who(blog, 10)["1"] >= 9
    activate(blog, 2)
    assert who(blog, 10) == {"2": 10}
    assert "set-cookie" not in blog.stage.http(get()).response().headers


def test_its_part_goes_to_the_one_before_while_it_has_nobody(blog: Vassal) -> None:
    serve(blog, 1)
    activate(blog, 1)
    blog.generation(2)
    activate(blog, 2, 1, share=99.0)
    assert who(blog, 10) == {"1": 10}


def test_slots_of_the_new_one_that_another_router_has_are_asked_for(blog: Vassal) -> None:
    """Else its clients would all go to the one before, for as long as that one's slots are enough."""
    serve(blog, 1)
    activate(blog, 1)
    new = blog.generation(2, seats=1, routers=2).stranger()
    assert new.board.take(0, 0, OTHER)
    new.join()
    blog.wait_link(generation=2, slots=0)
    activate(blog, 2, 1, share=99.0)
    assert who(blog, 20) == {"1": 20}
    new.expect(records.DEMAND)
    assert new.board.release(0, 0, OTHER)
    new.send(records.pack(records.GRANT, 0, records.NO_WORD, 0, records.pack_slots(1)))
    blog.wait_link(generation=2, slots=1)


def test_what_waits_for_the_one_before_does_not_go_to_the_new_one(blog: Vassal) -> None:
    old = blog.active(1, seats=1, deck=1).worker()
    new = blog.generation(2, seats=1).worker()
    activate(blog, 2, 1, share=0.001)
    clients = [blog.stage.http(get(path=f"/{number}")) for number in range(6)]
    served = 0
    for client in clients:
        old.respond(old.take(timed=False))
        served += client.response().status == 200
    assert served == 6
    new.expect_nothing()
