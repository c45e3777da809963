"""Another router takes the router's place, and nobody who has an app behind it notices."""

import os
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .harness import Fleet, Flood, Target, take_census, wait_for
from .harness import fleet as harness_fleet
from .harness.fleet import APPS, EMPEROR
from .harness.http import Connection, fetch
from .harness.lasting import STREAMS, Download, Upload
from .harness.ports import free_port
from .harness.versions import install, replace_in

HELLO = APPS / "hello.py"
UPGRADE_S = 60.0

ASGI_STREAMS = """
    import asyncio, os
    async def application(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            while not os.path.exists(os.environ["UNTIL"]):
                await send({"type": "http.response.body", "body": b"y" * 100, "more_body": True})
                await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b"the end"})
    """


def replace(fleet: Fleet) -> "subprocess.CompletedProcess[str]":
    return fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--router-only", deadline_s=UPGRADE_S)


def routers(fleet: Fleet) -> list[tuple[int, int, str]]:
    """Seat, pid and state of each, the one that lets clients in first."""
    return [(each["seat"], each["pid"], each["state"]) for each in fleet.status()["routers"]]


def wait_alone(fleet: Fleet, deadline_s: float = 30.0) -> None:
    """Until there is one router."""
    wait_for(lambda: [each[2] for each in routers(fleet)] == ["running"], deadline_s, lambda: routers(fleet))


@pytest.fixture
def streams(fleet: Fleet) -> Fleet:
    """A fleet of `blog` (two workers), and of `wsgi` (one worker with two threads) and `asgi`, whose streams last."""
    fleet.nonce_vassal("blog", processes=2)
    until = f"UNTIL={fleet.root / 'until'}"
    fleet.app("wsgi", STREAMS, env=until, threads=2)
    (fleet.root / "apps" / "streaming.py").write_text(textwrap.dedent(ASGI_STREAMS))
    fleet.vassal("asgi", asgi="streaming:application", chdir=fleet.root / "apps", env=until)
    return fleet


def end_streams(fleet: Fleet) -> None:
    (fleet.root / "until").touch()


def flood(fleet: Fleet, *names: str) -> Flood:
    targets = [
        Target(name, query, closes=closes)
        for name in names
        for closes in (True, False)
        for query in ("", "", "&sleep=20")
    ]
    return Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers", 120).start()


def test_under_load_nothing_is_dropped(streams: Fleet) -> None:
    """Kept connections and new ones, downloads and an upload that last longer than it; the workers stay."""
    fleet = streams
    until = f"UNTIL={fleet.root / 'until'}"
    fleet.app("onloop", STREAMS, env=until, threads=2, wsgi_on_loop=True)
    fleet.start()
    ((_, old, _),) = routers(fleet)
    workers = {role: pid for role, pid in fleet.pids().items() if role.startswith(("worker", "gateway"))}
    load = flood(fleet, "blog")
    names = ("wsgi", "onloop", "asgi")
    downloads = [Download(fleet, name, "/stream") for name in names]
    upload = Upload(fleet, "blog")
    done = replace(fleet)
    assert (done.returncode, done.stderr) == (0, ""), fleet.log()[-3000:]
    assert "router 1 " in done.stdout and "router 0 finishes" in done.stdout
    assert [(seat, state) for seat, _, state in routers(fleet)] == [(1, "running"), (0, "draining")]
    assert routers(fleet)[1][1] == old
    # While the old one still streams, the new one has what else there is.
    for name in names:
        with Connection(fleet.http_port, 10) as connection:
            connection.send(f"GET /x HTTP/1.1\r\nHost: {name}.localhost\r\n\r\n".encode())
            assert connection.sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert upload.end()
    end_streams(fleet)
    assert [each.end() for each in downloads] == [True] * 3
    wait_alone(fleet)
    assert [each for each in load.stop() if not each.ok] == []
    assert {role: pid for role, pid in fleet.pids().items() if role in workers} == workers
    assert not os.path.exists(fleet.run_dir / "router-0.sock")
    assert not os.path.exists(f"/proc/{old}")
    assert fleet.stop() == 0


