"""Two tenants with two users under one emperor: what is one's own stays out of the other's reach, and names in a
tenant's file lead nowhere that the tenant could not go itself. Two users are needed, so all of it is for root."""

import json
import os
import pwd
import re
import stat
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

THIEF, VICTIM = 61001, 61002
DEADLINE_S = 10.0

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="two users are needed, and only root can start both"
)

PROBER = """
import json, os, signal, socket
from urllib.parse import unquote


def tried(kind, target):
    try:
        if kind == "signal":
            os.kill(target, 0)
        elif kind == "connect":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(target)
        elif kind == "list":
            os.listdir(target)
        elif kind == "unlink":
            os.unlink(target)
        elif kind == "bind":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(target)
        elif kind == "port":
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", target))
        else:
            os.close(os.open(target, os.O_RDONLY if kind == "read" else os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    except OSError as error:
        return type(error).__name__
    return "done"


def application(environ, start_response):
    start_response("200 OK", [])
    asked = json.loads(unquote(environ["QUERY_STRING"]))
    answer = {"ids": [os.getresuid(), os.getresgid(), os.getgroups()]}
    answer["tried"] = [tried(kind, target) for kind, target in asked]
    return [json.dumps(answer).encode()]
"""


def home(fleet: Fleet, name: str, uid: int) -> Path:
    made = fleet.root / name
    made.mkdir()
    made.chmod(0o755)
    os.chown(made, uid, uid)
    return made


def owned(path: Path, text: str, uid: int) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    os.chown(path, uid, uid)
    return path


