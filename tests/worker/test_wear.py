"""What a worker says of its own wear; the worker is real, its gateway and its router are the test."""

from __future__ import annotations

import pytest

from emperor.config.recycling import Recycling
from emperor.protocol import records
from vassals.worker.wear import Wear

from .peer import Stage

APP = """
    def application(environ, start_response):
        match environ["PATH_INFO"]:
            case "/value":
                raise ValueError("no such row")
            case "/exit":
                raise SystemExit
            case "/late":
                def pieces():
                    yield b"x"
                    raise KeyError("late")
                start_response("200 OK", [])
                return pieces()
        start_response("200 OK", [])
        return [b"ok"]
"""


def test_it_says_once_that_it_has_served_enough_and_serves_on(stage: Stage) -> None:
    router, worker = stage.serving(APP, recycling={"max_requests": 3})
    for _ in range(5):
        assert router.get().body == b"ok"
    assert worker.told("worn")["reason"] == "max-requests: 3 served"
    worker.order("drain")
    router.expect(records.BYE)
    router.send(records.pack(records.BYE_ACK, 0, records.NO_WORD, 0, b""))
    assert worker.exit_code() == 0
    assert worker.leash.recv(65536) == b"", "once is enough"


def test_under_a_load_that_never_ends_it_hears_that_it_may_go(stage: Stage) -> None:
    """There is always a next request in its socket: it must look at its orders all the same."""
    router, worker = stage.serving(APP, recycling={"max_requests": 10})
    streams = [router.request() for _ in range(8)]
    worker.order("drain")
    answered = 0
    while True:
        got = router.receive()
        assert got is not None, "it left without a word"
        kind, _, _, stream, _ = got[1]
        if kind == records.BYE:
            break
        if kind == records.RESPONSE:
            answered += 1
            streams.remove(stream)
            streams.append(router.request())
            assert answered < 1000, "it never looks"


@pytest.mark.parametrize(
    ("path", "recycling", "reason"),
    [
        ("/value", {"on_exception": True}, "reload-on-exception: ValueError: no such row"),
        ("/late", {"on_exception": True}, "reload-on-exception: KeyError: 'late'"),
        ("/value", {"exception_types": ["ValueError"]}, "reload-on-exception-type: ValueError: no such row"),
        ("/value", {"exception_values": ["no such row"]}, "reload-on-exception-value: ValueError: no such"),
        ("/value", {"exception_reprs": ["ValueError: no such row"]}, "reload-on-exception-repr: ValueError"),
    ],
)
def test_an_exception_that_is_minded(stage: Stage, path: str, recycling: object, reason: str) -> None:
    router, worker = stage.serving(APP, recycling=recycling)
    assert router.get("/").body == b"ok"
    router.get(path)
    said = worker.told("worn")["reason"]
    assert said.startswith(reason)
    assert "blog.py:" in said, "where it was raised"


def test_one_that_is_not_minded_is_only_logged(stage: Stage) -> None:
    router, worker = stage.serving(
        APP, recycling={"exception_types": ["KeyError"], "exception_values": ["row"]}
    )
    assert router.get("/value").head.startswith("500 ")
    router.get("/late")
    assert worker.told("worn")["reason"].startswith("reload-on-exception-type: KeyError")


def tell_of(error: BaseException, **limits: object) -> list[str]:
    said: list[str] = []
    Wear(Recycling(**limits), said.append).raised(error)  # type: ignore[arg-type]
    return said


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize("text", ["ValueError", "builtins.ValueError"])
def test_a_type_by_its_name_with_or_without_its_module(text: str) -> None:
    assert tell_of(ValueError(1), exception_types=(text,))
    assert not tell_of(UnicodeError(1), exception_types=(text,)), "its own name, as in uWSGI"


@pytest.mark.parametrize(
    "text", ["ValueError: no row", "ValueError('no row')", "builtins.ValueError: no row"]
)
def test_a_repr_in_either_spelling(text: str) -> None:
    assert tell_of(ValueError("no row"), exception_reprs=(text,))
    assert not tell_of(ValueError("row"), exception_reprs=(text,))


def test_an_exception_that_cannot_even_be_shown() -> None:
    assert tell_of(Odd(), on_exception=True) == ["reload-on-exception: Odd"]
    assert tell_of(Odd(), exception_reprs=("x",)) == []


def test_a_long_message_is_cut_to_its_first_words() -> None:
    (said,) = tell_of(ValueError("x" * 500 + "\nmore"), on_exception=True)
    assert len(said) < 160 and "\n" not in said
