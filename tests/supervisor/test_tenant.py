"""Acting as a tenant: with real processes, real uids and real paths. Who is not root acts as himself only."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from emperor.supervisor import process, tenant
from emperor.supervisor.children import Children
from emperor.supervisor.loop import Loop
from emperor.supervisor.tenant import (
    Append,
    BindTcp,
    BindUnix,
    Outcome,
    Read,
    Remove,
    Rename,
    Tenant,
    Tenants,
    UnlinkSocket,
    Write,
    act,
)

from .turning import Told, turn_until

ROOT = os.geteuid() == 0
ONE, OTHER = (Tenant(61001, 61001), Tenant(61002, 61002)) if ROOT else (Tenant(), Tenant())

as_root = pytest.mark.skipif(not ROOT, reason="two users are needed, and only root can be both")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of the first tenant's, below directories that everybody may pass."""
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.geteuid() and str(above) != "/":
            above.chmod(above.stat().st_mode | 0o111)
    made = tmp_path / "one"
    made.mkdir(0o700)
    own(made)
    return made


def own(path: Path, who: Tenant = ONE) -> Path:
    if who.uid is not None:
        os.chown(path, who.uid, who.uid, follow_symlinks=False)
    return path


def one(step: tenant.Step, who: Tenant = ONE) -> Outcome:
    (outcome,) = act(who, [step])
    return outcome


def test_a_log_file_is_made_and_appended_to_as_the_tenant(home: Path) -> None:
    log = home / "app.log"
    for text in (b"one\n", b"two\n"):
        outcome = one(Append(str(log), 0o640))
        assert outcome.ok, outcome
        os.write(outcome.fd, text)
        os.close(outcome.fd)
    status = log.stat()
    assert log.read_bytes() == b"one\ntwo\n"
    assert (status.st_dev, status.st_ino) == (outcome.device, outcome.inode)
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_uid == (os.geteuid() if ONE.uid is None else ONE.uid)


def test_the_steps_of_a_list_are_carried_out_in_order_whatever_becomes_of_each(home: Path) -> None:
    outcomes = act(
        ONE,
        [
            Write(str(home / "a"), "12\n"),
            Remove(str(home / "a"), "13\n"),
            Rename(str(home / "a"), str(home / "b")),
            Read(str(home / "a")),
            Read(str(home / "b")),
            Remove(str(home / "b"), "12\n"),
        ],
    )
    assert [each.ok for each in outcomes] == [True, False, True, False, True, True]
    assert outcomes[1].error.startswith(f"{home / 'a'} cannot be removed")
    assert outcomes[1].error.endswith(": it holds something else by now")
    assert outcomes[3].error.endswith(": No such file or directory")
    assert os.read(outcomes[4].fd, 9) == b"12\n"
    os.close(outcomes[4].fd)
    assert not list(home.iterdir())


@pytest.mark.parametrize("what", ["FIFO", "socket", "directory", "device"])
def test_what_is_no_regular_file_is_neither_opened_nor_waited_for(home: Path, what: str) -> None:
    path = home / "log"
    match what:
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "directory":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/full")
    own(path)
    for step in (Append(str(path)), Read(str(path))):
        outcome = one(step)
        assert f"it is a {what}, and only a regular file will do" in outcome.error


def test_a_pidfile_is_never_written_through_a_symlink(home: Path) -> None:
    (home / "mine").write_text("kept")
    own(home / "mine")
    (home / "pid").symlink_to("mine")
    assert not one(Write(str(home / "pid"), "1\n")).ok
    assert (home / "mine").read_text() == "kept"


@as_root
@pytest.mark.parametrize("way", ["symlink", "hard link", "path", "directory", "symlinked directory"])
def test_no_name_leads_to_what_is_somebody_elses(home: Path, tmp_path: Path, way: str) -> None:
    """What root or another tenant has stays unread, unwritten, unmoved and where it is."""
    theirs = tmp_path / "other"
    theirs.mkdir(0o755)
    secret = theirs / "secret"
    secret.write_text("kept")
    secret.chmod(0o600)
    own(theirs, OTHER), own(secret, OTHER)
    name = home / "name"
    match way:
        case "symlink":
            name.symlink_to(secret)
        case "hard link":
            os.link(secret, name)
        case "path":
            name = theirs / "secret"
        case "directory":
            name = theirs / "new"
        case "symlinked directory":
            (home / "d").symlink_to(theirs)
            name = home / "d" / "new"
    steps: list[tenant.Step] = [
        Append(str(name)),
        Write(str(name), "x"),
        Read(str(name)),
        Remove(str(name), "kept"),
    ]
    steps += [BindUnix(str(name)), Rename(str(name), str(theirs / "moved"))]
    outcomes = act(ONE, steps)
    assert not any(each.ok for each in outcomes), outcomes
    assert {each.code for each in outcomes} <= {1, 2, 13, 17, 18, 40}, outcomes
    assert secret.read_text() == "kept"
    assert sorted(each.name for each in theirs.iterdir()) == ["secret"]


