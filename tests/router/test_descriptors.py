"""No descriptor left for a client: nobody is turned away without a word, who waits is served later, who is in goes on."""

import os
import resource
from collections.abc import Iterator

import pytest

from emperor.control.channel import ControlError
from emperor.router.descriptors import EVERY, Descriptors, _told
from tests.router.client import get
from tests.router.stage import Stage, open_stage
from tests.scenarios.harness.waiting import wait_for


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage() as made:
        yield made


def leave(stage: Stage, more: int) -> tuple[int, int]:
    """Let the router have so many descriptors more than it has now; what it had may be given back."""
    limits = resource.prlimit(stage.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{stage.pid}/fd"))
    resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, (used + more, limits[1]))
    return limits


def descriptors(stage: Stage) -> list[str]:
    return os.listdir(f"/proc/{stage.pid}/fd")


def ticks(stage: Stage) -> int:
    """Processor time of all its threads, in clock ticks."""
    with open(f"/proc/{stage.pid}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))


def test_who_comes_when_none_is_left_waits_and_is_served(stage: Stage) -> None:
    blog = stage.vassal("blog")
    stage.open_for_business()
    blog.active().answering()
    neighbour = stage.http(get(path="/before"))
    assert neighbour.response().body == b"GET /before 0"
    limits = leave(stage, 0)
    stage.wait_log(
        r"^descriptors: \d+ of \d+ are in use, 1 of them by clients: nobody is accepted .*LimitNOFILE"
    )
    late = [stage.http(get(path=f"/late{number}")) for number in range(5)]
    before = ticks(stage)
    for turn in range(20):
        neighbour.send(get(path=f"/{turn}"))
        assert neighbour.response().body == f"GET /{turn} 0".encode()
    assert stage.stats()["connections"] == 1
    assert ticks(stage) - before < 20, "it does nothing but fail to accept"
    resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, limits)
    for number, client in enumerate(late):
        assert client.response().body == f"GET /late{number} 0".encode()
    stage.wait_log(r"^descriptors: there are some again")


def test_clients_alone_cannot_take_the_last() -> None:
    few = ("/bin/sh", "-c", 'ulimit -n 100 && exec "$@"', "sh")
    caps = ("--max-connections=1000", "--max-connections-per-address=1000")
    with open_stage(*caps, under=few) as stage:
        blog = stage.vassal("blog")
        stage.open_for_business()
        blog.active().answering()
        clients = [stage.http(get(path=f"/{number}")) for number in range(90)]
        stage.wait_log(r"^descriptors: \d+ of 100 are in use")
        served = stage.stats()["connections"]
        assert 20 < served < 90
        # There are some for a worker that comes all the same.
        blog.generations[1].answering(seat=1)
        for client in clients[:served]:
            assert client.response().status == 200
            client.close()
        for client in clients[served:]:
            assert client.response().status == 200


def test_where_there_are_few_who_is_one_too_many_is_told_so_all_the_same() -> None:
    few = ("/bin/sh", "-c", 'ulimit -n 4000 && exec "$@"', "sh")
    with open_stage("--max-connections=4", "--max-connections-per-address=4", under=few) as stage:
        blog = stage.vassal("blog")
        stage.open_for_business()
        blog.active().answering()
        clients = [stage.http(get()) for _ in range(4)]
        assert [client.response().status for client in clients] == [200] * 4
        assert stage.http(get()).response().status == 503
        clients[0].close()
        wait_for(lambda: stage.stats()["connections"] == 3, 10, stage.stats)
        assert stage.http(get()).response().status == 200


def test_a_router_that_drains_answers_who_waited(stage: Stage) -> None:
    blog = stage.vassal("blog")
    stage.open_for_business()
    blog.active().answering()
    limits = leave(stage, 0)
    stage.wait_log(r"^descriptors: \d+ of \d+ are in use")
    late = stage.http(get(path="/late"))
    resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, limits)
    stage.tell("drain", timeout_s=5.0)
    assert late.response().body == b"GET /late 0"
    assert stage.wait_exit() == 0


def test_a_vassal_that_there_is_no_descriptor_for_is_refused_whole_and_taken_later(stage: Stage) -> None:
    """What is refused is not known: the emperor sees that it has to tell it again."""
    stage.vassal("blog")
    stage.open_for_business()
    late = stage.vassal("late", tell=False)
    for _ in range(5):
        stage.hello()  # its listeners are opened in turns of its own
    limits = resource.prlimit(stage.pid, resource.RLIMIT_NOFILE)
    highest, before = max(map(int, descriptors(stage))), len(descriptors(stage))

    def squeeze() -> None:
        # One fewer each time, so that it is the last that is missing.
        for room in range(highest + 8, highest, -1):
            resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, (room, limits[1]))
            stage.tell("vassal", [late.listener.fileno()], entry=late.entry.to_json())
            stage.tell("remove", name="late")
            wait_for(lambda: len(descriptors(stage)) == before, 10, lambda: descriptors(stage))

    with pytest.raises(ControlError, match="Too many open files"):
        squeeze()
    assert [each["name"] for each in stage.hello()["vassals"]] == ["blog"]
    resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, limits)
    late.tell()
    late.active().answering()
    assert stage.http(get(host="late.localhost")).response().status == 200


def limit_of(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("emperor.router.descriptors._limit", lambda: limit)


def test_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = [400]
    monkeypatch.setattr("emperor.router.descriptors._told", lambda: in_use[0])
    monkeypatch.setattr(os, "listdir", lambda _path: pytest.fail("counted one by one"))
    limit_of(monkeypatch, 1000)
    found = Descriptors()
    assert not found.look(300)
    assert (found.others, found.free, found.few) == (100, 32, True)
    assert not found.short(868) and found.short(869)
    in_use[0] = 500
    assert not found.look(300)
    assert found.others == 200
    limit_of(monkeypatch, 64)
    in_use[0] = 64
    assert found.look(1)
    assert found.free == 8
    limit_of(monkeypatch, 8192)
    assert not found.look(1)
    assert (found.free, found.few) == (2048, False)


def test_where_the_kernel_does_not_tell_they_are_counted_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emperor.router.descriptors._told", lambda: -1)
    monkeypatch.setattr(os, "listdir", lambda _path: range(401))
    limit_of(monkeypatch, 1000)
    found = Descriptors()
    assert not found.look(300)
    assert found.others == 100
    monkeypatch.setattr(os, "listdir", lambda _path: range(701))
    for _ in range(EVERY - 1):
        assert not found.look(300)
        assert found.others == 100
    assert not found.look(300)
    assert found.others == 400
    assert not found.look(350)
    assert found.others == 350, "many more have come, and little is left"


def test_what_the_kernel_tells_is_what_there_is() -> None:
    counted = len(os.listdir("/proc/self/fd")) - 1
    assert _told() in (-1, counted)
    with open(os.devnull), open(os.devnull):
        assert _told() in (-1, counted + 2)
