"""What an app has called in each of its workers; the worker is real, its gateway and its router are the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from emperor.protocol import records

from .peer import Stage, open_stage

APP = """
    import os, sys

    said = []

    def connect():
        said.append("connect")

    def warm():
        said.append("warm")

    def bye():
        print("bye after", said, flush=True)

    def broken():
        raise ConnectionError("no route to db")

    def application(environ, start_response):
        start_response("200 OK", [])
        return [" ".join(said).encode()]
"""


def leave(router: Any, worker: Any) -> int:
    worker.order("drain")
    router.expect(records.BYE)
    router.send(records.pack(records.BYE_ACK, 0, records.NO_WORD, 0, b""))
    return int(worker.exit_code())


def begun(worker: Any, what: str) -> None:
    """The gateway hears before a hook, and after: who does not come back can be named."""
    assert worker.told("hook")["reason"] == what
    assert worker.told("hook")["reason"] == ""


def test_each_at_its_moment(stage: Stage) -> None:
    hooks = {"post_fork": ["blog:connect"], "worker_ready": ["blog:warm"], "worker_exit": ["blog:bye"]}
    router = stage.router()
    worker = stage.worker(APP, hooks=hooks)
    for option, name in (("post-fork", "connect"), ("worker-ready", "warm"), ("worker-exit", "bye")):
        begun(worker, f"{option}-hook blog:{name}")  # found, before any is called
    begun(worker, "post-fork-hook blog:connect")
    worker.told("loaded")
    router.welcome()
    worker.told("ready")
    begun(worker, "worker-ready-hook blog:warm")
    assert router.get().body == b"connect warm", "before the first request"
    assert leave(router, worker) == 0
    assert "bye after ['connect', 'warm']" in worker.log()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("blog:broken", "post-fork-hook blog:broken: ConnectionError: no route to db ("),
        ("blog:nothing", "post-fork-hook blog:nothing: module blog has no 'nothing'; it has"),
        (
            "blog:said",
            "post-fork-hook blog:said: said in module blog is of type list, which cannot be called",
        ),
        ("nowhere:x", "post-fork-hook nowhere:x: there is no module 'nowhere'; looked in"),
    ],
)
def test_a_post_fork_that_fails_fails_the_start_and_says_where(stage: Stage, name: str, reason: str) -> None:
    worker = stage.worker(APP, hooks={"post_fork": [name]})
    while (said := worker.told(None))["state"] == "hook":
        pass
    assert said["state"] == "failed" and said["reason"].startswith(reason)
    assert worker.exit_code() == 70
    if name == "blog:broken":
        assert f"({stage.directory / 'blog.py'}:" in said["reason"]


def test_the_others_are_logged_and_nothing_else(stage: Stage) -> None:
    router = stage.router()
    worker = stage.worker(
        APP, hooks={"worker_ready": ["blog:broken"], "worker_exit": ["blog:broken", "blog:bye"]}
    )
    while worker.told(None)["state"] != "loaded":
        pass
    router.welcome()
    assert router.get().body == b""
    assert leave(router, worker) == 0
    log = worker.log()
    assert "worker-ready-hook blog:broken: ConnectionError: no route to db" in log
    assert "worker-exit-hook blog:broken: ConnectionError: no route to db" in log
    assert "bye after []" in log, "the next one is called all the same"


@pytest.fixture
def wide() -> Iterator[Stage]:
    with open_stage(2) as stage:
        yield stage


def test_in_a_worker_of_several_requests(wide: Stage) -> None:
    router = wide.router()
    worker = wide.worker(APP, hooks={"worker_ready": ["blog:warm"], "worker_exit": ["blog:bye"]})
    while worker.told(None)["state"] != "loaded":
        pass
    router.welcome()
    assert router.get().body == b"warm"
    assert leave(router, worker) == 0
    assert "bye after ['warm']" in worker.log()
