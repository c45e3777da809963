"""Listeners of a vassal's own, from its file to a client: opened as its user, kept over reloads and deaths, removed."""

import json
import os
import pwd
import signal
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emperor.protocol import packet

from .harness import Fleet, free_port, wait_for
from .harness.fleet import APPS

DAEMON = pwd.getpwnam("daemon")
root_only = pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")

CGI = APPS / "cgi.py"


@pytest.fixture
def place(fleet: Fleet) -> Path:
    """A directory in which the tenant may make sockets."""
    directory = fleet.root / "its"
    directory.mkdir()
    if os.getuid() == 0:
        os.chown(directory, DAEMON.pw_uid, DAEMON.pw_gid)
    return directory


TENANT: dict[str, object] = {"uid": "daemon", "gid": str(DAEMON.pw_gid)} if os.getuid() == 0 else {}


def asked(address: str | int, **variables: str) -> dict[str, Any]:
    """What the app was told of one uwsgi request."""
    pairs = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_HOST": "nobody.test", **variables}
    body = exchanged(
        address, packet.encode((key.encode(), value.encode()) for key, value in pairs.items())
    ).partition(b"\r\n\r\n")[2]
    said: dict[str, Any] = json.loads(body)
    return said


def exchanged(address: str | int, sends: bytes) -> bytes:
    with connected(address) as client:
        client.sendall(sends)
        return all_of(client)


def connected(address: str | int) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(10)
    try:
        client.connect(address if isinstance(address, str) else ("127.0.0.1", address))
    except OSError:
        client.close()
        raise
    return client


def all_of(client: socket.socket) -> bytes:
    got = b""
    while piece := client.recv(65536):
        got += piece
    return got


GET = b"GET / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n"


def listeners(fleet: Fleet, name: str = "blog") -> dict[str, dict[str, Any]]:
    return {each["address"]: each for each in fleet.vassal_status(name).get("listeners", [])}


def wait_open(fleet: Fleet, *addresses: str, name: str = "blog") -> dict[str, dict[str, Any]]:
    """These and no others, open."""

    def look() -> dict[str, dict[str, Any]] | None:
        found = listeners(fleet, name)
        whole = set(found) == set(addresses) and all(each["state"] == "open" for each in found.values())
        return found if whole else None

    return wait_for(look, 10, lambda: (listeners(fleet, name), fleet.log()[-3000:])) or {}


def shown(fleet: Fleet) -> str:
    """What `emperor status` says, without its line breaks."""
    return " ".join(fleet.cli("status", "--run-dir", fleet.run_dir).stdout.split())


def wait_failed(fleet: Fleet, count: int) -> dict[str, dict[str, Any]]:
    """So many of blog's have failed."""

    def look() -> dict[str, dict[str, Any]] | None:
        found = listeners(fleet)
        return found if sum(each["state"] == "failed" for each in found.values()) == count else None

    return wait_for(look, 10, fleet.log) or {}


def test_every_kind_of_address_leads_to_the_vassal_whatever_the_host(fleet: Fleet, place: Path) -> None:
    port = free_port()
    fleet.vassal("other", wsgi_file=CGI, env="WHO=other", default="true")
    fleet.vassal(
        "blog", wsgi_file=CGI, env="WHO=blog", socket=[place / "app.sock", "@emperor-test", "127.0.0.1:0", "[::1]:0"],
        http_socket=[f"127.0.0.1:{port}"], chmod_socket=664, **TENANT,
    )  # fmt: skip
    fleet.start()
    path = f"unix:{place}/app.sock"
    found = wait_open(fleet, path, "@emperor-test", "127.0.0.1:0", "[::1]:0", f"127.0.0.1:{port}")
    chosen = int(found["127.0.0.1:0"]["bound"].rpartition(":")[2])
    assert chosen > 0
    for address in (str(place / "app.sock"), "\0emperor-test", chosen):
        assert asked(address, HTTP_HOST="other.localhost")["who"] == "blog"
    assert b'"who": "blog"' in exchanged(port, GET)
    assert fleet.get("nobody.test").text.count('"who": "other"') == 1
    status = (place / "app.sock").stat()
    assert stat.S_IMODE(status.st_mode) == 0o664
    assert status.st_uid == (DAEMON.pw_uid if TENANT else os.getuid())
    assert f"at 127.0.0.1:{chosen}" in shown(fleet)


