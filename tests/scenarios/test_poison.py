"""A request that has ended two workers is not given a third; its innocent neighbours are served."""

import os
import signal
from typing import Any

from .harness import Connection, Fleet, wait_for
from .harness.fleet import APPS
from .test_harakiri import SOON_S, counts, send, stuck, wait_replaced


def die(fleet: Fleet, path: str = "/die") -> int:
    """Ask for it, and wait until the vassal has its worker again."""
    before = fleet.pid("worker", "a")
    status = fleet.get("a", path).status
    if status == 502:
        wait_replaced(fleet, before)
    return status


def test_a_third_worker_is_not_given_to_it(fleet: Fleet) -> None:
    stuck(fleet)
    assert [die(fleet, "/die?id=1") for _ in range(3)] == [502, 502, 500]
    assert fleet.get("a").status == 200
    assert die(fleet, "/die?id=2") == 502  # that is another request
    report: dict[str, Any] = counts(fleet)["poison"]
    assert (report["found"], report["refused"]) == (1, 1)
    (banned,) = report["banned"]
    fleet.wait_log(f"poison {banned['fingerprint']}: GET a.localhost/die?id=1 was under way")
    assert "/die" not in repr(fleet.status())
    assert f"poison {banned['fingerprint']}" in fleet.cli("events", "--run-dir", fleet.run_dir).stdout
    shown = fleet.cli("status", "--run-dir", fleet.run_dir).stdout
    assert f"poison {banned['fingerprint']} is answered 500" in " ".join(shown.split())


def test_harakiri_counts_too(fleet: Fleet) -> None:
    pid = stuck(fleet, harakiri=0.5)
    for _ in range(2):
        assert fleet.get("a", "/sleep?s=60").status == 504
        pid = wait_replaced(fleet, pid)
    assert fleet.get("a", "/sleep?s=60").status == 500
    assert fleet.pid("worker", "a") == pid


def test_a_worker_that_is_killed_under_a_healthy_page_makes_it_no_suspect(fleet: Fleet) -> None:
    """Whoever kills workers at random meets what is asked for all the time."""
    fleet.vassal("a", **{"wsgi-file": APPS / "wsgi_apps.py"}, retries="false")
    fleet.start()
    for _ in range(3):
        pid = fleet.pid("worker", "a")
        client = send(fleet, "/sleep?2")
        wait_for(lambda: counts(fleet)["running"] == 1, 5)
        os.kill(pid, signal.SIGKILL)
        assert client.read_response().status == 502
        wait_replaced(fleet, pid)
        client.close()
        assert fleet.get("a", "/sleep?2").status == 200
    assert counts(fleet)["poison"]["found"] == 0


def test_among_threads_the_one_that_is_always_there_is_it(fleet: Fleet) -> None:
    """The neighbours of a death are suspects as well, until they are seen to come to their end."""
    pid = stuck(fleet, threads=3, harakiri=0)
    for _ in range(2):
        neighbours = [send(fleet, f"/sleep/{number}?s=60") for number in range(2)]
        wait_for(lambda: counts(fleet)["running"] == 2, 5)
        assert fleet.get("a", "/die").status == 502
        assert [each.read_response().status for each in neighbours] == [502, 502]
        pid = wait_replaced(fleet, pid)
        for each in neighbours:
            each.close()
    # All three were there both times: nobody can tell yet.
    assert counts(fleet)["poison"]["found"] == 0
    assert fleet.get("a", "/die").status == 502
    wait_replaced(fleet, pid)
    assert counts(fleet)["poison"]["found"] == 1
    assert fleet.get("a", "/die").status == 500
    assert fleet.get("a", "/").status == 200


def test_it_can_be_turned_off(fleet: Fleet) -> None:
    stuck(fleet, poison_deaths=0)
    assert [die(fleet) for _ in range(3)] == [502, 502, 502]


def test_a_new_router_knows_nothing(fleet: Fleet) -> None:
    stuck(fleet)
    assert [die(fleet) for _ in range(3)] == [502, 502, 500]
    before = fleet.pid("router")
    os.kill(before, signal.SIGKILL)
    fleet.wait_another(before, "router")
    wait_for(lambda: _answers(fleet), SOON_S)
    assert die(fleet) == 502


def _answers(fleet: Fleet) -> bool:
    try:
        with Connection(fleet.http_port, 5) as client:
            return client.request("a.localhost").status == 200
    except OSError:
        return False


def test_a_reload_begins_anew(fleet: Fleet) -> None:
    """It may be the mended app."""
    stuck(fleet)
    assert [die(fleet) for _ in range(3)] == [502, 502, 500]
    assert fleet.cli("reload", "a", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(lambda: fleet.vassal_status("a")["generation"] == 2, SOON_S)
    fleet.wait_ready("a")
    assert die(fleet) == 502
