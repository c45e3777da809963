"""The same ini file, served by a real uWSGI and by us, gives the same answers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Fleet, Response, accepts, fetch, free_port, wait_for
from .harness.fleet import APPS

REQUESTS = {
    "plain": ("GET", "/", None, {}),
    "query": ("GET", "/a/b?x=1&x=2&empty=&plus=a+b", None, {}),
    "escapes": ("GET", "/caf%C3%A9/a%20b%2Fc?q=%E2%82%AC", None, {}),
    "double slash": ("GET", "//a//b", None, {}),
    "no such page": ("GET", "/missing", None, {}),
    "fields": ("GET", "/", None, {"X-One": "1", "X-Two-Three": "a, b"}),
    "empty post": ("POST", "/", b"", {"Content-Type": "text/plain"}),
    "post": ("POST", "/form", b"a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"}),
    "large post": ("POST", "/", bytes(range(256)) * 8000, {"Content-Type": "application/octet-stream"}),
    "put": ("PUT", "/thing/1", b"{}", {"Content-Type": "application/json"}),
    "delete": ("DELETE", "/thing/1", None, {}),
    "options": ("OPTIONS", "/", None, {}),
}


@pytest.fixture
def both(fleet: Fleet) -> Iterator[tuple[int, int]]:
    """Our HTTP port, and that of a real uWSGI on the very same file."""
    ini = fleet.vassal(
        "echo",
        module="echo",
        callable="application",
        pythonpath=APPS,
        processes=2,
        chdir=APPS,
        env="WHO=both",
    )
    fleet.start()
    port = free_port()
    uwsgi = fleet.orphans.popen(
        [
            Path(sys.executable).with_name("uwsgi"),
            "--ini",
            ini,
            "--http-socket",
            f"127.0.0.1:{port}",
            "--master",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: accepts(port), 10)
    yield fleet.http_port, port
    os.killpg(uwsgi.pid, signal.SIGKILL)
    uwsgi.wait(10)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_same_answer(both: tuple[int, int], name: str) -> None:
    method, path, body, fields = REQUESTS[name]
    ours, theirs = (fetch(port, "echo.localhost", path, method, body, fields) for port in both)
    assert comparable(ours) == comparable(theirs)


def test_head(both: tuple[int, int]) -> None:
    ours, theirs = (fetch(port, "echo.localhost", "/", "HEAD") for port in both)
    assert comparable(ours) == comparable(theirs)


def comparable(answer: Response) -> tuple[object, ...]:
    named = ("content-type", "content-length")
    return answer.status, answer.body, answer.cookies, [answer.fields.get(name) for name in named]