def test_again_and_again_drops_and_leaks_nothing(fleet: Fleet) -> None:
    fleet.nonce_vassal("blog", processes=2)
    fleet.vassal("own", wsgi_file=HELLO, socket=fleet.root / "s.sock", threads=2)
    fleet.start()
    census = take_census(fleet)
    load = flood(fleet, "blog")
    for _ in range(6):
        done = replace(fleet)
        assert done.returncode == 0, done.stderr + fleet.log()[-3000:]
    wait_alone(fleet)
    assert [each for each in load.stop() if not each.ok] == []
    wait_for(
        lambda: not take_census(fleet).grown_since(census), 20, lambda: take_census(fleet).grown_since(census)
    )
    assert fleet.get("own").status == 200
    fleet.vassal("fresh", wsgi_file=HELLO)
    fleet.wait_ready("fresh")
    assert fleet.get("fresh").status == 200


@pytest.mark.parametrize("which", ["old", "new"])
def test_either_is_killed_while_there_are_two(streams: Fleet, which: str) -> None:
    """What it had is lost, as ever; no slot is."""
    fleet = streams
    fleet.start()
    download = Download(fleet, "wsgi")
    assert replace(fleet).returncode == 0
    (_, new, _), (_, old, _) = routers(fleet)
    os.kill(old if which == "old" else new, signal.SIGKILL)
    if which == "new":
        wait_for(lambda: routers(fleet)[0][1:] != (new, "running") and routers(fleet)[0][2] == "running", 20)
        end_streams(fleet)
        assert download.end()
    else:
        assert not download.end()
        end_streams(fleet)
    wait_alone(fleet)
    # Both slots of the worker with two threads, and both workers of the other, are the router's that is left.
    wait_for(lambda: slots(fleet) == {"asgi": True, "blog": True, "wsgi": True}, 10, lambda: slots(fleet))
    load = flood(fleet, "blog")
    time.sleep(1)
    assert [each for each in load.stop() if not each.ok] == []


def slots(fleet: Fleet) -> dict[str, bool]:
    """Whether the router that is left holds all slots of each vassal."""
    wanted = {"blog": [1, 1], "wsgi": [2], "asgi": [256]}
    apps = fleet.status()["routers"][0]["apps"]
    return {name: [link["slots"] for link in apps[name]["links"]] == wanted[name] for name in wanted}


def _kill_worker(fleet: Fleet) -> None:
    os.kill(fleet.pid("worker", "blog"), signal.SIGKILL)


def _kill_gateway(fleet: Fleet) -> None:
    os.kill(fleet.pid("gateway", "blog"), signal.SIGKILL)


def _reload(fleet: Fleet) -> None:
    assert fleet.cli("reload", "blog", "--run-dir", fleet.run_dir).returncode == 0


@pytest.mark.parametrize("disturb", [_kill_worker, _kill_gateway, _reload])
def test_whatever_happens_meanwhile(streams: Fleet, disturb: Callable[[Fleet], None]) -> None:
    fleet = streams
    fleet.start()
    download = Download(fleet, "wsgi")
    assert replace(fleet).returncode == 0
    disturb(fleet)
    fleet.wait_ready("blog")
    load = flood(fleet, "blog")
    time.sleep(1)
    assert [each for each in load.stop() if not each.ok] == []
    end_streams(fleet)
    assert download.end()
    wait_alone(fleet)


def test_the_emperor_is_killed_while_there_are_two(streams: Fleet) -> None:
    """The next one takes over both, and the one that left goes on leaving."""
    fleet = streams
    fleet.start()
    download = Download(fleet, "wsgi")
    assert replace(fleet).returncode == 0
    before = routers(fleet)
    load = flood(fleet, "blog")
    fleet.kill_emperor()
    fleet.start()
    assert [(seat, pid) for seat, pid, _ in routers(fleet)] == [(seat, pid) for seat, pid, _ in before]
    end_streams(fleet)
    assert download.end()
    wait_alone(fleet)
    assert [each for each in load.stop() if not each.ok] == []
    assert replace(fleet).returncode == 0, "and it can be done again"
    wait_alone(fleet)


