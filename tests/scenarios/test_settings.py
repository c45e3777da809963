"""Settings reach the process that they are for, wherever they were said."""

import os
import signal
import socket
import time

from .harness import Fleet, wait_for
from .harness.fleet import APPS


def seconds_to_cut(fleet: Fleet) -> float:
    """How long the router bears a head that never ends. The router looks once a second."""

    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", fleet.http_port), 5) as client:
        client.settimeout(14)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert b" 408 " in client.recv(1000)
    return time.monotonic() - began


def test_a_deadline_from_the_settings_file_reaches_the_router_and_the_one_after_it(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=APPS / "hello.py")
    config = fleet.root / "emperor.toml"
    config.write_text('head-timeout = "300ms"\n')
    fleet.start("--config", config)
    assert seconds_to_cut(fleet) < 10, "15 s is the default"
    first = fleet.pid("router")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: fleet.status()["routers"][0]["pid"] not in (0, first), 10, fleet.summary)
    wait_for(lambda: fleet.get("a").status == 200, 10, fleet.summary)
    assert seconds_to_cut(fleet) < 10


def test_a_router_that_is_taken_over_goes_on_with_the_new_settings(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=APPS / "hello.py")
    fleet.start()
    router = fleet.pid("router")
    fleet.kill_emperor()
    fleet.start("--head-timeout", "300ms")
    assert fleet.pid("router") == router
    assert seconds_to_cut(fleet) < 10, "15 s is the default"


def test_a_reload_of_all_takes_up_the_settings_file(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=APPS / "hello.py")
    config = fleet.root / "emperor.toml"
    config.write_text('vassal-set = ["processes=1"]\n')
    fleet.start("--config", config)
    emperor, router = fleet.pid("emperor"), fleet.pid("router")
    config.write_text('head-timeout = "soon"\n')
    os.kill(emperor, signal.SIGHUP)
    wait_for(lambda: "the settings stay as they are: " in fleet.log(), 10, fleet.log)
    wait_for(lambda: fleet.vassal_status("a")["generation"] == 2, 10, fleet.summary)
    fleet.wait_ready("a")
    config.write_text('vassal-set = ["processes=2"]\nhead-timeout = "300ms"\nstats = "127.0.0.1:1"\n')
    os.kill(emperor, signal.SIGHUP)
    wait_for(lambda: fleet.vassal_status("a")["processes"] == 2, 10, fleet.summary)
    fleet.wait_ready("a")
    fleet.wait_log("the new stats will count from the next start on")
    assert fleet.pid("router") == router
    assert seconds_to_cut(fleet) < 10, "15 s is the default"


def test_what_is_wrong_in_the_settings_file_is_said_and_nothing_is_started(fleet: Fleet) -> None:
    config = fleet.root / "emperor.ini"
    config.write_text("[emperor]\nhead-timeout = soon\nhttp = localhost\n")
    done = fleet.cli("start", fleet.directory, "--config", config, "--run-dir", fleet.run_dir)
    assert done.returncode == 1
    assert f"emperor: {config}:2: head-timeout: 'soon' is not a duration" in done.stderr
    assert not fleet.run_dir.exists()
    config.write_text("[emperor]\nhttp = localhost\n")
    done = fleet.cli("start", fleet.directory, "--config", config, "--run-dir", fleet.run_dir)
    assert done.returncode == 1
    assert f"{config}:2: http: 'localhost' is no address: write HOST:PORT" in done.stderr
