"""Request smuggling, against the router alone and behind real nginx and haproxy that reuse their connections to it.

Each row of tests/wire/smuggling.py carries a marker in every target it names. The app writes down what it is asked, the
fronts write down what they asked for. No app may see a request that its front does not know of, and whoever comes next
through the same front, over the connections that a row may have poisoned, must get his own answer.
"""

import json
import os
import re
import string
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.wire.smuggling import ANSWER, ROWS, Row

from .harness import Connection, Fleet, Orphans, accepts, free_port, wait_for

NGINX, HAPROXY = "/usr/sbin/nginx", "/usr/sbin/haproxy"
QUIET_S = 0.3  # how long an attacker who gets no answer stays; nothing is asserted of it
VICTIMS = 4
AT_ONCE = 12

APP = """
    import hashlib, json, os

    LOG = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def application(environ, start_response):
        target = environ["REQUEST_URI"]
        os.write(LOG, (json.dumps(["begun", target]) + "\\n").encode())
        body = b"" if target.endswith("-ignore") else environ["wsgi.input"].read()
        os.write(LOG, (json.dumps(["read", target, body.decode("latin-1")]) + "\\n").encode())
        answer = target.encode("latin-1")
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]
"""


@dataclass
class Street:
    """The fleet, what its app has seen, and for each front its port and the file in which it says what it asked for."""

    fleet: Fleet
    seen: Path
    ports: dict[str, int]
    asked: dict[str, Path]

    def app_saw(self) -> list[list[str]]:
        return [json.loads(line) for line in self.seen.read_text().splitlines()] if self.seen.exists() else []


def nginx_config(fleet: Fleet, ports: dict[str, int]) -> str:
    root = fleet.root
    passing = {
        "nginx": "proxy_pass http://behind;",
        "nginx unbuffered": "proxy_request_buffering off; proxy_buffering off; proxy_pass http://behind;",
        "nginx uwsgi": f"include /etc/nginx/uwsgi_params; uwsgi_pass unix:{fleet.run_dir}/uwsgi.sock;",
        "nginx uwsgi unbuffered": "uwsgi_request_buffering off; uwsgi_buffering off; include /etc/nginx/uwsgi_params; "
        f"uwsgi_pass unix:{fleet.run_dir}/uwsgi.sock;",
    }
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {root}/t_{kind}; " for kind in kinds)
    servers = "".join(
        f"server {{ listen 127.0.0.1:{ports[name]}; access_log {root}/{name.replace(' ', '-')}.asked asked;\n"
        f"location / {{ {text} }} }}\n"
        for name, text in passing.items()
    )
    return (
        ("user root;\n" if os.getuid() == 0 else "")
        + f"daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;\n"
        "events { worker_connections 512; }\n"
        f"http {{ {temporary}\n"
        "log_format asked '$request';\n"
        "client_body_timeout 3s; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $http_host;\n"
        "proxy_next_upstream off; uwsgi_next_upstream off; ignore_invalid_headers off; underscores_in_headers on;\n"
        f"upstream behind {{ server 127.0.0.1:{fleet.http_port}; keepalive 2; }}\n{servers}}}\n"
    )


def haproxy_config(fleet: Fleet, port: int) -> str:
    return (
        "global\n  log stdout format raw local0\n  maxconn 512\n"
        "defaults\n  mode http\n  log global\n  retries 0\n  timeout connect 5s\n  timeout client 4s\n"
        "  timeout server 20s\n  http-reuse always\n"
        f"frontend front\n  bind 127.0.0.1:{port}\n  log-format '%HM %HU'\n  default_backend behind\n"
        f"backend behind\n  server one 127.0.0.1:{fleet.http_port} pool-max-conn 2\n"
    )


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    orphans = Orphans()
    orphans.start()
    fleet = Fleet(orphans)
    fronts: list[subprocess.Popen[bytes]] = []
    try:
        seen = fleet.root / "seen"
        fleet.app("echo", APP, env=f"SEEN={seen}", processes=2)
        fleet.vassal("other", wsgi_file=Path(__file__).parent / "harness" / "apps" / "hello.py")
        fleet.start("--body-timeout", "2")
        names = ("nginx", "nginx unbuffered", "nginx uwsgi", "nginx uwsgi unbuffered", "haproxy")
        ports = {name: free_port() for name in names}
        asked = {name: fleet.root / f"{name.replace(' ', '-')}.asked" for name in names}
        (fleet.root / "nginx.conf").write_text(nginx_config(fleet, ports))
        (fleet.root / "haproxy.cfg").write_text(haproxy_config(fleet, ports["haproxy"]))
        quiet = {"stdin": subprocess.DEVNULL, "start_new_session": True}
        argv = [NGINX, "-e", fleet.root / "nginx.log", "-c", fleet.root / "nginx.conf"]
        fronts.append(orphans.popen(argv, **quiet))
        with asked["haproxy"].open("wb") as out:
            argv = [HAPROXY, "-db", "-f", fleet.root / "haproxy.cfg"]
            fronts.append(orphans.popen(argv, stdout=out, stderr=subprocess.DEVNULL, **quiet))
        for port in ports.values():
            wait_for(lambda port=port: accepts(port), 10, lambda: (fleet.root / "nginx.log").read_text())
        yield Street(fleet, seen, {"direct": fleet.http_port, **ports}, asked)
    finally:
        for front in fronts:
            front.terminate()
            front.wait(10)
        fleet.close()
        orphans.close()


def receive(connection: Connection, wait_s: float) -> bytes:
    """What comes next, or nothing: the other side has closed, or was quiet for so long."""
    connection.sock.settimeout(wait_s)
    try:
        return connection.sock.recv(65536)
    except (TimeoutError, ConnectionError):
        return b""


