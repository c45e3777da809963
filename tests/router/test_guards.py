"""What each of the router's guards is for: with it left out (a test-only switch) the thing it guards against happens."""

import os
from collections.abc import Callable

import pytest

from emperor.control.channel import ControlError
from emperor.protocol import records
from tests.router.client import get
from tests.router.stage import Stage, Vassal, open_stage
from tests.router.test_successor import replace

NOBODY = 65534


def forged_token(blog: Vassal) -> bool:
    worker = blog.active().stranger()
    worker.hello(token=bytes(32))
    got = worker.receive()
    assert got is not None
    return got[0] == records.WELCOME


def another_user(blog: Vassal) -> bool:
    os.chmod(blog.endpoint, 0o666)
    other = blog.active().remote(uid=NOBODY)
    other.call("hello")
    try:
        other.call("welcomed")
    except AssertionError:
        return False
    return True


def forged_nonce(blog: Vassal) -> bool:
    worker = blog.active().stranger()
    worker.hello()
    worker.welcomed()
    worker.ready(nonce=bytes(16))
    blog.stage.http(get())
    got = worker.receive()
    assert got is not None
    return got[0] == records.REQUEST


def page_that_can_be_cut(blog: Vassal) -> bool:
    generation = blog.generation(sealed=False, tell=False)
    try:
        generation.tell()
    except ControlError:
        return False
    return True


def answer_of_another_life(blog: Vassal) -> bool:
    """An answer that the old router was due reaches a client of the new one."""
    worker = blog.active(seats=1).worker()
    blog.stage.http(get(path="/old"))
    old = worker.take()
    replace(blog.stage)
    worker.let_go(old)
    worker.connect()
    worker.join()
    client = blog.stage.http(get(path="/new"))
    new = worker.take()
    worker.send(
        records.pack_response(records.FIN, records.NO_WORD, old.stream, 0, b"200 OK\r\n", b"of another")
    )
    if old.stream != new.stream:
        worker.respond(new, body=b"its own")
    return client.response().body == b"of another"


@pytest.mark.parametrize(
    ("guard", "happens"),
    [
        ("token", forged_token),
        ("uid", another_user),
        ("nonce", forged_nonce),
        ("seals", page_that_can_be_cut),
        ("epoch", answer_of_another_life),
    ],
)
@pytest.mark.parametrize("omitted", [False, True], ids=["kept", "left out"])
def test_a_guard_keeps_out_what_comes_in_without_it(
    guard: str, happens: Callable[[Vassal], bool], omitted: bool
) -> None:
    if guard == "uid" and os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    with open_stage(env={"EMPEROR_TEST_OMIT": guard} if omitted else None) as stage:
        blog: Vassal = furnished(stage)
        assert happens(blog) is omitted


def furnished(stage: Stage) -> Vassal:
    stage.vassal("neighbour")
    blog = stage.vassal("blog")
    stage.open_for_business()
    return blog