def test_a_front_server_on_this_host_is_believed_unless_the_vassal_says_otherwise(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=CGI, socket="127.0.0.1:0")
    fleet.vassal("wary", wsgi_file=CGI, socket="127.0.0.1:0", uwsgi_trusted="unix")
    fleet.start()
    claims = {"HTTPS": "on", "REMOTE_USER": "ann", "REMOTE_ADDR": "192.0.2.1"}
    ports = {
        name: int(wait_open(fleet, "127.0.0.1:0", name=name)["127.0.0.1:0"]["bound"].rpartition(":")[2])
        for name in ("blog", "wary")
    }
    said = asked(ports["blog"], **claims)
    assert (said["scheme"], said["REMOTE_USER"], said["REMOTE_ADDR"]) == ("https", "ann", "192.0.2.1")
    said = asked(ports["wary"], **claims)
    assert (said["scheme"], said.get("REMOTE_USER"), said["REMOTE_ADDR"]) == ("http", None, "127.0.0.1")


def test_what_is_the_same_stays_open_over_reloads_and_loses_nobody(fleet: Fleet, place: Path) -> None:
    port = free_port()
    keys = {"wsgi_file": CGI, "socket": place / "app.sock", "http_socket": f"127.0.0.1:{port}", **TENANT}
    fleet.vassal("blog", **keys)
    fleet.start()
    wait_open(fleet, f"unix:{place}/app.sock", f"127.0.0.1:{port}")
    inode = (place / "app.sock").stat().st_ino
    lost: list[str] = []
    done = threading.Event()

    def clients() -> None:
        count = 0
        while not done.is_set() or count < 50:
            count += 1
            for address, ask in ((str(place / "app.sock"), asked), (port, lambda to: exchanged(to, GET))):
                try:
                    if not ask(address):
                        lost.append(f"{address}: no answer")
                except (OSError, ValueError) as error:
                    lost.append(f"{address}: {error!r}")

    thread = threading.Thread(target=clients)
    thread.start()
    for number in range(3):
        generation = fleet.vassal_status("blog")["generation"]
        fleet.vassal("blog", **keys, env=f"NUMBER={number}", chmod_socket=[660, 666][number % 2])
        wait_for(
            lambda before=generation: (
                (now := fleet.vassal_status("blog"))["generation"] > before and now["state"] == "READY"
            ),
            10,
            fleet.summary,
        )
    done.set()
    thread.join()
    assert lost == []
    assert (place / "app.sock").stat().st_ino == inode


def test_an_edit_opens_the_new_and_closes_the_old(fleet: Fleet, place: Path) -> None:
    old, new = place / "old.sock", place / "new.sock"
    fleet.vassal("blog", wsgi_file=CGI, socket=old, **TENANT)
    fleet.start()
    wait_open(fleet, f"unix:{old}")
    fleet.vassal("blog", wsgi_file=CGI, socket=new, chmod_socket=600, **TENANT)
    wait_open(fleet, f"unix:{new}")
    wait_for(lambda: not old.exists(), 5, "the old path to go")
    assert asked(str(new))["PATH_INFO"] == "/"
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    # The same path, spoken to in another way: the socket goes over.
    inode = new.stat().st_ino
    fleet.vassal("blog", wsgi_file=CGI, http_socket=new, chmod_socket=666, **TENANT)
    wait_for(lambda: b"200 OK" in exchanged(str(new), GET), 10, fleet.log)
    assert new.stat().st_ino == inode
    wait_for(lambda: stat.S_IMODE(new.stat().st_mode) == 0o666, 5, "the mode")
    (fleet.directory / "blog.ini").unlink()
    wait_for(lambda: not new.exists(), 10, fleet.log)


def test_they_survive_the_death_of_the_router_and_of_the_emperor(fleet: Fleet, place: Path) -> None:
    port = free_port()
    keys = {"wsgi_file": CGI, "socket": place / "app.sock", "http_socket": f"127.0.0.1:{port}", **TENANT}
    fleet.vassal("blog", **keys)
    fleet.start()
    path = f"unix:{place}/app.sock"
    wait_open(fleet, path, f"127.0.0.1:{port}")
    inode = (place / "app.sock").stat().st_ino
    os.kill(fleet.pid("router"), signal.SIGKILL)
    assert asked(str(place / "app.sock"))["HTTP_HOST"] == "nobody.test"
    assert b"200 OK" in exchanged(port, GET)
    fleet.kill_emperor()
    assert asked(str(place / "app.sock"))["HTTP_HOST"] == "nobody.test"
    fleet.start()
    wait_open(fleet, path, f"127.0.0.1:{port}")
    assert b"200 OK" in exchanged(port, GET)
    assert (place / "app.sock").stat().st_ino == inode
    os.kill(fleet.pid("router"), signal.SIGKILL)
    assert asked(str(place / "app.sock"))["HTTP_HOST"] == "nobody.test"
    (fleet.directory / "blog.ini").unlink()
    wait_for(lambda: not (place / "app.sock").exists(), 10, fleet.log)
    with pytest.raises(ConnectionRefusedError):
        connected(port)