def attack(port: int, row: Row, marker: bytes, answers_due: int = 0) -> bytes:
    """Sends the row, and returns what came back: at least so many answers, unless the other side closes before."""
    out = b""
    with Connection(port) as connection:
        for piece in row.pieces(marker):
            if piece == ANSWER:
                out += receive(connection, 15)
                continue
            try:
                connection.send(piece)
            except ConnectionError:
                break
        while len(statuses(out)) < answers_due and (more := receive(connection, 15)):
            out += more
        while more := receive(connection, QUIET_S):
            out += more
        return out


def statuses(raw: bytes) -> tuple[int, ...]:
    return tuple(int(found) for found in re.findall(rb"HTTP/1\.[01] ([2-9]\d\d) ", raw))


def marks(start: int) -> Iterator[tuple[Row, bytes]]:
    """Each row with a marker of two letters that nothing else in the module has."""
    letters = string.ascii_letters
    for number, row in enumerate(ROWS, start * len(ROWS)):
        first, second = divmod(number, len(letters))
        yield row, (letters[first] + letters[second]).encode()


def due(row: Row, marker: bytes) -> dict[str, str]:
    """Target → the body that an app must read, for every request that a row is allowed to be."""
    return {
        f"/{(marker + suffix).decode()}": body.replace(b"%M", marker).decode() for suffix, body in row.seen
    }


def test_alone_every_row_is_answered_and_seen_as_it_says(street: Street) -> None:
    rows = list(marks(0))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = list(pool.map(lambda pair: attack(street.ports["direct"], *pair, len(pair[0].statuses)), rows))
    wrong = []
    log = street.app_saw()
    for (row, marker), raw in zip(rows, said, strict=True):
        prefix = f"/{marker.decode()}"
        begun = [line[1] for line in log if line[0] == "begun" and line[1].startswith(prefix)]
        whole = {line[1]: line[2] for line in log if line[0] == "read" and line[1].startswith(prefix)}
        wanted = [prefix + suffix.decode() for suffix, _ in row.seen]
        bodies = due(row, marker)
        if statuses(raw) != row.statuses or begun != wanted:
            wrong.append(
                f"{row.kind}: {row.name}: {statuses(raw)}, wanted {row.statuses}; the app saw {begun}"
            )
        elif row.kind != "pause" and whole != bodies:
            wrong.append(f"{row.kind}: {row.name}: the app read {whole}, wanted {bodies}")
    assert not wrong, "\n".join(wrong)


FRONTS = ("nginx", "nginx unbuffered", "nginx uwsgi", "nginx uwsgi unbuffered", "haproxy")


@pytest.mark.parametrize("front", FRONTS)
def test_behind_a_front_nothing_is_smuggled(street: Street, front: str) -> None:
    port = street.ports[front]
    rows = list(marks(1 + FRONTS.index(front)))
    stolen: list[str] = []

    def row_and_victims(pair: tuple[Row, bytes]) -> None:
        row, marker = pair
        attack(port, row, marker)
        for number in range(VICTIMS):
            target = f"/{marker.decode()}-victim{number}"
            with Connection(port) as connection:
                answer = connection.request("echo.localhost", target)
            if (answer.status, answer.text) != (200, target):
                stolen.append(
                    f"behind {row.kind}: {row.name}: {target} got {answer.status} {answer.body[:80]!r}"
                )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(row_and_victims, rows))
    assert not stolen, "\n".join(stolen)

    ours = {marker.decode() for _, marker in rows}
    seen = Counter(
        target
        for what, target, *_ in street.app_saw()
        if what == "begun" and (found := re.match(r"/([A-Za-z]{2})-", target)) and found[1] in ours
    )
    assert sum(seen.values()) >= VICTIMS * len(rows)

    # Whatever a front made of it: of what is one request for us, the body is the one that we would have read.
    bodies = {target: body for pair in rows for target, body in due(*pair).items() if pair[0].kind != "pause"}
    for what, target, *body in street.app_saw():
        if what == "read" and target in bodies:
            assert body == [bodies[target]], target

    def unknown() -> dict[str, int]:
        said = street.asked[front].read_text(errors="replace")
        asked = Counter(re.findall(r"/[A-Za-z]{2}-(?:a|behind|smuggled|ignore|victim\d)\b", said))
        return {target: count for target, count in seen.items() if asked[target] < count}

    # A front writes its line when the request is over, which may be after the attacker has gone.
    wait_for(lambda: not unknown(), 10, lambda: f"{front} did not ask for what the app saw: {unknown()}")


def test_what_the_fronts_say_is_compared_with_what_the_app_saw(street: Street) -> None:
    """Were the router to take a smuggled request, the app's log would show it: here it does, sent as what it is."""
    connection = Connection(street.ports["haproxy"])
    connection.request("echo.localhost", "/ZZ-smuggled")
    connection.close()
    assert ["begun", "/ZZ-smuggled"] in street.app_saw()
    wait_for(lambda: "/ZZ-smuggled" in street.asked["haproxy"].read_text(), 10, "the front's log")


def test_fronts_reuse_their_connections(street: Street) -> None:
    """Without reuse there is nothing to poison, and the rows prove nothing."""

    def remote_ports(port: int) -> int:
        before = street.fleet.status()["routers"][0]
        with Connection(port) as connection:
            for number in range(20):
                connection.request("echo.localhost", f"/ZY-{number}")
        after = street.fleet.status()["routers"][0]
        return opened(after) - opened(before)

    def opened(router: dict[str, object]) -> int:
        found = router.get("accepted", router.get("connections_opened"))
        assert isinstance(found, int), sorted(router)
        return found

    for front in ("nginx", "nginx unbuffered", "haproxy"):
        assert remote_ports(street.ports[front]) <= 3, front