@pytest.mark.parametrize("delay_ms", [0, 100, 200, 300, 500])
def test_the_emperor_is_killed_at_any_time(fleet: Fleet, delay_ms: int) -> None:
    """However far it had come: the next one has one router that lets clients in, and another that leaves or none."""
    fleet.nonce_vassal("blog", processes=2)
    fleet.start()
    load = flood(fleet, "blog")
    command = subprocess.Popen(
        [EMPEROR, "upgrade", "--run-dir", fleet.run_dir, "--router-only"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=fleet.environment,
    )
    time.sleep(delay_ms / 1000)
    fleet.kill_emperor()
    command.communicate(timeout=UPGRADE_S)
    fleet.start()
    wait_alone(fleet)
    assert replace(fleet).returncode == 0
    wait_alone(fleet)
    failed = [each for each in load.stop() if not each.ok]
    assert not failed, f"{len(failed)}, first {failed[0]}\n{fleet.log()[-8000:]}"


def test_one_that_does_not_start_changes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    program = install(tmp_path / "env", "9.9.2")
    replace_in(
        program,
        "emperor/router/main.py",
        'parser = argparse.ArgumentParser(prog="emperor.router")',
        'sys.exit("this one is broken")',
    )
    fleet.nonce_vassal("blog", processes=2)
    fleet.start()
    before = routers(fleet)
    load = flood(fleet, "blog")
    done = fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--program", program, deadline_s=UPGRADE_S)
    assert done.returncode == 1
    assert "to 9.9.2" in done.stdout and "stays" in done.stderr and "router 1" in done.stderr
    fleet.wait_log("this one is broken")
    assert routers(fleet) == before
    assert [each for each in load.stop() if not each.ok] == []


def test_a_stream_that_does_not_end_is_cut_off_when_its_time_is_up(streams: Fleet) -> None:
    fleet = streams
    fleet.start("--router-mercy", "3s")
    download = Download(fleet, "wsgi")
    assert replace(fleet).returncode == 0
    wait_alone(fleet)
    assert not download.end()
    end_streams(fleet)


def test_an_upgrade_may_keep_the_router(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    before = routers(fleet)
    done = fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--keep-router", deadline_s=UPGRADE_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert routers(fleet) == before
    done = fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--keep-router", "--router-only")
    assert done.returncode == 2


def test_an_upgrade_while_a_router_leaves_hands_both_over(streams: Fleet) -> None:
    fleet = streams
    fleet.start()
    download = Download(fleet, "wsgi")
    load = flood(fleet, "blog")
    assert replace(fleet).returncode == 0
    done = fleet.cli("upgrade", "--run-dir", fleet.run_dir, deadline_s=UPGRADE_S)
    assert (done.returncode, done.stderr) == (0, ""), fleet.log()[-3000:]
    seats: list[Any] = [seat for seat, _, _ in routers(fleet)]
    assert seats[0] == 2 and 0 in seats
    end_streams(fleet)
    assert download.end()
    wait_alone(fleet)
    assert [each for each in load.stop() if not each.ok] == []


def test_from_a_version_that_knows_of_one_router(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its router stays and is given what it understands; what its workers need is said; then it is as ever."""
    before = install(tmp_path / "before", "0.0.9")
    replace_in(before, "emperor/router/main.py", '            "routers": MOST_ROUTERS,\n', "")
    replace_in(before, "emperor/supervisor/wanted.py", "ROUTERS = 4", "ROUTERS = 1")
    fleet.nonce_vassal("blog", processes=2)
    with monkeypatch.context() as patched:
        patched.setattr(harness_fleet, "EMPEROR", before)
        fleet.start()
    load = flood(fleet, "blog")
    ((seat, router, _),) = routers(fleet)
    done = fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--program", EMPEROR, deadline_s=UPGRADE_S)
    assert done.returncode == 1 and "from version 0.0.9" in done.stdout
    assert f"router {seat} (pid {router}) stays: it is of a version that cannot share" in done.stderr
    # The one that stays is given pages that it understands.
    assert fleet.cli("reload", "--wait", "blog", "--run-dir", fleet.run_dir).returncode == 0
    assert [each for each in load.stop() if not each.ok] == []
    os.kill(router, signal.SIGKILL)
    wait_for(lambda: routers(fleet)[0][1:] != (router, "running") and routers(fleet)[0][2] == "running", 20)
    done = replace(fleet)
    assert (
        done.returncode == 1 and "the workers of blog were started by a version without room" in done.stderr
    )
    assert fleet.get("blog", "/?n=x").status == 200
    assert fleet.cli("reload", "--wait", "blog", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(lambda: replace(fleet).returncode == 0, 20)
    load = flood(fleet, "blog")
    wait_alone(fleet)
    assert [each for each in load.stop() if not each.ok] == []


def test_own_listeners_and_access_logs_go_on(fleet: Fleet) -> None:
    log, port = fleet.root / "blog.log", free_port()
    fleet.vassal(
        "blog",
        wsgi_file=HELLO,
        access_log=log,
        log_format="%(uri)",
        http_socket=f"127.0.0.1:{port}",
        socket=fleet.root / "blog.sock",
    )
    fleet.app("wsgi", STREAMS, env=f"UNTIL={fleet.root / 'until'}", threads=2)
    fleet.start()
    assert fetch(port, "blog.localhost", "/before").status == 200
    download = Download(fleet, "wsgi")
    assert replace(fleet).returncode == 0
    assert fetch(port, "blog.localhost", "/with-both").status == 200
    # A listener that goes while the old router finishes is gone: nobody waits at a door that only that one has.
    fleet.vassal("blog", wsgi_file=HELLO, access_log=log, log_format="%(uri)")
    wait_for(lambda: not _accepts(port), 10, fleet.summary)
    assert fleet.get("blog", "/through-the-new").status == 200
    end_streams(fleet)
    assert download.end()
    wait_alone(fleet)
    wanted = ["/before", "/with-both", "/through-the-new"]
    wait_for(lambda: log.read_text().split() == wanted, 10, log.read_text)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_the_emperor_stops_while_there_are_two(streams: Fleet) -> None:
    """Within the time that it has for that, whatever router-mercy says."""
    fleet = streams
    fleet.start()
    download = Download(fleet, "wsgi")
    with Connection(fleet.http_port, 20) as idle:
        assert idle.request("blog.localhost", "/?n=x").status == 200
        assert replace(fleet).returncode == 0
        end_streams(fleet)
        assert fleet.stop() == 0
    assert download.end()
    assert not os.path.exists(fleet.run_dir)


def test_a_queue_at_the_old_router_does_not_keep_the_new_one_waiting(fleet: Fleet) -> None:
    """One worker of one slot, which both want: each has it for some of the time, and nobody waits for the other's queue."""
    fleet.nonce_vassal("blog", processes=1, queue_timeout=30)
    fleet.start()
    burst = Flood(
        fleet.orphans, fleet.http_port, [Target("blog", "&sleep=30")], fleet.root / "burst", 150, "b"
    )
    burst.start()
    time.sleep(1.4)  # 210 requests, six seconds of work
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(burst.stop, 40)
        assert replace(fleet).returncode == 0
        replaced_s = time.monotonic()
        fresh = Flood(
            fleet.orphans, fleet.http_port, [Target("blog", closes=True)], fleet.root / "fresh", 20, "f"
        )
        fresh.start()
        answers = rest.result()
    new = fresh.stop(40)
    assert [each for each in (*new, *answers) if not each.ok] == []
    last_s = max(each.done_s for each in answers if each.scheduled_s < replaced_s)
    assert sum(each.done_s < last_s for each in new) >= 3, "they waited for the old router's queue"
