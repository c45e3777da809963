"""What systemd sees of the emperor, on a socket like systemd's: READY, WATCHDOG from the loop itself, RELOADING, STOPPING."""

import os
import signal
import socket
import time
from collections.abc import Callable

from .harness import Fleet, wait_for
from .harness.fleet import APPS


def test_ready_watchdog_reloading_and_stopping(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(WATCHDOG_USEC="400000")
    notes: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        address = str(fleet.root / "notify")
        peer.bind(address)
        peer.setblocking(False)
        fleet.environment["NOTIFY_SOCKET"] = address
        fleet.app(
            "a",
            """
            import os

            def application(environ, start_response):
                start_response("200 OK", [])
                return [",".join(sorted(name for name in os.environ if "WATCHDOG" in name or "NOTIFY" in name)).encode()]
            """,
        )

        def read() -> list[str]:
            while True:
                try:
                    notes.append(peer.recv(4096).decode())
                except BlockingIOError:
                    return notes

        def pings() -> int:
            return sum(note == "WATCHDOG=1" for note in read())

        fleet.start()
        wait_for(lambda: any(note.startswith("READY=1") for note in read()), 5, notes)
        before = pings()
        wait_for(lambda: pings() >= before + 3, 10, notes)
        assert fleet.get("a").text == "", "nobody else may speak in the emperor's name"

        # A loop that does not turn sends nothing, whatever else in the process might run.
        pid = fleet.pid("emperor")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: _stopped(pid), 5)
            before = pings()
            time.sleep(0.6)
            assert pings() == before
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: pings() > before, 5, notes)

        os.kill(pid, signal.SIGHUP)
        wait_for(lambda: any(note.startswith("RELOADING=1\nMONOTONIC_USEC=") for note in read()), 5, notes)
        wait_for(lambda: sum(note.startswith("READY=1") for note in read()) == 2, 15, notes)
        assert fleet.stop() == 0
        assert any(note.startswith("STOPPING=1") for note in read())


def _stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_the_unit_that_ships_says_what_the_emperor_needs() -> None:
    """Without these a kill of the emperor would be the end of every app, or a hang would stay unnoticed."""
    unit = (APPS.parents[3] / "ops/systemd/emperor.service").read_text()
    for line in (
        "Type=notify",
        "WatchdogSec=",
        "KillMode=process",
        "RuntimeDirectoryPreserve=yes",
        "Restart=always",
        "NotifyAccess=main",
    ):
        assert f"\n{line}" in unit
