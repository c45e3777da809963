"""Router and workers find their bells again, whoever has died; and where nobody has them any more, messages do."""

import os
import signal
import time
from pathlib import Path

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


@pytest.fixture
def red(fleet: Fleet) -> Fleet:
    fleet.vassal("red", wsgi_file=HELLO, processes=2)
    fleet.start()
    wait_rung(fleet, [1, 1])
    return fleet


def rung(fleet: Fleet) -> list[int]:
    """Of each link of red, whether bells wake both ends."""
    status = fleet.status_or_none()
    routers = [] if status is None else status["routers"]
    apps = [router["apps"]["red"] for router in routers if "red" in router.get("apps", {})]
    return [int(link["bell"]) for app in apps for link in app["links"] if link["ready"]]


def wait_rung(fleet: Fleet, wanted: list[int]) -> None:
    wait_for(lambda: rung(fleet) == wanted, 20, lambda: rung(fleet))
    for _ in range(50):
        assert fleet.get("red").status == 200
    assert rung(fleet) == wanted
    ((app,),) = [[router["apps"]["red"] for router in fleet.status()["routers"]]]
    assert app["unasked_messages"] <= 2


def kill_router(fleet: Fleet) -> None:
    router = fleet.pid("router")
    os.kill(router, signal.SIGKILL)
    fleet.wait_another(router, "router")


def test_a_new_router_gets_them(red: Fleet) -> None:
    kill_router(red)
    wait_rung(red, [1, 1])


def test_a_new_worker_gets_them(red: Fleet) -> None:
    worker = red.pids()["worker red/0"]
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: red.pids().get("worker red/0", worker) != worker, 20, red.summary)
    wait_rung(red, [1, 1])


def test_a_new_emperor_has_them_from_the_router_and_gives_them_to_the_next(red: Fleet) -> None:
    red.kill_emperor()
    red.start()
    wait_rung(red, [1, 1])
    kill_router(red)
    wait_rung(red, [1, 1])


def kill_both(fleet: Fleet) -> None:
    router = fleet.pid("router")
    fleet.kill_emperor()
    os.kill(router, signal.SIGKILL)
    fleet.start()


def wait_at_rest(fleet: Fleet) -> None:
    """Until no worker of red has used the processor for a while."""

    def ticks() -> list[int]:
        pids = [pid for role, pid in fleet.pids().items() if role.startswith("worker red/")]
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return [int(fields[11]) + int(fields[12]) for fields in stats]

    def at_rest() -> bool:
        before = ticks()
        time.sleep(0.4)
        return [after - each for after, each in zip(ticks(), before, strict=True)] == [0] * len(before)

    wait_for(at_rest, 30, ticks)


def test_when_both_have_died_messages_do_until_the_next_generation(red: Fleet) -> None:
    kill_both(red)
    wait_rung(red, [0, 0])
    wait_at_rest(red)
    (red.directory / "red.ini").touch()
    wait_for(lambda: red.vassal_status("red").get("generation") == 2, 20, red.summary)
    wait_rung(red, [1, 1])


@pytest.mark.parametrize(
    "more",
    [
        {"threads": 3},
        {"gevent": 5},
        {"preload": "true"},
        {"threads": 3, "wsgi-on-loop": "true"},
        {"asgi": "asgi_apps:app"},
    ],
    ids=str,
)
def test_all_kinds_of_workers_have_them(fleet: Fleet, more: dict[str, object]) -> None:
    """And do not mind when they have lost them."""
    app = {"pythonpath": APPS} if "asgi" in more else {"wsgi-file": HELLO}
    fleet.vassal("red", processes=2, **app, **more)
    fleet.start()
    wait_rung(fleet, [1, 1])
    kill_both(fleet)
    wait_rung(fleet, [0, 0])
    wait_at_rest(fleet)


@pytest.mark.parametrize(
    "app", [{"wsgi-file": HELLO}, {"asgi": "asgi_apps:app", "pythonpath": APPS}], ids=["wsgi", "asgi"]
)
def test_a_worker_with_enough_to_do_interrupts_nobody(fleet: Fleet, app: dict[str, object]) -> None:
    """And one that waits for requests does again; it is at rest between them."""
    fleet.vassal("red", **app)
    fleet.start()
    worker = fleet.pid("worker", "red")

    def policy() -> int:
        return os.sched_getscheduler(worker)

    url = f"http://127.0.0.1:{fleet.http_port}/"
    load = fleet.orphans.popen(["wrk", "-t1", "-c64", "-d60s", "-H", "Host: red.localhost", url])
    wait_for(lambda: policy() == os.SCHED_BATCH, 50, policy)
    load.kill()
    load.wait()

    def eager() -> bool:
        for _ in range(64):
            assert fleet.get("red").status == 200
        return policy() == os.SCHED_OTHER

    wait_for(eager, 30, policy)
    wait_at_rest(fleet)
