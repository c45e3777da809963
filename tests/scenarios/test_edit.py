"""An edit or a touch is a reload: a new generation, and no request fails."""

import http.client
import os
from collections.abc import Callable

import pytest

from .harness import Fleet, Flood, Target, wait_for
from .harness.fleet import APPS
from .harness.records import begun_requests, begun_twice


def edit(fleet: Fleet, turn: int) -> None:
    log = f"NONCE_LOG={fleet.nonce_log('a')}"
    fleet.nonce_vassal("a", processes=2, env=[log, f"TURN={turn}"])


def touch(fleet: Fleet, turn: int) -> None:
    os.utime(fleet.directory / "a.ini")


def replace(fleet: Fleet, turn: int) -> None:
    new = fleet.root / "new.ini"
    new.write_bytes((fleet.directory / "a.ini").read_bytes())
    new.replace(fleet.directory / "a.ini")


def command(fleet: Fleet, turn: int) -> None:
    done = fleet.cli("reload", "a", "--run-dir", fleet.run_dir)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("change", [edit, touch, replace, command])
def test_a_reload_loses_no_request(fleet: Fleet, change: Callable[[Fleet, int], None]) -> None:
    fleet.nonce_vassal("a", processes=2)
    fleet.nonce_vassal("b")
    fleet.start()
    untouched = fleet.vassal_status("b")
    targets = [Target("a"), Target("a", "&sleep=10"), Target("a", body_bytes=100_000), Target("b")]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers").start()
    for turn in range(3):
        generation = fleet.vassal_status("a")["generation"]
        change(fleet, turn)
        wait_for(
            lambda before=generation: (
                (now := fleet.vassal_status("a"))["generation"] > before and now["state"] == "READY"
            ),
            10,
            fleet.summary,
        )
    answers = flood.stop()
    assert [answer for answer in answers if not answer.ok] == []
    assert begun_twice(begun_requests(fleet.nonce_log("a"))) == {}
    now = fleet.vassal_status("b")
    assert (now["generation"], now["gateway"], now["workers"]) == (
        untouched["generation"],
        untouched["gateway"],
        untouched["workers"],
    )


def test_the_new_version_answers_and_the_old_generation_is_gone(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=APPS / "hello.py", env="GREETING=one")
    fleet.start()
    old = fleet.pids()
    assert fleet.get("a").text == "one"
    fleet.vassal("a", wsgi_file=APPS / "hello.py", env="GREETING=two")
    wait_for(lambda: fleet.get("a").text == "two", 5, fleet.summary)
    for role in ("gateway a", "worker a/0"):
        wait_for(
            lambda role=role: not os.path.exists(f"/proc/{old[role]}"), 10, f"{role} of the old generation"
        )
    assert fleet.pid("router") == old["router 0"]


def test_a_running_request_is_finished_by_the_generation_that_began_it(fleet: Fleet) -> None:
    fleet.nonce_vassal("a")
    fleet.start()
    flood = Flood(
        fleet.orphans, fleet.http_port, [Target("a", "&sleep=1500")], fleet.root / "answers", rate=0.5
    )
    flood.start()
    wait_for(lambda: begun_requests(fleet.nonce_log("a")), 5)
    first = fleet.pid("worker", "a")
    touch(fleet, 0)
    wait_for(lambda: fleet.vassal_status("a").get("generation") == 2, 20, fleet.summary)
    (answer,) = flood.stop()[:1]
    assert answer.ok
    assert answer.pid == first != fleet.pid("worker", "a")


DOWNLOAD = """
    import os, time

    def application(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] != "/download":
            return [str(os.getpid()).encode()]
        return forever()

    def forever():
        while True:
            yield b"x" * 1000
            time.sleep(0.01)
"""


def test_a_download_that_is_open_does_not_hold_up_a_reload_and_ends_by_its_deadline(fleet: Fleet) -> None:
    fleet.app("a", DOWNLOAD, reload_mercy="2s")
    fleet.start()
    old = fleet.pid("worker", "a")
    client = http.client.HTTPConnection("127.0.0.1", fleet.http_port, timeout=30)
    client.request("GET", "/download", headers={"Host": "a.localhost"})
    response = client.getresponse()
    assert response.read(1000) == b"x" * 1000
    done = fleet.cli("reload", "a", "--wait", "--run-dir", fleet.run_dir)
    assert done.returncode == 0, done.stderr
    assert int(fleet.get("a").text) != old, "new requests go to the new generation at once"
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()  # never ended as if it were whole
    wait_for(lambda: not os.path.exists(f"/proc/{old}"), 15, fleet.log)
    client.close()