def test_what_has_gone_while_no_emperor_looked_is_closed(fleet: Fleet, place: Path) -> None:
    fleet.vassal("blog", wsgi_file=CGI, socket=place / "app.sock", **TENANT)
    fleet.start()
    wait_open(fleet, f"unix:{place}/app.sock")
    fleet.kill_emperor()
    (fleet.directory / "blog.ini").unlink()
    fleet.vassal("other", wsgi_file=CGI)
    fleet.start()
    wait_for(lambda: not (place / "app.sock").exists(), 10, fleet.log)


def test_a_stop_removes_the_paths(fleet: Fleet, place: Path) -> None:
    fleet.vassal("blog", wsgi_file=CGI, socket=place / "app.sock", **TENANT)
    fleet.start()
    wait_open(fleet, f"unix:{place}/app.sock")
    assert fleet.stop() == 0
    assert not (place / "app.sock").exists()


def test_what_is_taken_is_said_and_had_as_soon_as_it_is_free(fleet: Fleet, place: Path) -> None:
    with socket.socket() as taken, socket.socket(socket.AF_UNIX) as living:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        living.bind(str(place / "live.sock"))
        living.listen()
        (place / "live.sock").chmod(0o666)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(place / "stale.sock"))
        if TENANT:
            os.chown(place / "stale.sock", DAEMON.pw_uid, -1)
        paths = [place / "live.sock", place / "stale.sock"]
        fleet.vassal("blog", wsgi_file=CGI, http_socket=f"127.0.0.1:{port}", socket=paths, **TENANT)
        fleet.start()
        failed = wait_failed(fleet, 2)
        assert failed[f"unix:{place}/stale.sock"]["state"] == "open"
        assert "in use" in failed[f"127.0.0.1:{port}"]["reason"]
        assert "another program listens there" in failed[f"unix:{place}/live.sock"]["reason"]
        assert fleet.get("blog").status == 200
        assert f"127.0.0.1:{port}" in shown(fleet)
        connected(str(place / "live.sock")).close()
    wait_open(fleet, f"127.0.0.1:{port}", *(f"unix:{path}" for path in paths))
    assert b"200 OK" in exchanged(port, GET)


def test_two_vassals_with_one_address(fleet: Fleet, place: Path) -> None:
    for name in ("a", "b"):
        fleet.vassal(name, wsgi_file=CGI, env=f"WHO={name}", socket=place / "app.sock", **TENANT)
    fleet.start(ready=False)
    fleet.wait_state("a", "READY")
    said = fleet.wait_state("b", "REFUSED")["reason"]
    assert f"unix:{place}/app.sock is listened on for a.ini" in said
    (fleet.directory / "a.ini").unlink()
    fleet.wait_state("b", "READY")
    wait_open(fleet, f"unix:{place}/app.sock", name="b")
    assert asked(str(place / "app.sock"))["who"] == "b"


@root_only
def test_who_cannot_have_an_address_locks_nobody_out_of_it(fleet: Fleet, place: Path) -> None:
    """Of two users the one who can bind it has it; of two who can, the first, and the other when it is free."""
    place.chmod(0o700)
    port = f"127.0.0.1:{free_port()}"
    thief = {"uid": 61001, "gid": 61001, "socket": [place / "app.sock", port]}
    fleet.vassal("a-thief", wsgi_file=CGI, env="WHO=thief", **thief)
    fleet.start(ready=False)

    def opened(name: str, address: str) -> bool:
        return bool(listeners(fleet, name).get(address, {}).get("state") == "open")

    wait_for(lambda: opened("a-thief", port), 10, fleet.log)
    fleet.vassal("blog", wsgi_file=CGI, env="WHO=blog", socket=[place / "app.sock", port], **TENANT)
    fleet.wait_ready("blog")
    wait_for(lambda: opened("blog", f"unix:{place}/app.sock"), 10, fleet.log)
    assert asked(str(place / "app.sock"))["who"] == "blog"
    assert {"READY"} == {fleet.vassal_status(name)["state"] for name in ("a-thief", "blog")}
    wait_for(lambda: "in use" in listeners(fleet)[port]["reason"], 10, fleet.log)
    (fleet.directory / "a-thief.ini").unlink()
    wait_open(fleet, port, f"unix:{place}/app.sock")
    assert asked(int(port.rpartition(":")[2]))["who"] == "blog"


