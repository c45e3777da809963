"""Workers that have served long enough make way for fresh ones, and no request notices."""

from __future__ import annotations

import os
from typing import Any

import pytest

from .harness import Fleet, Flood, Target, begun_requests, wait_for
from .harness.records import begun_twice

LEAK = """
    import os, time

    kept = []

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/leak":
            kept.append(b"x" * (int(environ["QUERY_STRING"]) << 20))
        if environ["PATH_INFO"] == "/hold":
            kept.append(b"x" * (200 << 20))
            time.sleep(30)
        if environ["PATH_INFO"] == "/raise":
            raise ValueError("no such row")
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]
"""


def recycled(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    """The workers, once all of them serve and somebody has been recycled."""

    def found() -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = fleet.vassal_status(name).get("workers", [])
        all_ready = all(each["state"] == "ready" for each in workers)
        return workers if all_ready and any(each["recycled"] for each in workers) else []

    return wait_for(found, 20, lambda: f"{fleet.vassal_status(name)}\n{fleet.log()[-3000:]}")  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [{}, {"threads": 4}, {"threads": 4, "wsgi-on-loop": "true"}])
def test_max_requests_fails_no_request_under_load(fleet: Fleet, engine: dict[str, int]) -> None:
    fleet.nonce_vassal("a", processes=2, max_requests=40, min_worker_lifetime=0, **engine)
    fleet.start()
    targets = [Target("a"), Target("a", "&sleep=10"), Target("a", body_bytes=100_000)]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers").start()

    def times() -> int:
        return sum(each["recycled"] for each in fleet.vassal_status("a").get("workers", []))

    most = 0

    def eight_times() -> bool:
        nonlocal most
        most = max(most, len(fleet.vassal_status("a").get("workers", [])))
        return times() >= 8

    wait_for(eight_times, 40, lambda: f"{times()} times; {fleet.log()[-2000:]}")
    answers = flood.stop()
    assert [answer for answer in answers if not answer.ok] == []
    assert begun_twice(begun_requests(fleet.nonce_log("a"))) == {}
    assert most <= 3, "one more than the app has, at the most"
    fleet.wait_log("is recycled once another serves: max-requests: ")
    fleet.wait_ready("a")


def test_a_worker_that_grows_is_replaced_and_says_why(fleet: Fleet) -> None:
    fleet.app("a", LEAK, reload_on_rss=150, min_worker_lifetime=0)
    fleet.start()
    first = fleet.get("a").text
    assert fleet.get("a", "/leak?200").text == first
    (worker,) = recycled(fleet, "a")
    assert worker["last_exit"].startswith("recycled: reload-on-rss: ")
    assert worker["last_exit"].endswith(" of at most 150 MB")
    assert str(worker["pid"]) == fleet.get("a").text != first
    status = " ".join(fleet.cli("status", "--run-dir", fleet.run_dir).stdout.split())
    assert "worker 1: recycled: reload-on-rss: " in status
    wait_for(lambda: not os.path.exists(f"/proc/{first}"), 10, "the old one to leave")


def test_an_evil_one_is_killed_in_the_middle_of_its_request(fleet: Fleet) -> None:
    fleet.app("a", LEAK, evil_reload_on_rss=150, retries="false")
    fleet.start()
    answer = fleet.get("a", "/hold")
    assert answer.status == 502
    (worker,) = recycled(fleet, "a")
    assert worker["last_exit"].startswith("evil-reload-on-rss: ")
    assert fleet.get("a").status == 200


def test_an_exception_makes_room_for_a_fresh_worker(fleet: Fleet) -> None:
    fleet.app("a", LEAK, reload_on_exception_type="ValueError", min_worker_lifetime=0)
    fleet.start()
    first = fleet.get("a").text
    assert fleet.get("a", "/raise").status == 500
    (worker,) = recycled(fleet, "a")
    assert worker["last_exit"].startswith("recycled: reload-on-exception-type: ValueError: no such row (")
    assert fleet.get("a").text == str(worker["pid"]) != first


def test_a_worker_of_age_is_replaced_and_the_emperor_that_comes_later_knows(fleet: Fleet) -> None:
    fleet.app("a", LEAK, max_worker_lifetime="1s", max_worker_lifetime_delta=0, min_worker_lifetime=0)
    fleet.start()
    recycled(fleet, "a")
    fleet.kill_emperor()
    fleet.start(ready=False)
    before = recycled(fleet, "a")[0]["recycled"]
    wait_for(lambda: recycled(fleet, "a")[0]["recycled"] > before, 15, fleet.log)
    assert fleet.get("a").status == 200
