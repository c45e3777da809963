"""A vassal without an app of its own, from its file to its end: its requests go to a real uWSGI, over uwsgi and over HTTP."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.router.authority import Authority

from .harness import Connection, Fleet, Orphans, accepts, free_port, wait_for
from .harness.fleet import APPS, EMPEROR
from .test_large_bodies import Growth

SIZE = 200_000_000
GROWTH = 24 * 1024 * 1024


class Beside:
    """Three real uWSGIs, over uwsgi, HTTP and HTTPS, and an emperor that brings requests there."""

    def __init__(self, orphans: Orphans) -> None:
        self.fleet = Fleet(orphans)
        self.uwsgi = free_port()
        self.http = free_port()
        self.https = free_port()
        self.nobody = free_port()
        self.authority = Authority(self.fleet.root)
        pem = self.fleet.root / "https.pem"
        pem.write_text(self.authority.certificate("127.0.0.1"))
        self._processes = [
            self._start(f"--socket=127.0.0.1:{self.uwsgi}", "--wsgi-file", APPS / "bulk.py"),
            self._start(
                f"--http-socket=127.0.0.1:{self.http}", "--wsgi-file", APPS / "echo.py", "--http-keepalive"
            ),
            self._start(
                f"--https-socket=127.0.0.1:{self.https},{pem},{pem}", "--wsgi-file", APPS / "echo.py"
            ),
        ]
        for port in (self.uwsgi, self.http, self.https):
            wait_for(lambda port=port: accepts(port), 20)  # type: ignore[misc]

    def _start(self, *arguments: object) -> "subprocess.Popen[bytes]":
        argv = [
            Path(sys.executable).with_name("uwsgi"),
            *arguments,
            "--master",
            "--processes",
            "2",
            "--need-app",
        ]
        return self.fleet.orphans.popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=APPS, start_new_session=True
        )

    def close(self) -> None:
        self.fleet.close()
        for each in self._processes:
            os.killpg(each.pid, signal.SIGKILL)
            each.wait(10)
            wait_for(lambda pid=each.pid: _gone(pid), 10)  # type: ignore[misc]

    def upstreams(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.fleet.status()["routers"][0]["apps"][name]["upstreams"]
        return found


def _gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    reaper = Orphans()
    reaper.start()
    made = Beside(reaper)
    fleet = made.fleet
    try:
        fleet.vassal(
            "bulk",
            upstream=f"uwsgi://127.0.0.1:{made.uwsgi}",
            health_path="/?size=1",
            health_interval="100ms",
        )
        fleet.vassal(
            "echo",
            upstream=[f"http://127.0.0.1:{made.http} weight=2", f"http://127.0.0.1:{free_port()} backup"],
        )
        (fleet.root / "ca.pem").write_text(made.authority.pem)
        fleet.vassal("secret", upstream=f"https://127.0.0.1:{made.https}", upstream_ca=fleet.root / "ca.pem")
        fleet.vassal("gone", upstream=f"http://127.0.0.1:{made.nobody}")
        fleet.app("plain", "def application(e, s):\n    s('200 OK', [])\n    return [b'plain']\n")
        fleet.start()
        yield made
    finally:
        made.close()
        reaper.close()


def test_it_is_ready_without_a_process(beside: Beside) -> None:
    found = beside.fleet.vassal_status("bulk")
    assert (found["state"], found["processes"], found["workers"], found["gateway"]) == ("READY", 0, [], None)
    beside.fleet.wait_log("is ready: generation 1, 1 upstream,")
    table = beside.fleet.cli("status", "--run-dir", beside.fleet.run_dir).stdout
    row = next(line for line in table.splitlines() if line.startswith("echo"))
    assert row.split()[4] == "2/2"


def test_one_that_nobody_answers_for_is_not_called_ready(beside: Beside) -> None:
    fleet, address = beside.fleet, f"http://127.0.0.1:{beside.nobody}"
    assert fleet.get("gone").status == 503
    table = fleet.cli("status", "--run-dir", fleet.run_dir).stdout
    assert (
        next(line.split()[:2] for line in table.splitlines() if line.startswith("gone"))[1] == "UNREACHABLE"
    )
    found = fleet.vassal_status("gone")
    assert (found["state"], found["answering"]) == ("READY", "none")
    assert found["troubles"][0].startswith(
        f"its upstream does not answer: {address} has failed its last request"
    )
    traced = fleet.cli("trace", "gone", "--run-dir", fleet.run_dir).stdout
    assert f"gone: upstream {address} takes requests, and failed last: it cannot be reached: " in traced
    # Nobody has to ask for it to be known that it is back.
    with socket.create_server(("127.0.0.1", beside.nobody)):
        wait_for(lambda: fleet.vassal_status("gone")["answering"] == "all", 20)
    fleet.wait_log("can be reached again")


def test_a_real_uwsgi_over_uwsgi_gets_bodies_of_any_kind(beside: Beside) -> None:
    fleet = beside.fleet
    assert len(fleet.get("bulk", "/?size=100000").body) == 100_000
    assert fleet.get("bulk", method="POST", body=b"x" * 70_000).text == "70000"
    assert fleet.get("bulk", method="POST", body=[b"ab", b"cde"]).text == "5"
    assert fleet.get("bulk", method="POST", body=b"").text == "0"


def test_an_app_over_http_sees_what_the_client_has_asked(beside: Beside) -> None:
    said = beside.fleet.get("echo", "/caf%C3%A9/a%20b?x=1&x=2", fields={"X-One": "1"})
    assert said.cookies == ("a=1", "b=1") or said.cookies == ("a=1", "b=2")
    assert '"PATH_INFO": "/caf' in said.text
    assert '"QUERY_STRING": "x=1&x=2"' in said.text
    assert '"HTTP_X_ONE": "1"' in said.text
    assert '"HTTP_X_FORWARDED_FOR": "127.0.0.1"' in said.text
    assert '"host": "echo.localhost"' in said.text
    assert beside.fleet.get("echo", "/missing").status == 404


def test_a_server_with_a_certificate_is_trusted_as_far_as_its_ca(beside: Beside, tmp_path: Path) -> None:
    fleet, ca = beside.fleet, beside.fleet.root / "ca.pem"
    assert '"HTTP_X_FORWARDED_PROTO": "http"' in fleet.get("secret", "/x").text
    ca.write_text(Authority(tmp_path).pem)  # which is an edit of the vassal
    wait_for(lambda: fleet.get("secret").status == 503, 20)
    assert fleet.vassal_status("secret")["answering"] == "none"
    (said,) = fleet.vassal_status("secret")["troubles"]
    assert "nobody who is trusted here vouches for its certificate" in said and "upstream-ca" in said
    ca.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    assert f"{fleet.directory}/secret.ini: upstream-ca cannot be used: " in fleet.check().stdout
    ca.write_text(beside.authority.pem)
    wait_for(lambda: fleet.get("secret").status == 200, 20)
    assert fleet.vassal_status("secret")["answering"] == "all"


def test_200_mb_down_and_up_stay_nowhere(beside: Beside) -> None:
    fleet = beside.fleet
    with Growth([fleet.pid("router")]) as growth, Connection(fleet.http_port, 60.0) as client:
        client.send(f"GET /?size={SIZE} HTTP/1.1\r\nHost: bulk.localhost\r\n\r\n".encode())
        assert client.read_head()[0] == 200
        got = 0
        while got < SIZE:
            piece = client.read_some()
            assert piece
            got += len(piece)
        client.send(f"POST / HTTP/1.1\r\nHost: bulk.localhost\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        piece = bytes(1_000_000)
        for _ in range(SIZE // len(piece)):
            client.send(piece)
        assert client.read_response().text == str(SIZE)
    assert growth.most <= GROWTH


def test_a_health_check_of_a_real_uwsgi_passes(beside: Beside) -> None:
    found = beside.upstreams("bulk")[0]
    assert (found["state"], found["checks_failed"]) == ("in", 0)


def test_edits_from_app_to_upstream_and_back(beside: Beside) -> None:
    fleet = beside.fleet
    fleet.app("moves", "def application(e, s):\n    s('200 OK', [])\n    return [b'own']\n")
    fleet.wait_ready("moves")
    assert fleet.get("moves").text == "own"
    page = fleet.root / "sorry.html"
    page.write_text("<h1>back at eight</h1>")
    port = free_port()
    fleet.vassal("moves", upstream=f"http://127.0.0.1:{port}", maintenance=page)
    wait_for(lambda: fleet.get("moves").status == 503, 20)
    answer = fleet.get("moves")
    assert answer.text == "<h1>back at eight</h1>"
    assert answer.fields["content-type"] == "text/html; charset=utf-8"
    page.write_text("<h1>back at nine</h1>")
    wait_for(lambda: fleet.get("moves").text == "<h1>back at nine</h1>", 20)
    wait_for(lambda: not fleet.vassal_status("moves")["draining"], 20)
    fleet.app("moves", "def application(e, s):\n    s('200 OK', [])\n    return [b'again']\n")
    wait_for(lambda: fleet.get("moves").text == "again", 20)
    (fleet.directory / "moves.ini").unlink()
    wait_for(lambda: not fleet.vassal_status("moves"), 20)


def test_a_vassal_that_goes_finishes_what_is_at_its_upstream(beside: Beside) -> None:
    fleet = beside.fleet
    fleet.vassal("leaves", upstream=f"uwsgi://127.0.0.1:{beside.uwsgi}")
    fleet.wait_ready("leaves")
    with Connection(fleet.http_port) as client:
        client.send(b"POST /?late=2500 HTTP/1.1\r\nHost: leaves.localhost\r\nContent-Length: 3\r\n\r\nabc")
        wait_for(lambda: fleet.status()["routers"][0]["apps"]["leaves"]["forwarded"] == 1, 10)
        (fleet.directory / "leaves.ini").unlink()
        assert client.read_response().text == "3"
    wait_for(lambda: not fleet.vassal_status("leaves"), 20)


@pytest.mark.parametrize("how", ["killed", "upgraded"])
def test_the_next_emperor_goes_on_with_it(beside: Beside, how: str) -> None:
    fleet = beside.fleet
    if how == "killed":
        fleet.kill_emperor()
        assert fleet.get("echo").status == 200
        fleet.start(ready=False)
    else:
        upgraded = fleet.cli("upgrade", "--keep-router", "--run-dir", fleet.run_dir, deadline_s=60)
        assert upgraded.returncode == 0, upgraded.stderr
    fleet.wait_ready("echo", "bulk", "plain")
    assert fleet.get("echo").status == 200
    assert fleet.get("plain").text == "plain"
    fleet.vassal("bulk", upstream=f"uwsgi://127.0.0.1:{beside.uwsgi}", upstream_idle_timeout="9s")
    wait_for(
        lambda: (
            fleet.status()["routers"][0]["apps"]["bulk"]["limits"]["upstream-idle-timeout"]["value"] == 9000
        ),
        20,
    )


def test_a_file_with_an_app_and_an_upstream_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "both.ini"
    file.write_text("[uwsgi]\nmodule = app\nupstream = uwsgi://10.0.0.2:3031\n")
    checked = subprocess.run(
        [EMPEROR, "check", file], capture_output=True, text=True, timeout=20, check=False
    )
    assert checked.returncode != 0
    assert f"{file}:3: upstream: excludes module: a vassal has an app of its own or upstreams" in (
        checked.stdout + checked.stderr
    )
