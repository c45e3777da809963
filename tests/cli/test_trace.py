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


def said(*workers: dict[str, Any], missing: tuple[str, ...] = ()) -> list[str]:
    return lines_of({"name": "blog", "workers": list(workers), "missing": list(missing)})


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