@as_root
def test_the_process_is_the_tenant_for_good_and_has_no_other_group(home: Path) -> None:
    group_only = home.parent / "group"
    group_only.write_text("x")
    os.chown(group_only, 0, 0)
    group_only.chmod(0o660)
    assert one(Append(str(group_only))).error.endswith(" as uid 61001: Permission denied")
    assert (
        one(BindTcp("127.0.0.1", 81)).error
        == "127.0.0.1:81 cannot be listened on as uid 61001: Permission denied"
    )


def test_a_user_that_one_cannot_become_is_the_error_of_every_step(home: Path) -> None:
    nobody = Tenant(3999999999)
    outcomes = act(nobody, [Append(str(home / "a")), Append(str(home / "b"))])
    assert [each.ok for each in outcomes] == [False, False]
    assert "gid" in outcomes[0].error if ROOT else "uid" in outcomes[0].error


def test_sockets_are_bound_with_their_mode_and_unlinked_only_while_they_are_the_same(home: Path) -> None:
    path = home / "app.sock"
    made = one(BindUnix(str(path), 0o664))
    assert made.ok, made
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    if ROOT:
        assert path.stat().st_uid == ONE.uid
    listener = socket.socket(fileno=made.fd)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.accept()[0].close()
    again = one(BindUnix(str(path)))
    assert again.error.endswith(": another program listens there")
    listener.close()
    stale = one(BindUnix(str(path)))
    assert stale.ok, "a stale socket is replaced"
    assert not one(UnlinkSocket(str(path), made.device, made.inode + 1)).ok
    assert path.exists()
    assert one(UnlinkSocket(str(path), stale.device, stale.inode)).ok
    assert not path.exists()
    os.close(stale.fd)


def test_a_file_in_the_way_of_a_socket_stays(home: Path) -> None:
    (home / "app.sock").write_text("kept")
    own(home / "app.sock")
    assert "something else than a socket" in one(BindUnix(str(home / "app.sock"))).error
    assert (home / "app.sock").read_text() == "kept"


def test_abstract_names_and_ports() -> None:
    name = f"\0emperor-test-{os.getpid()}"
    outcomes = act(
        ONE, [BindUnix(name), BindUnix(name), BindTcp("127.0.0.1", 0), BindTcp("::1", 0), BindTcp("x", 1)]
    )
    assert [each.ok for each in outcomes][:3] == [True, False, True]
    assert outcomes[1].error.startswith(f"@{name[1:]} cannot be listened on")
    address = outcomes[2].address
    assert isinstance(address, tuple) and address[0] == "127.0.0.1" and address[1] > 0
    socket.create_connection(address, 5).close()
    assert outcomes[4].error.startswith("x:1 cannot be listened on")
    for each in outcomes:
        if each.fd >= 0:
            os.close(each.fd)


# In the emperor's loop


@pytest.fixture
def children(loop: Loop) -> Iterator[Children]:
    made = Children(loop, Told(), stranger_s=60.0)
    yield made
    made.close()


def test_the_loop_goes_on_and_every_answer_comes_once(home: Path, loop: Loop, children: Children) -> None:
    tenants = Tenants(loop, children)
    answers: list[tuple[int, Outcome]] = []
    for number in range(20):
        step = Write(str(home / "order"), f"{number}")
        tenants.ask(ONE, [step], lambda outcomes, number=number: answers.append((number, outcomes[0])))  # type: ignore[misc]
    turn_until(loop, lambda: len(answers) == 20, 30.0)
    assert [number for number, _ in answers] == list(range(20)), "a tenant's steps keep their order"
    assert all(outcome.ok for _, outcome in answers)
    assert (home / "order").read_text() == "19"
    turn_until(loop, lambda: not process.children())
    tenants.close()


def test_one_that_hangs_is_killed_at_its_deadline(
    home: Path, loop: Loop, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import time; time.sleep(600)"
    monkeypatch.setattr(tenant, "_ARGV", (tenant.sys.executable, "-I", "-S", "-c", code))
    tenants = Tenants(loop, children, deadline_s=0.3)
    answers: list[Outcome] = []
    tenants.ask(ONE, [Append(str(home / "log"))], answers.extend)
    turn_until(loop, lambda: answers)
    assert answers[0].error.endswith("no answer in 0.3 s: does its file system hang?")
    turn_until(loop, lambda: not process.children())
    assert act(ONE, [Append(str(home / "log"))], 0.3)[0].error == answers[0].error


def test_one_that_dies_is_an_error_of_its_steps(
    home: Path, loop: Loop, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "_ARGV", ("/bin/false",))
    answers: list[Outcome] = []
    Tenants(loop, children).ask(ONE, [Append(str(home / "a")), Append(str(home / "b"))], answers.extend)
    turn_until(loop, lambda: answers)
    assert [each.error.rpartition(": ")[2] for each in answers] == [
        "the process that should have done it died"
    ] * 2
    assert str(home / "b") in answers[1].error
    monkeypatch.setattr(tenant, "_ARGV", ("/nowhere",))
    answers.clear()
    Tenants(loop, children).ask(ONE, [Append(str(home / "a"))], answers.extend)
    turn_until(loop, lambda: answers)
    assert "cannot start what acts as a tenant: /nowhere: No such file" in answers[0].error
