"""`emperor trace` in words."""

from typing import Any

from emperor.cli.trace import lines_of


def worker(**other: Any) -> dict[str, Any]:
    return {
        "generation": 3,
        "seat": 1,
        "pid": 77,
        "state": "ready",
        "requests": [],
        "stacks": ["Thread 0x1 (most recent call first):", '  File "app.py", line 3 in wait'],
        "mute": "",
        **other,
    }


def said(*workers: dict[str, Any], missing: tuple[str, ...] = (), **other: Any) -> list[str]:
    found = {
        "name": "blog",
        "workers": list(workers),
        "upstreams": [],
        "elsewhere": "",
        "missing": list(missing),
    }
    return lines_of({**found, **other})


def test_a_worker_with_what_it_runs() -> None:
    requests = [
        {"request": "GET blog.localhost/a", "ran_ms": 61_234, "wanted": 1},
        {"request": "GET blog.localhost/b", "ran_ms": 40, "wanted": 0},
    ]
    assert said(worker(requests=requests)) == [
        "blog: worker 1 of generation 3, pid 77, ready",
        "  GET blog.localhost/a has run for 61.2 s",
        "  GET blog.localhost/b has run for 0.0 s; nobody waits for it any more",
        "    Thread 0x1 (most recent call first):",
        '      File "app.py", line 3 in wait',
    ]


def test_one_that_does_nothing_and_one_that_shows_nothing() -> None:
    assert said(worker(stacks=[], mute="it is stopped (SIGSTOP?)")) == [
        "blog: worker 1 of generation 3, pid 77, ready, runs no request",
        "    no stacks: it is stopped (SIGSTOP?)",
    ]


def test_who_did_not_answer_and_nobody_at_all() -> None:
    assert said(missing=("the router has not answered within 5 s",)) == [
        "blog: the router has not answered within 5 s"
    ]
    assert said() == ["blog: it has no worker now"]


def test_one_with_upstreams_says_where_a_request_goes() -> None:
    well = {
        "address": "http://a.internal:80",
        "ip": "10.0.0.2",
        "state": "in",
        "backup": 0,
        "failures_in_a_row": 0,
    }
    ill = {
        "address": "uwsgi://10.0.0.3:3031",
        "ip": "",
        "state": "ejected",
        "backup": 1,
        "failures_in_a_row": 5,
    }
    at = [{"request": "GET blog.localhost/a", "phase": "waiting", "arrived_ms": 3_210}]
    upstreams = [
        {**well, "now": at},
        {**ill, "out_for_s": 9, "last_failure": "it cannot be reached: refused", "now": []},
    ]
    assert said(elsewhere="upstreams", upstreams=upstreams) == [
        "blog: it has no workers: its requests go to upstreams",
        "blog: upstream http://a.internal:80 (10.0.0.2) takes requests",
        "  GET blog.localhost/a waits for its answer, 3.2 s after it arrived",
        "blog: upstream uwsgi://10.0.0.3:3031 is left out for 9 s more after failures in a row (backup), and failed last: it "
        "cannot be reached: refused; it has none now",
    ]


def test_one_that_has_been_reached_since_it_failed_says_so() -> None:
    once = {
        "address": "http://a.internal:80",
        "ip": "",
        "state": "in",
        "backup": 0,
        "failures_in_a_row": 1,
        "reached": 1,
        "last_failure": "it answered 502",
        "now": [],
    }
    _, line = said(elsewhere="upstreams", upstreams=[once])
    assert line == (
        "blog: upstream http://a.internal:80 takes requests, and failed last: it answered 502 (it has been reached since); "
        "it has none now"
    )
    for other in ({"reached": 0}, {"state": "down"}, {"failures_in_a_row": 0}):
        _, line = said(elsewhere="upstreams", upstreams=[{**once, **other}])
        assert "since" not in line


def test_those_that_have_neither_workers_nor_upstreams_now() -> None:
    assert said(elsewhere="upstreams")[1:] == ["blog: the router knows of none now"]
    (line,) = said(elsewhere="remote")
    assert "its workers are on other hosts" in line