def test_a_tenant_reaches_nothing_of_another_or_of_the_emperors(fleet: Fleet) -> None:
    """Neither files, sockets, processes, their memory and descriptors, nor the name on which the other is served."""
    homes = {uid: home(fleet, name, uid) for name, uid in (("one", THIEF), ("two", VICTIM))}
    secret = owned(homes[VICTIM] / "secret", "kept", VICTIM)
    log = homes[VICTIM] / "access.log"
    fleet.app("thief", PROBER, uid=THIEF, gid=THIEF, chdir=homes[THIEF])
    fleet.app(
        "victim", PROBER, uid=VICTIM, gid=VICTIM, chdir=homes[VICTIM], access_log=log, domain="victim.example.com",
        logto=homes[VICTIM] / "out.log", pidfile=homes[VICTIM] / "pid",
    )  # fmt: skip
    fleet.start()
    assert fleet.get("victim", "/?%5B%5D").status == 200
    wait_for(lambda: log.exists() and log.read_text(), DEADLINE_S, fleet.log)
    for written in (log, homes[VICTIM] / "pid"):
        assert written.stat().st_uid == VICTIM, "a tenant's file is the tenant's"

    pids = fleet.pids()
    sockets = [path for path in fleet.run_dir.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    others = [str(path) for path in sockets if path.stat().st_uid != THIEF]
    own = [str(path) for path in sockets if path.stat().st_uid == THIEF]
    assert len(others) >= 4 and own, sockets
    attacks: list[tuple[str, str | int]] = [("connect", path) for path in others]
    attacks += [("unlink", path) for path in [*others, *own]] + [("bind", path) for path in others]
    attacks += [("bind", str(fleet.run_dir / "mine")), ("port", 80)]
    attacks += [
        ("read", str(path)) for path in fleet.run_dir.rglob("*") if path.is_file() and path.name != "places"
    ]
    for role, pid in pids.items():
        if "thief" in role:
            continue
        attacks.append(("signal", pid))
        attacks += [("read", f"/proc/{pid}/{what}") for what in ("mem", "environ", "maps")]
        attacks.append(("list", f"/proc/{pid}/fd"))
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if "memfd:" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                attacks.append(("read", f"/proc/{pid}/fd/{fd}"))
    attacks += [("read", str(secret)), ("write", str(secret)), ("write", str(log)), ("unlink", str(log))]
    attacks += [("write", str(homes[VICTIM] / "new")), ("write", str(fleet.directory / "mine.ini"))]
    answers: list[str] = []
    for at in range(0, len(attacks), 40):  # a request line has its limit
        got = fleet.get("thief", "/?" + quote(json.dumps(attacks[at : at + 40]), safe=""))
        told = json.loads(got.body)
        answers += told["tried"]
        assert told["ids"] == [[THIEF] * 3, [THIEF] * 3, []]
    done = [attack for attack, answer in zip(attacks, answers, strict=True) if answer == "done"]
    assert not done, done
    assert len(answers) == len(attacks)
    assert fleet.pids() == pids
    assert secret.read_text() == "kept"

    fleet.app("grabber", PROBER, uid=THIEF, gid=THIEF, domain="victim.example.com")
    assert "victim" in fleet.wait_state("grabber", "REFUSED")["reason"]
    served = json.loads(fleet.get("victim", "/?%5B%5D").body)
    assert served["ids"][0] == [VICTIM] * 3


@pytest.mark.parametrize("way", ["symlink", "hard link", "path", "symlinked directory"])
def test_names_in_a_tenants_file_lead_nowhere_else(fleet: Fleet, way: str) -> None:
    """`access-log`, `logto`, `pidfile` and `socket` of one tenant at a file of another and at one of root's."""
    mine, theirs = home(fleet, "one", THIEF), home(fleet, "two", VICTIM)
    owners = {"root": 0, "victim": VICTIM}
    secrets = {name: owned(theirs / f"{name}.txt", "kept", uid) for name, uid in owners.items()}

    def named(owner: str, key: str) -> Path:
        secret = secrets[owner]
        name = mine / f"{key}-{owner}"
        match way:
            case "symlink":
                name.symlink_to(secret)
            case "hard link":
                os.link(secret, name)
            case "path":
                return secret
            case "symlinked directory":
                name.symlink_to(theirs)
                return name / secret.name
        return name

    for owner in owners:
        keys = {
            key.replace("-", "_"): named(owner, key) for key in ("access-log", "logto", "pidfile", "socket")
        }
        fleet.vassal(f"thief-{owner}", wsgi_file=APPS / "hello.py", uid=THIEF, gid=THIEF, **keys)
    fleet.start()
    for owner in owners:
        assert fleet.get(f"thief-{owner}").status == 200
        for key, sign in (
            ("access-log", f"[thief-{owner}] access-log: "),
            ("pidfile", f"thief-{owner}: pidfile: "),
        ):
            wait_for(lambda sign=sign: sign in fleet.log(), DEADLINE_S, lambda: fleet.log())
            line = next(line for line in fleet.log().splitlines() if sign in line)
            assert "Permission denied" in line or "Too many levels of symbolic links" in line, (key, line)
        listener = wait_for(
            lambda owner=owner: next(
                (
                    each
                    for each in fleet.vassal_status(f"thief-{owner}")["listeners"]
                    if each["state"] == "failed"
                ),
                None,
            ),
            DEADLINE_S,
            fleet.log,
        )
        assert re.search(
            "Permission denied|something else than a socket|symbolic links", listener["reason"]
        ), listener
    assert fleet.stop() == 0
    for name, secret in secrets.items():
        assert secret.read_text() == "kept"
        assert secret.stat().st_uid == owners[name]
    assert sorted(path.name for path in theirs.iterdir()) == ["root.txt", "victim.txt"]


def tenants(fleet: Fleet, name: str, *lines: str) -> None:
    """A vassal's file that belongs to the thief, in one piece."""
    text = (
        f"[uwsgi]\nwsgi-file = {APPS / 'hello.py'}\nuid = {THIEF}\ngid = {THIEF}\n" + "\n".join(lines) + "\n"
    )
    made = owned(fleet.root / f"{name}.ini", text, THIEF)
    made.rename(fleet.directory / made.name)


def test_a_fifo_in_a_virtualenv_holds_nobody_up(fleet: Fleet) -> None:
    """Neither an emperor that serves nor one that starts waits for what a tenant put in the place of a file."""
    mine = home(fleet, "one", THIEF)
    virtualenv = mine / "venv"
    (virtualenv / "bin").mkdir(parents=True)
    (virtualenv / "bin/python").symlink_to(os.path.realpath(sys.executable))
    os.mkfifo(virtualenv / "pyvenv.cfg")
    tenants(fleet, "thief", f"virtualenv = {virtualenv}")
    fleet.vassal("other", wsgi_file=APPS / "hello.py", uid=VICTIM, gid=VICTIM)
    fleet.start(ready=False)
    fleet.wait_ready("other")
    assert "pyvenv.cfg is not a regular file" in fleet.wait_state("thief", "REFUSED")["reason"]
    assert "pyvenv.cfg is not a regular file" in fleet.check().stdout
    (fleet.directory / "thief.ini").touch()
    fleet.vassal("later", wsgi_file=APPS / "hello.py", uid=VICTIM, gid=VICTIM)
    fleet.wait_ready("later")


@pytest.mark.parametrize("line", ["x = @(/proc/kmsg)\nenv = A=%(x)", "if-exists = /proc/kmsg\nendif ="])
def test_what_root_would_wait_for_is_not_looked_at_for_a_tenant(fleet: Fleet, line: str) -> None:
    """The kernel's log, in a tenant's file: the neighbours that came with it are served, and so are later ones."""
    tenants(fleet, "a-thief", line)
    for name in ("other", "z-last"):
        fleet.vassal(name, wsgi_file=APPS / "hello.py", uid=VICTIM, gid=VICTIM)
    fleet.start(ready=False)
    fleet.wait_ready("other", "z-last")
    if "@" in line:
        assert "/proc/kmsg cannot be read as user" in fleet.wait_state("a-thief", "REFUSED")["reason"]
    fleet.vassal("later", wsgi_file=APPS / "hello.py", uid=VICTIM, gid=VICTIM)
    fleet.wait_ready("later")
    assert "a fault of the emperor's" not in fleet.log()


def user_of(pid: int) -> int:
    return int(re.findall(r"^Uid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[0])


def test_no_vassal_runs_as_the_routers_user(fleet: Fleet) -> None:
    """It could stop the router for all: by the name that the router runs as, by its number, and after a change of either
    while a router of the emperor before goes on."""
    nobody = pwd.getpwnam("nobody").pw_uid
    fleet.vassal("named", wsgi_file=APPS / "hello.py", uid="nobody")
    fleet.vassal("numbered", wsgi_file=APPS / "hello.py", uid=nobody, gid=VICTIM)
    fleet.vassal("other", wsgi_file=APPS / "hello.py", uid=VICTIM, gid=VICTIM)
    fleet.start(ready=False)
    fleet.wait_ready("other")
    router = fleet.pid("router")
    assert user_of(router) == nobody
    for name in ("named", "numbered"):
        reason = fleet.wait_state(name, "REFUSED")["reason"]
        assert f"uid: {nobody} is the user that the router runs as" in reason and "--router-user" in reason
    fleet.kill_emperor()
    fleet.vassal("thief", wsgi_file=APPS / "hello.py", uid=THIEF, gid=THIEF)
    fleet.start("--router-user", str(THIEF), ready=False)
    for name in ("thief", "named"):
        assert "is the user that the router runs as" in fleet.wait_state(name, "REFUSED")["reason"]
    assert fleet.pid("router") == router
    assert fleet.stop() == 0
    fleet.start("--router-user", str(THIEF), ready=False)
    fleet.wait_ready("named", "numbered", "other")
    assert user_of(fleet.pid("router")) == THIEF
    assert fleet.get("named").status == 200
    assert "is the user that the router runs as" in fleet.wait_state("thief", "REFUSED")["reason"]


def test_a_router_user_that_there_is_not_is_named_at_the_start(fleet: Fleet) -> None:
    emperor = fleet.start("--router-user", "no-such-user", ready=False)
    assert emperor.wait(DEADLINE_S) != 0
    assert "router-user: there is no user 'no-such-user' on this machine" in fleet.log()
