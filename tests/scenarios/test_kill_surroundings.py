"""The kill matrix, where the emperor has a parent, or none, that matters, and where it dies in the middle of a reload.

`make kill-matrix` has more of each row than `make test`.

| killed | while | may fail | and then |
| --- | --- | --- | --- |
| emperor | it is a service (ops/systemd, `harness/manager.py`) | nothing | the next one has adopted all of them |
| gateway | the emperor is PID 1 of a PID namespace | nothing | what it leaves behind is buried by the emperor: no zombie |
| emperor, by TERM | the same | what comes later | what has begun is finished, exit code 0 |
| emperor | the same | all | nobody is left in the namespace; the next one starts anew |
| emperor | a reload runs: at the instants of `MOMENTS` | nothing | one generation serves, whole; no other is left |
| emperor | a rolling reload, a probation, `emperor reload --all` run | nothing | the same |
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from emperor.control.channel import Channel

from .harness import Fleet, Flood, Target, take_census, wait_for
from .harness.fleet import EMPEROR, is_ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
KILLS = int(os.environ.get("KILLS", "3"))
PROJECT = Path(__file__).parents[2]
UNIT = PROJECT / "ops/systemd/emperor.service"
OWN = ("emperor", "spawner")


def flood_of(fleet: Fleet, *names: str, rate: float = 100) -> Flood:
    targets = [Target(name, query) for query in ("", "&sleep=20", "&size=40000") for name in names]
    return Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers", rate).start()


def under(fleet: Fleet, *parent: object) -> "subprocess.Popen[bytes]":
    """The fleet's emperor as a child of another program."""
    argv = [*parent, EMPEROR, "start", fleet.directory, "--http", f"127.0.0.1:{fleet.http_port}"]
    with fleet.log_path.open("ab") as log:
        fleet.emperor = fleet.orphans.popen(
            [*map(str, argv), "--run-dir", str(fleet.run_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**fleet.environment, "PYTHONPATH": str(PROJECT)},
            cwd=fleet.root,
            start_new_session=True,
        )
    fleet.wait_ready()
    return fleet.emperor


def test_a_service_whose_emperor_is_killed_is_adopted_by_the_next(fleet: Fleet) -> None:
    fleet.nonce_vassal("red", processes=2)
    fleet.nonce_vassal("blue")
    manager = under(fleet, sys.executable, "-m", "tests.scenarios.harness.manager", UNIT, fleet.run_dir)
    census, before = take_census(fleet), fleet.pids()
    flood = flood_of(fleet, "red", "blue")
    for _ in range(max(2, KILLS // 3)):
        emperor = fleet.status()["emperor"]["pid"]
        os.kill(emperor, signal.SIGKILL)
        wait_for(
            lambda old=emperor: (
                (status := fleet.status_or_none()) is not None
                and status["emperor"]["pid"] != old
                and all(map(is_ready, status["vassals"]))
            ),
            20,
            fleet.log,
        )
        now = fleet.pids()
        assert {role: pid for role, pid in now.items() if role not in OWN} == {
            role: pid for role, pid in before.items() if role not in OWN
        }
        assert fleet.status()["emperor"]["adopted"] == 1
    assert [answer for answer in flood.stop() if not answer.ok] == []
    wait_for(
        lambda: not take_census(fleet).grown_since(census), 10, lambda: take_census(fleet).grown_since(census)
    )
    manager.terminate()
    assert manager.wait(20) == 0
    wait_for(lambda: not [pid for pid in before.values() if os.path.exists(f"/proc/{pid}")], 5)


@pytest.fixture
def contained(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet whose emperor is PID 1 of a PID namespace with a /proc of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a PID namespace")
    fleet.nonce_vassal("red", processes=2)
    fleet.app(
        "blue",
        """
        import os, time

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/leave":
                child = os.fork()
                if child == 0:
                    os.setsid()
                    for _ in range(3):
                        if os.fork() == 0:
                            time.sleep(0.3)  # and ends when its parents have
                            os._exit(0)
                    os._exit(0)
                os.waitpid(child, 0)
            time.sleep(float(environ["QUERY_STRING"] or 0))
            start_response("200 OK", [])
            return [b"ok"]
        """,
    )
    under(fleet, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")
    yield fleet
    assert fleet.emperor is not None
    if fleet.emperor.poll() is None:
        all_of_them = psutil.Process(fleet.emperor.pid).children(recursive=True)
        all_of_them[0].kill()
        fleet.emperor.wait(20)
        psutil.wait_procs(all_of_them, timeout=10)


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # buried meanwhile
        return False


def first_process(fleet: Fleet) -> psutil.Process:
    """The emperor, as it is called outside."""
    assert fleet.emperor is not None
    (emperor,) = psutil.Process(fleet.emperor.pid).children()
    return emperor


def inside(emperor: psutil.Process) -> dict[int, int]:
    """The processes of the namespace: their number there → here."""
    found = {}
    for process in [emperor, *emperor.children(recursive=True)]:
        try:
            text = Path(f"/proc/{process.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        numbers = next(line.split()[1:] for line in text.splitlines() if line.startswith("NSpid:"))
        found[int(numbers[-1])] = process.pid
    return found


def test_as_pid_1_it_buries_everybody_and_term_is_a_drain(contained: Fleet) -> None:
    fleet, emperor = contained, first_process(contained)
    assert fleet.status()["emperor"]["pid"] == 1
    flood = flood_of(fleet, "red", rate=50)
    assert fleet.get("blue", "/leave").text == "ok"
    pids = fleet.pids()
    os.kill(inside(emperor)[pids["gateway blue"]], signal.SIGKILL)
    wait_for(lambda: fleet.pids().get("gateway blue") not in (None, pids["gateway blue"]), 10, fleet.summary)
    fleet.wait_ready()

    def zombies() -> list[str]:
        return [str(each) for each in emperor.children(recursive=True) if is_zombie(each)]

    wait_for(lambda: not zombies(), 5, zombies)
    assert [answer for answer in flood.stop() if not answer.ok] == []
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(fleet.get("blue", "/?1.5").status))
    asking.start()
    wait_for(lambda: fleet.status()["routers"][0]["apps"]["blue"]["requests"] >= 2, 10, fleet.summary)
    emperor.send_signal(signal.SIGTERM)
    assert fleet.emperor is not None and fleet.emperor.wait(20) == 0
    asking.join()
    assert answers == [200]


def test_as_pid_1_its_death_is_everybodys_and_the_next_start_is_a_fresh_one(contained: Fleet) -> None:
    fleet, emperor = contained, first_process(contained)
    all_of_them = [emperor, *emperor.children(recursive=True)]
    assert len(all_of_them) >= 7
    emperor.kill()
    assert fleet.emperor is not None and fleet.emperor.wait(20) != 0
    wait_for(lambda: not any(each.is_running() for each in all_of_them), 10, all_of_them)
    under(fleet, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")
    assert fleet.status()["emperor"]["adopted"] == 0
    assert fleet.get("blue").text == "ok"
    first_process(fleet).send_signal(signal.SIGTERM)
    assert fleet.emperor.wait(20) == 0


RELOADS: dict[str, dict[str, Any]] = {
    "overlap": {},
    "rolling": {"reload_style": "rolling"},
    "probation": {"probation": "300ms"},
    "all": {},
}
NAMES = ("red", "blue")
MOMENTS: dict[str, Callable[[Fleet, int], object]] = {
    "asked for": lambda fleet, _: True,
    "its gateway is there": lambda fleet, _: len(gateways()) > len(NAMES),
    "it serves": lambda fleet, before: generations(fleet) > before,
}
"""When the emperor is killed, or a moment later; a machine that is busy may be past it."""
MISSED_S = 10.0
LATER_S = 0.1


@pytest.mark.parametrize("kind", RELOADS)
def test_in_the_middle_of_a_reload(fleet: Fleet, kind: str) -> None:
    for name in NAMES:
        env = [f"NONCE_LOG={fleet.nonce_log(name)}", "IMPORT_MS=100"]
        fleet.nonce_vassal(name, processes=2, env=env, **RELOADS[kind])
    fleet.start()
    census = take_census(fleet)
    flood = flood_of(fleet, *NAMES)
    caught: list[str] = []
    chance = random.Random(kind)
    for number in range(max(len(MOMENTS), KILLS)):
        before = generations(fleet)
        begun = begin_reload(fleet, kind)
        moment = list(MOMENTS)[number % len(MOMENTS)]
        wait_for(lambda moment=moment, before=before: MOMENTS[moment](fleet, before), MISSED_S, moment, 0.002)
        if number >= len(MOMENTS):
            time.sleep(chance.uniform(0, LATER_S))
        caught.append(f"{moment}: {fleet.summary()}")
        fleet.kill_emperor()
        for each in begun:
            if isinstance(each, Channel):
                each.close()
            else:
                each.wait(20)
        fleet.start(ready=False)
        wait_for(lambda: settled(fleet), 30, lambda: [caught, fleet.summary(), fleet.log()[-6000:]])
    lost = [answer for answer in flood.stop() if not answer.ok]
    assert lost == [], f"{lost[:5]} {caught}\n{fleet.log()[-6000:]}"
    wait_for(
        lambda: not take_census(fleet).grown_since(census), 15, lambda: take_census(fleet).grown_since(census)
    )


def begin_reload(fleet: Fleet, kind: str) -> list[Any]:
    """Set it going; what has to be ended afterwards."""
    if kind == "all":
        argv = [str(EMPEROR), "reload", "--all", "--run-dir", str(fleet.run_dir)]
        return [
            fleet.orphans.popen(
                argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
        ]
    channel = Channel.connect(str(fleet.run_dir / "control.sock"))
    channel.request({"op": "reload", "name": NAMES[0]}, timeout_s=10)
    return [channel]


def settled(fleet: Fleet) -> bool:
    """Each vassal READY with one generation, of which all workers serve, and no gateway beside it."""
    status = fleet.status_or_none()
    if status is None or status["emperor"]["state"] != "running":
        return False
    if not all(is_ready(each) and each["draining"] == 0 for each in status["vassals"]):
        return False
    titles = gateways()
    return all(sum(each.startswith(f"emperor gateway {name}.") for each in titles) == 1 for name in NAMES)


def generations(fleet: Fleet) -> int:
    """A number that grows when one of them is replaced."""
    return sum(each["generation"] for each in fleet.status()["vassals"])


def gateways() -> list[str]:
    found = map(title, psutil.Process().children(recursive=True))
    return [each for each in found if each.startswith("emperor gateway ")]


def title(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
