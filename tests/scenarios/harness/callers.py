"""Who is served by whom: clients of the app `apps/who.py`, one after another, many at once, and held in the app."""

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .fleet import APPS, Fleet
from .http import fetch
from .orphans import Orphans
from .waiting import wait_for

UWSGI = Path(sys.executable).with_name("uwsgi")

LONG_S = 40.0
"""A safety net, and no promise."""


@dataclass(frozen=True)
class Served:
    """What one answer says: who, which worker of it, its pid; and the cookies that came with it."""

    who: str
    worker: int
    pid: int
    cookies: tuple[str, ...] = ()


@dataclass
class Caller:
    """A client of the vassal `name`, which keeps the one cookie that it is given. `source` is its address; `right` are the
    answers that it takes."""

    fleet: Fleet
    name: str
    fields: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    cookie: str = ""
    right: tuple[int, ...] = (200,)

    def ask(self, path: str = "/") -> Served:
        """One request, on a connection of its own."""
        fields = {**self.fields, **({"Cookie": self.cookie} if self.cookie else {})}
        host = f"{self.name}.localhost"
        answer = fetch(self.fleet.http_port, host, path, fields=fields, timeout_s=LONG_S, source=self.source)
        assert answer.status in self.right, (answer, self.fleet.summary(), self.fleet.log()[-2000:])
        if answer.cookies:
            self.cookie = answer.cookies[0].partition(";")[0]
        who, worker, pid = answer.text.split()
        return Served(who, int(worker), int(pid), answer.cookies)


def serve_who(orphans: Orphans, root: Path, port: int, name: str, marks: Path) -> "subprocess.Popen[bytes]":
    """The app by a real uWSGI, which says that it is `name`."""
    argv: list[object] = [UWSGI, "--socket", f"127.0.0.1:{port}", "--master", "--threads", "8", "--need-app"]
    argv += ["--wsgi-file", APPS / "who.py", "--env", f"WHO={name}", "--env", f"MARKS={marks}"]
    with (root / "uwsgi.log").open("ab") as log:
        started: subprocess.Popen[bytes] = orphans.popen(argv, stdout=log, stderr=log, start_new_session=True)
    return started


def at_once(callers: int, requests: int, ask: Callable[[int], Served]) -> list[Served]:
    """What `callers` get who ask `requests` times each, one after another; `ask` takes the number of the caller."""
    with ThreadPoolExecutor(callers) as pool:
        turns = [
            pool.submit(lambda number=number: [ask(number) for _ in range(requests)])
            for number in range(callers)
        ]  # type: ignore[misc]
        return [each for turn in turns for each in turn.result(LONG_S)]


class Holding:
    """Requests that are under way in an app until they are let go, begun one after another."""

    def __init__(self, marks: Path, running: Callable[[], int]) -> None:
        """`running`: how many are under way, as the router counts."""
        self._mark = marks / "HOLD"
        self._mark.touch()
        self._running = running
        self._threads: list[threading.Thread] = []
        self._served: list[Served] = []

    def __enter__(self) -> "Holding":
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def hold(self, caller: Caller) -> None:
        """Begin one more, and wait until it is under way."""
        self.hold_all([caller])

    def hold_all(self, callers: Sequence[Caller]) -> None:
        """Begin one more of each at once, and wait until all are under way."""
        before = self._running()
        for caller in callers:
            thread = threading.Thread(target=lambda caller=caller: self._served.append(caller.ask("/hold")))
            thread.start()
            self._threads.append(thread)
        wait_for(lambda: self._running() == before + len(callers), LONG_S)

    def let_go(self) -> list[Served]:
        """End them all. Returns who has had them, once all are answered."""
        self._mark.unlink(missing_ok=True)
        for thread in self._threads:
            thread.join(LONG_S)
        assert len(self._served) == len(self._threads)
        return self._served