@root_only
def test_a_tenant_gets_what_its_user_may_have(fleet: Fleet) -> None:
    forbidden = fleet.root / "forbidden"
    forbidden.mkdir(mode=0o755)
    fleet.vassal("blog", wsgi_file=CGI, socket=forbidden / "app.sock", **TENANT)
    fleet.vassal("low", wsgi_file=CGI, http_socket=":80", **TENANT)
    fleet.start(ready=False)
    reason = wait_for(
        lambda: listeners(fleet).get(f"unix:{forbidden}/app.sock", {}).get("reason"), 10, fleet.log
    )
    assert f"as uid {DAEMON.pw_uid}: Permission denied" in reason
    said = fleet.wait_state("low", "REFUSED")["reason"]
    assert "low.ini:" in said and "a port below 1024" in said


@pytest.fixture
def make_certificate(place: Path) -> Callable[[str], None]:
    def make(name: str) -> None:
        subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} "
            f"-addext subjectAltName=DNS:{name} -keyout {place}/app.key -out {place}/app.crt".split(),
            check=True,
            capture_output=True,
        )
        if TENANT:
            for each in ("app.key", "app.crt"):
                os.chown(place / each, DAEMON.pw_uid, DAEMON.pw_gid)

    return make


def secured(place: Path, port: int, name: str, sends: bytes = GET) -> bytes:
    context = ssl.create_default_context(cafile=str(place / "app.crt"))
    with connected(port) as plain, context.wrap_socket(plain, server_hostname=name) as client:
        client.sendall(sends)
        return all_of(client)


def test_https_and_a_renewed_certificate(
    fleet: Fleet, place: Path, make_certificate: Callable[[str], None]
) -> None:
    make_certificate("one.test")
    port, uwsgi_port = free_port(), free_port()
    keys: dict[str, object] = {
        "wsgi_file": CGI,
        "https_socket": f"127.0.0.1:{port},{place}/app.crt,{place}/app.key,HIGH",
        "suwsgi_socket": f"127.0.0.1:{uwsgi_port},{place}/app.crt,{place}/app.key",
        **TENANT,
    }
    fleet.vassal("blog", **keys)
    fleet.start()
    wait_open(fleet, f"127.0.0.1:{port}", f"127.0.0.1:{uwsgi_port}")
    assert b'"scheme": "https"' in secured(place, port, "one.test")
    plain = packet.encode([(b"REQUEST_METHOD", b"GET"), (b"PATH_INFO", b"/by-uwsgi")])
    assert b"/by-uwsgi" in secured(place, uwsgi_port, "one.test", plain)
    os.kill(fleet.pid("router"), signal.SIGKILL)
    assert b'"scheme": "https"' in secured(place, port, "one.test")
    wait_for(lambda: fleet.status()["routers"][0]["state"] == "running", 10, fleet.log)
    assert fleet.cli("upgrade", "--run-dir", fleet.run_dir, "--router-only").returncode == 0
    assert b'"scheme": "https"' in secured(place, port, "one.test")
    fleet.kill_emperor()
    make_certificate("two.test")
    fleet.start()
    fleet.cli("reload", "--run-dir", fleet.run_dir, "blog")

    def renewed() -> bool:
        try:
            return b'"scheme": "https"' in secured(place, port, "two.test")
        except ssl.SSLError:
            return False

    wait_for(renewed, 10, fleet.log)


def test_a_certificate_that_cannot_be_used_is_named(
    fleet: Fleet, place: Path, make_certificate: Callable[[str], None]
) -> None:
    make_certificate("one.test")
    os.chmod(place / "app.key", 0o600)
    missing = f"127.0.0.1:{free_port()}"
    empty = f"127.0.0.1:{free_port()}"
    (place / "empty.pem").write_text("")
    other = f"127.0.0.1:{free_port()}"
    subprocess.run(
        f"openssl genpkey -algorithm ed25519 -out {place}/other.key".split(), check=True, capture_output=True
    )
    (place / "other.key").chmod(0o644)
    values = [f"{missing},{place}/app.crt,{place}/nothing.key", f"{empty},{place}/empty.pem,{place}/app.key"]
    values.append(f"{other},{place}/app.crt,{place}/other.key")
    fleet.vassal("blog", wsgi_file=CGI, https_socket=values, **TENANT)
    fleet.start()
    found = wait_failed(fleet, 3)
    assert "the certificate cannot be used" in found[other]["reason"]
    assert f"{place}/nothing.key cannot be read" in found[missing]["reason"]
    assert "BEGIN CERTIFICATE" in found[empty]["reason"]
    assert fleet.get("blog").status == 200
