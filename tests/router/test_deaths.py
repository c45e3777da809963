"""A worker dies: what had begun is answered for, what had not is run elsewhere, and nothing is run twice."""

import os
import signal

import pytest

from tests.router.client import CutShort, get
from tests.router.stage import Vassal


def test_killed_with_one_begun_and_some_on_deck(blog: Vassal) -> None:
    """The one that had begun gets a 502; those on its deck go, in their order, to whoever comes next."""
    generation = blog.active(seats=1)
    doomed = generation.remote()
    doomed.call("join")
    begun = blog.stage.http(get(path="/begun"))
    doomed.call("take", timed=False)
    waiting = []
    for index in range(3):
        waiting.append(blog.stage.http(get(path=f"/{index}")))
        blog.wait_stat("on_deck", index + 1)
    doomed.kill()
    assert begun.response().status == 502
    blog.wait_stat("queued", 3)
    heir = generation.answering()
    assert [client.response().body.decode() for client in waiting] == [
        f"GET /{index} 0" for index in range(3)
    ]
    assert [request.path for request in heir.seen] == ["/0", "/1", "/2"]
    assert blog.stats()["requeued"] == 3


def test_killed_before_it_met_the_request(blog: Vassal) -> None:
    generation = blog.active(seats=1)
    doomed = generation.remote()
    doomed.call("join")
    blog.wait_link()  # what it said has left its own threads
    os.kill(doomed.pid, signal.SIGSTOP)
    client = blog.stage.http(get())
    blog.wait_stat("running", 1)
    doomed.kill()
    generation.answering()
    assert client.response().status == 200


def test_killed_between_meeting_and_claiming(blog: Vassal) -> None:
    generation = blog.active(seats=1)
    doomed = generation.remote()
    doomed.call("join")
    client = blog.stage.http(get())
    doomed.call("offered")
    doomed.kill()
    generation.answering()
    assert client.response().status == 200


def test_killed_between_claiming_and_beginning(blog: Vassal) -> None:
    """From the claim on nobody can know whether it ran: it is not run again."""
    generation = blog.active(seats=1)
    doomed = generation.remote()
    doomed.call("join")
    client = blog.stage.http(get())
    assert doomed.call("claim", doomed.call("offered"))
    doomed.kill()
    heir = generation.answering()
    assert client.response().status == 502
    assert heir.seen == []


def test_killed_when_it_had_ended_and_not_said_so(blog: Vassal) -> None:
    """Free again on the page, and its answer lost on the way out: it ran."""
    generation = blog.active(seats=1)
    doomed = generation.remote()
    doomed.call("join")
    client = blog.stage.http(get())
    doomed.call("let_go", doomed.call("take"))
    doomed.kill()
    heir = generation.answering()
    assert client.response().status == 502
    assert heir.seen == []


def test_killed_inside_a_response(blog: Vassal) -> None:
    doomed = blog.active().remote()
    doomed.call("join")
    client = blog.stage.http(get())
    taken = doomed.call("take")
    doomed.call("respond", taken, body="half", fin=False)
    client.head()
    doomed.kill()
    with pytest.raises(CutShort) as cut:
        client.read_exactly(1000)
    assert cut.value.how == "reset"


def test_killed_inside_an_upload(blog: Vassal) -> None:
    doomed = blog.active().remote()
    doomed.call("join")
    client = blog.stage.http(
        b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 1000000\r\n\r\n", timeout_s=10
    )
    client.send(b"x" * 100_000)
    doomed.call("take")
    client.send(b"x" * 100_000)
    doomed.kill()
    assert client.response().status == 502


def test_what_it_wrote_before_it_was_killed_still_counts(blog: Vassal) -> None:
    for _ in range(5):
        doomed = blog.active(seats=1).remote()
        doomed.call("join")
        client = blog.stage.http(get())
        taken = doomed.call("take")
        with blog.stage.frozen():  # it learns of the answer and of the death at once
            doomed.call("respond", taken, body="last words")
            doomed.call("wait_written")
            doomed.kill()
        assert client.response().body == b"last words"
        blog.wait_stat("links", [])


def test_another_worker_takes_over_at_once(blog: Vassal) -> None:
    generation = blog.active(seats=2)
    doomed = generation.remote(1)
    doomed.call("join")
    blog.wait_link(seat=1)
    first = blog.stage.http(get(path="/first"))
    taken = doomed.call("take", timed=False)
    second = blog.stage.http(get(path="/second"))
    blog.wait_stat("on_deck", 1)
    doomed.call("begin", taken)
    generation.answering(seat=0)
    assert second.response().body == b"GET /second 0"
    doomed.kill()
    assert first.response().status == 502


def test_a_descriptor_that_a_child_holds_does_not_hide_the_death(blog: Vassal) -> None:
    """The connection stays open as long as any process has it; the pidfd tells the truth."""
    doomed = blog.active().remote()
    doomed.call("join")
    child = doomed.call("fork_a_child")
    try:
        client = blog.stage.http(get())
        doomed.call("take")
        doomed.kill()
        assert client.response().status == 502
        blog.wait_stat("links", [])
    finally:
        os.kill(child, signal.SIGKILL)
