"""sd_notify against a real datagram socket."""

import os
import socket
from pathlib import Path

import pytest

from emperor.notify import Notify


@pytest.mark.parametrize("abstract", [False, True])
def test_messages(tmp_path: Path, abstract: bool) -> None:
    name = f"emperor-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(f"\0{name}" if abstract else str(tmp_path / "n"))
        peer.settimeout(5)
        environ = {"NOTIFY_SOCKET": f"@{name}" if abstract else str(tmp_path / "n")}
        notify = Notify(environ)
        assert environ == {}, "no process of ours may speak in our name"
        notify.ready("3 of 4 vassals ready")
        assert peer.recv(1000) == b"READY=1\nSTATUS=3 of 4 vassals ready"
        notify.reloading()
        assert peer.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        notify.stopping()
        assert peer.recv(1000).startswith(b"STOPPING=1")
        notify.status("x")
        assert peer.recv(1000) == b"STATUS=x"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
        ({}, None),
    ],
)
def test_the_watchdog_s_time_is_the_one_meant_for_this_process(
    variables: dict[str, str], expected: float | None
) -> None:
    assert Notify(variables).watchdog_s == expected
    assert variables == {}, "no process of ours may ping in our name"


def test_nobody_to_tell_and_nobody_who_reads(tmp_path: Path) -> None:
    Notify({}).ready("x")
    Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(tmp_path / "n"))
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "n")})
        for _ in range(10_000):
            notify.status("x" * 100)
